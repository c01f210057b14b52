"""A process before its program, from outside: what it reports, and the word that lets it go. See `stage`."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from podd.errors import Unavailable
from podd.linux.script import FAILURE
from podd.shim import stage
from podd.shim.failure import doing
from podd.shim.loop import Loop
from podd.shim.program import NotRunnable
from podd.shim.stage import Staged

RELEASE = b"go"
_MAX_REPORT = 4096
_DONT_WAIT = int(socket.MSG_DONTWAIT)


class Passage(Protocol):
    """What tells of a held process that it has gone on to its program."""

    async def executed(self, command: str) -> int:
        """CLOCK_MONOTONIC in ns right before it did. Raises a podd.errors kind: why it did not, or was killed."""
        ...

    def fileno(self) -> int:
        """What is to be kept for a later attendant."""
        ...

    def close(self) -> None: ...


class Barrier(Protocol):
    """What holds a process before its program."""

    def release(self) -> None:
        """Let it go. To one that has gone or died: nothing."""
        ...

    def fileno(self) -> int:
        """As Passage.fileno."""
        ...

    def close(self) -> None: ...


class Reports:
    """What a process says on its way to its program. Owns the descriptor."""

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop = loop
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd)

    async def ready(self, staged: Staged) -> list[str]:
        """What was done without. Raises what failed as a podd.errors kind; Unavailable: it was killed."""
        return ready_notes(await self._receive(), staged)

    async def executed(self, command: str) -> int:
        """CLOCK_MONOTONIC in ns right before the execve(2) that succeeded. Raises as `ready`."""
        released_ns = released(await self._receive())
        must_have_executed(await self._receive(), command)
        return released_ns

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    async def _receive(self) -> bytes:
        """One message; b"" when the other end is closed."""
        await self._loop.ready(self._socket.fileno())
        try:
            return self._socket.recv(_MAX_REPORT, _DONT_WAIT)
        except ConnectionResetError:
            return b""


def ready_notes(message: bytes, staged: Staged) -> list[str]:
    """What a message that should be READY tells was done without. Raises as Reports.ready."""
    _must_be_alive(message)
    if len(message) == FAILURE.size and not message.startswith(stage.READY):
        subject, error, kind = staged.script.failed(message)
        with doing(subject, kind):
            raise error
    results = struct.unpack_from(f"={len(staged.refused)}q", message, len(stage.READY))
    return staged.notes + [note for note, result in zip(staged.refused, results, strict=True) if result < 0]


def released(message: bytes) -> int:
    """When, by a message that should be RELEASED. Raises Unavailable: it was killed."""
    _must_be_alive(message if message.endswith(stage.RELEASED) else b"")
    seconds, ns = struct.unpack_from("=qq", message)
    return int(seconds * 1_000_000_000 + ns)


def must_have_executed(message: bytes, command: str) -> None:
    """Raises NotRunnable, Denied: the message after RELEASED is no end of file but a Failure."""
    if message:
        _, error = FAILURE.unpack(message)
        with doing(f'command "{command}"', NotRunnable):
            raise OSError(-error, os.strerror(-error))


def _must_be_alive(message: bytes) -> None:
    if not message:
        raise Unavailable("container: its process was killed before it could start")


class Hold:
    """The end of a pipe that holds a child before its exec. When it is closed before the release, the child dies."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def release(self) -> None:
        """Let the child go. To one that has gone or died: nothing."""
        if self._fd >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._fd, RELEASE)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def start(begin: Callable[[int, int], Staged], *, holds: bool) -> tuple[Staged, int, int]:
    """Start a process; with it the descriptor of its reports, and that of its hold or -1, both owned by the caller.

    begin(sync, hold): as `stage.start_container`; hold is -1 unless holds.
    """
    reports, sync = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    waits_on, hold = os.pipe2(os.O_CLOEXEC) if holds else (-1, -1)
    with sync:
        try:
            staged = begin(sync.fileno(), waits_on)
        except BaseException:
            reports.close()
            if holds:
                os.close(hold)
            raise
        finally:
            if holds:
                os.close(waits_on)
    return staged, reports.detach(), hold
