"""The shim's end of a child between fork and exec: what it reports, and the word that lets it go. See `stage`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from podd.errors import Internal, Unavailable
from podd.shim.loop import Loop
from podd.shim.processes import Child
from podd.shim.wire import error_from

RELEASE = b"go"
_MAX_REPORT = 64 * 1024


class Held:
    """A child on its way to exec. Owns both descriptors; `close` before release makes the child die."""

    def __init__(
        self, loop: Loop, fork: Callable[[], int], child: Callable[[int, int], NoReturn], *, holds: bool
    ) -> None:
        """Fork and start the child.

        fork: as os.fork. child(sync, hold): what the child does; hold is -1 unless holds.
        """
        self._loop = loop
        self._sync, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        waits_on, self._hold = os.pipe2(os.O_CLOEXEC) if holds else (-1, -1)
        try:
            pid = fork()
            if pid == 0:
                _never_return(lambda: child(theirs.fileno(), waits_on))
            self.process = Child(loop, pid)
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()
            if waits_on >= 0:
                os.close(waits_on)

    async def ready(self) -> tuple[list[str], int]:
        """What was done without, and the terminal's master (owned by the caller) or -1.

        Raises what the child reports as a podd.errors kind; Unavailable: it was killed. It is reaped then.
        """
        try:
            message, terminal = await self._report()
            if not message.get("ready"):
                raise Internal(f"container: an unexpected report: {message}")
        except Exception:
            await self.end()
            raise
        return list(message.get("notes", [])), terminal

    def release(self) -> None:
        """Let the child go. To one that has gone or died: nothing."""
        if self._hold >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._hold, RELEASE)

    async def executed(self) -> int:
        """CLOCK_MONOTONIC in ns right before the execve(2) that succeeded. Raises as `ready`, without reaping."""
        message, _ = await self._report()
        failure, _ = await self._receive()
        if failure:
            raise _error(json.loads(failure))
        self.close()
        return int(message.get("released_ns", 0))

    async def end(self) -> None:
        """Kill, if need be, and reap."""
        self.process.signal(9)
        await self.process.ended
        self.close()

    def close(self) -> None:
        self._sync.close()
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1

    async def _report(self) -> tuple[dict[str, Any], int]:
        data, terminal = await self._receive()
        if not data:
            raise Unavailable(f"container: its process {self.process.pid} was killed before it could start")
        message = json.loads(data)
        if "error" in message:
            raise _error(message)
        return message, terminal

    async def _receive(self) -> tuple[bytes, int]:
        """One message and a descriptor or -1; b"" when the child's end is closed."""
        await self._loop.ready(self._sync.fileno())
        try:
            data, fds, _, _ = socket.recv_fds(self._sync, _MAX_REPORT, 1, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return b"", -1
        return data, fds[0] if fds else -1


def _error(report: dict[str, Any]) -> Exception:
    return error_from({"kind": report.get("kind", ""), "message": report["error"], "remedy": report.get("remedy", "")})


def _never_return(child: Callable[[], NoReturn]) -> NoReturn:
    try:
        child()
    finally:
        os._exit(127)
