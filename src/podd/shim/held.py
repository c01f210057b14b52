"""A child between fork and exec, from outside: what it reports, and the word that lets it go. See `stage`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from podd.errors import Internal, Unavailable
from podd.shim.loop import Loop
from podd.shim.wire import error_from

RELEASE = b"go"
_MAX_REPORT = 64 * 1024
_RECEIVE_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)


class Reports:
    """What a child says on its way to exec. Owns the descriptor."""

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop = loop
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd)

    async def ready(self) -> tuple[list[str], int]:
        """What was done without, and the terminal's master (owned by the caller) or -1.

        Raises what the child reports as a podd.errors kind; Unavailable: it was killed.
        """
        message, terminal = await self._report()
        if not message.get("ready"):
            raise Internal(f"container: an unexpected report: {message}")
        return list(message.get("notes", [])), terminal

    async def executed(self) -> int:
        """CLOCK_MONOTONIC in ns right before the execve(2) that succeeded. Raises as `ready`."""
        message, _ = await self._report()
        failure, _ = await self._receive()
        if failure:
            raise _error(json.loads(failure))
        return int(message.get("released_ns", 0))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    async def _report(self) -> tuple[dict[str, Any], int]:
        data, terminal = await self._receive()
        if not data:
            raise Unavailable("container: its process was killed before it could start")
        message = json.loads(data)
        if "error" in message:
            raise _error(message)
        return message, terminal

    async def _receive(self) -> tuple[bytes, int]:
        """One message and a descriptor or -1; b"" when the child's end is closed."""
        await self._loop.ready(self._socket.fileno())
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, _MAX_REPORT, 1, _RECEIVE_FLAGS)
        except ConnectionResetError:
            return b"", -1
        return data, fds[0] if fds else -1


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


def start(fork: Callable[[], int], child: Callable[[int, int], NoReturn], *, holds: bool) -> tuple[int, int, int]:
    """Fork; (pid, the descriptor of its reports, that of its hold or -1), both owned by the caller.

    fork: as os.fork. child(sync, hold): what the child does; hold is -1 unless holds.
    """
    reports, sync = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    waits_on, hold = os.pipe2(os.O_CLOEXEC) if holds else (-1, -1)
    with sync:
        try:
            pid = fork()
            if pid == 0:
                _never_return(lambda: child(sync.fileno(), waits_on))
        except BaseException:
            reports.close()
            if holds:
                os.close(hold)
            raise
        finally:
            if holds:
                os.close(waits_on)
    return pid, reports.detach(), hold


def _error(report: dict[str, Any]) -> Exception:
    return error_from({"kind": report.get("kind", ""), "message": report["error"], "remedy": report.get("remedy", "")})


def _never_return(child: Callable[[], NoReturn]) -> NoReturn:
    try:
        child()
    finally:
        os._exit(127)
