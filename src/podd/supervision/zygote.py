"""The one zygote of a driver: started when it is needed, started again when it has died, ended with the driver."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from podd.errors import Unavailable
from podd.shim.launch import launch
from podd.shim.wire import Descriptors
from podd.supervision.peer import ConnectionLost, Peer

log = structlog.get_logger(__name__)

ENDING_S = 5.0
"""How long a zygote may take to end after its channel has closed; it takes a millisecond."""


class Zygote:
    """Shared by all callers; its process is a child of the daemon."""

    def __init__(self, tasks: TaskGroup, place: Callable[[int], None]) -> None:
        """place: is given the pid of each new zygote before it forks."""
        self._tasks = tasks
        self._place = place
        self._starting = anyio.Lock(fast_acquire=True)
        self._peer: Peer | None = None

    async def start(self) -> Peer:
        """Have it running. Raises Unavailable: it cannot be started."""
        async with self._starting:
            if self._peer is None or self._peer.ended.is_set():
                try:
                    sock, process = await anyio.to_thread.run_sync(self._launch)
                except OSError as exc:
                    raise Unavailable(f"zygote: cannot be started: {exc.filename or ''} {exc.strerror}") from exc
                self._peer = Peer(sock, f"zygote {process.pid}", lambda _: None)
                self._tasks.start_soon(_attend, self._peer, process)
            return self._peer

    def _launch(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        sock, process = launch()
        try:
            self._place(process.pid)
        except BaseException:
            sock.close()
            _reap(process)
            raise
        return sock, process

    async def call(
        self, verb: str, args: Mapping[str, Any], fds: Sequence[int] = ()
    ) -> tuple[dict[str, Any], Descriptors]:
        """As Peer.call. One that dies before it answers is replaced, once.

        Its channel ends when no process has it any more that could answer: what was asked has not been done.
        """
        try:
            return await (await self._living()).call(verb, args, fds)
        except ConnectionLost:
            return await (await self._living()).call(verb, args, fds)

    async def _living(self) -> Peer:
        peer = self._peer
        return await self.start() if peer is None or peer.ended.is_set() else peer

    async def give_up(self) -> None:
        """End one that does not answer; the next call starts another."""
        if self._peer is not None:
            await self._peer.aclose()


async def _attend(peer: Peer, process: subprocess.Popen[bytes]) -> None:
    """Until it has ended and is reaped."""
    try:
        await peer.run()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_reap, process)
    log.warning("zygote.died", pid=process.pid, status=process.returncode)


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
