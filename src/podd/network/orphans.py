"""Plugins that an earlier podd has started and that outlive it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

WAIT_S = 10.0
POLL_MS = 1000


def see_out(sandbox: str) -> None:
    """Return when no plugin works on that sandbox any more. Blocks: for a worker thread.

    They may come to their end, for one that is killed may leave what it cannot find again; one that does not is killed.
    """
    deadline = time.monotonic() + WAIT_S
    while found := list(_found(sandbox)):  # one that has ended may have left another
        with ExitStack() as opened:
            for fd in found:
                opened.callback(os.close, fd)
            for fd in found:
                _wait(fd, deadline)


def _found(sandbox: str) -> Iterator[int]:
    """A pidfd of each: what a plugin starts, as the one that gives addresses, has its environment."""
    mark, own = f"CNI_CONTAINERID={sandbox}".encode(), os.stat("/proc/self/ns/mnt").st_ino
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it has ended
            if os.stat(f"/proc/{name}/ns/mnt").st_ino != own:  # in a container, and named by whoever is in there
                continue
            fd = os.pidfd_open(int(name))
            if _has(name, mark):  # and then the descriptor is of this one, not of who has its number next
                yield fd
            else:
                os.close(fd)


def _has(pid: str, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def _wait(pidfd: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll.poll(POLL_MS)
