"""System calls: that each does what its name says, and that a failure names it."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from podd.linux import syscalls
from podd.linux.syscalls import CapabilitySets, Prctl, Resolve


def child_status(work: Callable[[], object]) -> int:
    """Exit status of a fork that runs work; 99 when it raised."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(int(bool(work())))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_failure_is_the_plain_os_error_and_names_the_call() -> None:
    with pytest.raises(FileNotFoundError, match="openat2: No such file") as caught:
        syscalls.openat2(syscalls.AT_FDCWD, "/no/such/file", os.O_PATH, Resolve(0))
    assert caught.value.filename == "/no/such/file"
    assert caught.value.__notes__ == ["see openat2(2)"]


def test_failure_has_a_hint_where_there_is_one() -> None:
    with pytest.raises(OSError, match="openat2") as caught:
        syscalls.openat2(syscalls.AT_FDCWD, "/proc/self", os.O_PATH, Resolve.NO_SYMLINKS)
    assert caught.value.errno == errno.ELOOP
    assert caught.value.__notes__ == ["a symbolic link stands where none is allowed"]


def test_descriptors_are_close_on_exec() -> None:
    fd = syscalls.openat2(syscalls.AT_FDCWD, "/", os.O_PATH, Resolve(0))
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.parametrize("keep", [(), (0,), (0, 1, 2), (7, 3, 3), (2, 60)])
def test_close_all_but(keep: tuple[int, ...]) -> None:
    def work() -> bool:
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(3, 64):
            os.dup2(null, fd)
        syscalls.close_all_but(keep)
        kept = []
        for fd in range(80):
            try:
                os.fstat(fd)
                kept.append(fd)
            except OSError:
                pass
        return kept == sorted(set(keep))

    assert child_status(work) == 1


def test_process_name_is_cut_to_what_the_kernel_keeps() -> None:
    def work() -> bool:
        syscalls.set_process_name("0123456789abcdefgh")
        return Path("/proc/self/comm").read_text() == "0123456789abcde\n"

    assert child_status(work) == 1


def test_no_new_privs() -> None:
    def work() -> bool:
        syscalls.prctl(Prctl.SET_NO_NEW_PRIVS, 1)
        return "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()

    assert child_status(work) == 1


def test_prctl_failure_names_the_option() -> None:
    with pytest.raises(OSError, match=r"prctl\(CAPBSET_READ\): Invalid argument"):
        syscalls.prctl(Prctl.CAPBSET_READ, 1000)


def test_seccomp_filter() -> None:
    """Three instructions: whatever the call, answer EPERM to getppid and allow the rest."""
    number = {"x86_64": 110, "aarch64": 173}.get(os.uname().machine)
    if number is None:
        pytest.skip("the number of getppid is not known here for this machine")
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in ((0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000))
    )

    def work() -> bool:
        syscalls.prctl(Prctl.SET_NO_NEW_PRIVS, 1)
        syscalls.load_seccomp_filter(program)
        return os.getppid() == -1

    assert child_status(work) == 1


@pytest.mark.root
def test_capabilities_survive_the_round_trip() -> None:
    high_and_low = 1 << 40 | 1 << 5 | 1

    def work() -> bool:
        syscalls.capset(CapabilitySets(1, high_and_low, 1 << 5))
        return syscalls.capget() == CapabilitySets(1, high_and_low, 1 << 5)

    assert child_status(work) == 1


@pytest.mark.root
def test_pivot_root_needs_a_mount_of_its_own() -> None:
    def work() -> bool:
        syscalls.unshare(syscalls.CloneFlag.MNT)
        try:
            syscalls.pivot_root("/etc", "/etc")
        except OSError as exc:
            return exc.errno == errno.EBUSY and "same mount" in exc.__notes__[0]
        return False

    assert child_status(work) == 1
