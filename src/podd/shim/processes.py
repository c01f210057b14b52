"""Processes of a pod, as an attendant sees them: reaped by the keeper, who tells how they ended."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

from podd.linux import process
from podd.linux.cgroup import Group, Layout
from podd.shim.loop import Later


class Ended(NamedTuple):
    """How a process ended. code: 0..255, 128 + signal where a signal ended it; signal: 0 for none."""

    code: int
    signal: int
    at_ns: int  # CLOCK_REALTIME


class Child:
    """A process that the keeper reaps. `ended` is set with how it ended."""

    def __init__(self, pid: int, pidfd: int) -> None:
        """pidfd: owned; -1 where it has ended already."""
        self.pid = pid
        self.pidfd = pidfd
        self.ended: Later[Ended] = Later()

    def signal(self, number: int) -> None:
        """To one that has ended: nothing."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def end(self, ended: Ended) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self.ended.set(ended)


@contextlib.contextmanager
def entrance(group: Group) -> Iterator[tuple[int | None, list[int]]]:
    """How a child gets into a group: the directory that it is to be born in, if any, and files to write b"0" to."""
    fds: list[int] = []
    try:
        directory = group.open_directory()
        if directory is not None:
            fds.append(directory)
        entries = group.entry_fds(unified=directory is None)
        fds.extend(entries)
        yield directory, entries
    finally:
        for fd in fds:
            os.close(fd)


def cgroup_of(pid: int, layout: Layout, expected: str) -> str:
    """The group that pid is in, from its hierarchies' mount points: `expected`, or the first other one it is in."""
    wanted = {frozenset() if h.version == 2 else h.controllers for h in layout.hierarchies}
    for controllers, path in process.cgroups(pid).items():
        if frozenset(filter(None, controllers.split(","))) in wanted and path.strip("/") != expected:
            return path.strip("/")
    return expected


def descendants(pid: int) -> list[int]:
    """pidfds, owned by the caller, of the processes below pid that can be found. It must not be reaped meanwhile."""
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop()
        for child in children(parent):
            with contextlib.suppress(ProcessLookupError):
                pidfd = process.pidfd_of(child)
                if child in children(parent):  # else the number may mean somebody else by now
                    found.append(pidfd)
                    queue.append(child)
                else:
                    os.close(pidfd)
    return found


def children(pid: int) -> list[int]:
    """Those that have ended and were not reaped, too. Empty where the process is gone or the kernel does not tell.

    Source: proc_pid_task(5), children.
    """
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
            return [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
