"""The program of the init of a shared pid namespace."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from podd.linux.pause import pause_program

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="there is no such program for this machine")


@pytest.fixture
def paused() -> Iterator[int]:
    program = pause_program("a-name-longer-than-it-may-be")
    assert program is not None
    executed, executing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.execve(program, ["argument"], {})
    os.close(program)
    os.close(executing)
    os.read(executed, 1)
    os.close(executed)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_it_waits_under_its_name(paused: int) -> None:
    def comm() -> str:
        return Path(f"/proc/{paused}/comm").read_text().strip()

    while comm() != "a-name-longer-t":  # it names itself in its first instructions
        os.sched_yield()
    os.kill(paused, signal.SIGSTOP)
    os.waitpid(paused, os.WUNTRACED)
    os.kill(paused, signal.SIGCONT)
    assert os.waitpid(paused, os.WNOHANG) == (0, 0), "it ended"
    assert Path(f"/proc/{paused}/cmdline").read_bytes() == b"argument\0"


def test_it_keeps_what_is_ignored(paused: int) -> None:
    ignored = int(Path(f"/proc/{paused}/status").read_text().split("SigIgn:")[1].split()[0], 16)
    assert ignored >> (signal.SIGCHLD - 1) & 1


def test_it_takes_three_pages(paused: int) -> None:
    assert int(Path(f"/proc/{paused}/smaps_rollup").read_text().split("Rss:")[1].split()[0]) <= 32


def test_nothing_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    program = pause_program("x")
    assert program is not None
    assert not os.get_inheritable(program)
    os.close(program)
    assert len(os.listdir("/proc/self/fd")) == before
