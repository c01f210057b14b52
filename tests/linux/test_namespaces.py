"""Namespaces: pinned, joined, and forked into."""

from __future__ import annotations

import errno
import os
import signal
import socket
from pathlib import Path

import pytest

from podd.linux import namespaces
from podd.linux.syscalls import CloneFlag, setns, unshare
from staging import in_child

pytestmark = pytest.mark.root


def inode(name: str) -> int:
    return os.stat(f"/proc/self/ns/{name}").st_ino


def test_pin_outlives_its_process_and_can_be_joined(tmp_path: Path) -> None:
    target = str(tmp_path / "uts")
    own = inode("uts")

    def make() -> None:
        unshare(CloneFlag.UTS)
        socket.sethostname("pinned")
        assert namespaces.pin("uts", target) == inode("uts")

    def use() -> None:
        namespaces.join("uts", target)
        assert os.uname().nodename == "pinned"
        assert inode("uts") == os.stat(target).st_ino != own

    assert in_child(make) == 0
    assert in_child(use) == 0
    namespaces.unpin(target)
    assert not os.path.exists(target)
    namespaces.unpin(target)


def test_pin_does_not_take_a_file_that_exists(tmp_path: Path) -> None:
    (tmp_path / "net").write_text("precious")
    with pytest.raises(FileExistsError):
        namespaces.pin("net", str(tmp_path / "net"))
    assert (tmp_path / "net").read_text() == "precious"


def test_failed_pin_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        namespaces.pin("nonsense", str(tmp_path / "pin"))
    assert os.listdir(tmp_path) == []


def test_pin_that_was_only_half_made_is_removed(tmp_path: Path) -> None:
    (tmp_path / "net").touch()
    namespaces.unpin(str(tmp_path / "net"))
    assert os.listdir(tmp_path) == []


def test_join_refuses_another_type(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="setns"):
        namespaces.join("net", "/proc/self/ns/uts")


def test_child_of_a_new_pid_namespace_is_its_first_and_ours() -> None:
    told, tell = os.pipe()
    pid = namespaces.fork_in_new_pid_namespace()
    if pid == 0:
        os.write(tell, f"{os.getpid()} {os.getppid()}".encode())
        os._exit(3)
    os.close(tell)
    assert os.read(told, 100) == b"1 0"
    os.close(told)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def test_forks_choose_one_after_the_other_and_leave_the_caller_where_it_was() -> None:
    own = inode("pid")
    first = namespaces.fork_in_new_pid_namespace()
    if first == 0:
        signal.pause()
    pidfd = os.pidfd_open(first)
    try:
        member = namespaces.fork_in_pid_namespace(pidfd)
        if member == 0:
            os._exit(os.getpid())
        assert os.waitstatus_to_exitcode(os.waitpid(member, 0)[1]) == 2
        assert in_child(lambda: None) == 0
        assert inode("pid_for_children") == inode("pid") == own
    finally:
        os.close(pidfd)
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)


def test_fork_that_fails_leaves_the_caller_where_it_was() -> None:
    def fail() -> int:
        raise BlockingIOError(11, "no more processes")

    with pytest.raises(BlockingIOError):
        namespaces.fork_in_new_pid_namespace(fail)
    assert inode("pid_for_children") == inode("pid")


def test_flags() -> None:
    assert namespaces.flags(()) == 0
    assert namespaces.flags(("net", "uts")) == CloneFlag.NET | CloneFlag.UTS


def test_a_socket_is_opened_in_a_namespace_and_its_thread_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the kernel does not let it at first."""
    target = str(tmp_path / "net")
    pin_a_network(target)
    own, refusals = inode("net"), [2]

    def join(fd: int, flags: CloneFlag) -> None:
        if os.fstat(fd).st_ino == own and refusals[0]:
            refusals[0] -= 1
            raise OSError(errno.ENOMEM, "no memory")
        setns(fd, flags)

    monkeypatch.setattr(namespaces, "setns", join)
    opened = namespaces.open_socket(target, socket.AF_INET, socket.SOCK_STREAM)
    try:
        assert not os.get_blocking(opened)
        assert not os.get_inheritable(opened)
    finally:
        os.close(opened)
        namespaces.unpin(target)
    assert refusals == [0]
    assert os.stat("/proc/thread-self/ns/net").st_ino == own


def test_a_socket_that_cannot_be_leaves_the_thread_where_it_was(tmp_path: Path) -> None:
    target = str(tmp_path / "net")
    pin_a_network(target)
    own = inode("net")
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            namespaces.open_socket(target, socket.AF_INET, 77)
    finally:
        namespaces.unpin(target)
    assert os.stat("/proc/thread-self/ns/net").st_ino == own


def pin_a_network(target: str) -> None:
    def make() -> None:
        unshare(CloneFlag.NET)
        namespaces.pin("net", target)

    assert in_child(make) == 0
