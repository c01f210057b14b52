"""Processes: names that cannot be mistaken, and what /proc says."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from podd.linux import process
from podd.linux.syscalls import CloneFlag, set_process_name, unshare


@pytest.fixture
def child() -> Iterator[int]:
    """A process that waits, under a name made to confuse."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        set_process_name("a) R 1 (b")
        os.write(tell, b".")
        signal.pause()
    os.close(tell)
    os.read(told, 1)
    os.close(told)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture
def gone() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_start_time_is_in_ticks_since_boot(child: int) -> None:
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - process.starttime_ticks(child) / os.sysconf("SC_CLK_TCK")
    assert -0.1 < age_s < 10


def test_a_number_that_is_no_process_s_opens_none(gone: int) -> None:
    stay, numbers = threading.Event(), list[int]()
    begun = threading.Event()

    def thread() -> None:
        numbers.append(threading.get_native_id())
        begun.set()
        stay.wait()

    runs = threading.Thread(target=thread)
    runs.start()
    begun.wait()
    try:
        for number in (*numbers, gone):
            with pytest.raises(ProcessLookupError):
                process.pidfd_of(number)
    finally:
        stay.set()
        runs.join()


def test_identity_opens_that_process_and_no_other(child: int) -> None:
    identity = process.identity(child)
    assert (identity.pid, len(identity.boot_id)) == (child, 36)
    fd = process.open_pidfd(identity)
    signal.pidfd_send_signal(fd, 0)
    os.close(fd)
    before = os.listdir("/proc/self/fd")
    for other in (
        identity._replace(starttime_ticks=identity.starttime_ticks - 1),
        identity._replace(boot_id="00000000-0000-0000-0000-000000000000"),
    ):
        with pytest.raises(ProcessLookupError):
            process.open_pidfd(other)
    assert os.listdir("/proc/self/fd") == before


def test_identity_of_an_ended_process(child: int) -> None:
    identity = process.identity(child)
    pidfd = process.open_pidfd(identity)
    os.kill(child, signal.SIGSTOP)
    os.waitid(os.P_PID, child, os.WSTOPPED)
    os.close(pidfd)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    mine = process.identity(pid)
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        process.open_pidfd(mine)


@pytest.mark.parametrize("ask", [process.identity, process.namespaces, process.cgroups, process.status])
def test_what_is_gone_is_a_lookup_error(gone: int, ask: object) -> None:
    with pytest.raises(ProcessLookupError):
        ask(gone)  # type: ignore[operator]


def test_namespaces_are_inodes() -> None:
    found = process.namespaces(os.getpid())
    assert found["net"] == os.stat("/proc/self/ns/net").st_ino
    assert set(found) == {"net", "ipc", "uts", "pid", "mnt", "cgroup", "user"}


@pytest.mark.root
def test_namespaces_of_one_that_is_just_reaped_are_not_found() -> None:
    """In one round of some two thousand it goes between two steps of the kernel, which then denies access."""

    def look_until_it_is_gone() -> None:
        while True:
            process.namespaces(pid)

    for _ in range(4000):
        pid = os.posix_spawn("/bin/true", ["true"], {})
        reaper = threading.Thread(target=os.waitpid, args=(pid, 0))
        reaper.start()
        with pytest.raises(ProcessLookupError):
            look_until_it_is_gone()
        reaper.join()


def test_own_namespaces_are_those_of_the_thread_that_asks() -> None:
    found: list[dict[str, int]] = []

    def visit() -> None:
        unshare(CloneFlag.NET)
        found.append(process.own_namespaces())

    visitor = threading.Thread(target=visit)
    visitor.start()
    visitor.join()
    own = process.own_namespaces()
    assert own == process.namespaces(os.getpid())
    assert found[0]["net"] != own["net"]
    assert {**found[0], "net": own["net"]} == own


def test_cgroups_by_controllers() -> None:
    with open("/proc/self/cgroup") as file:
        lines = file.read().splitlines()
    assert process.cgroups(os.getpid()) == {line.split(":")[1]: line.split(":", 2)[2] for line in lines}


def test_command_line(child: int, gone: int) -> None:
    assert process.command_line(os.getpid()).startswith(sys.orig_argv[0])
    assert process.command_line(gone) == ""
    assert process.command_line(2).startswith("[") or process.command_line(2) == "" or os.getpid() < 100


def test_status(child: int) -> None:
    status = process.status(child)
    assert (status["Name"], status["PPid"]) == ("a) R 1 (b", str(os.getpid()))
