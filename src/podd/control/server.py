"""The control socket's server: many connections, and nothing that the peer of one does hurts another.

Calls sent ahead wait in the kernel's buffer until the one before is answered, so replies come in order and a
connection holds one message, whatever its peer does. A peer that closes ends the call it waits for, at once; one that
only shuts down its writing side still gets its replies.
"""

from __future__ import annotations

import errno
import resource
import select
import socket
from collections.abc import Sequence

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from podd.control import admission
from podd.control.connection import Connection, Limits
from podd.control.dispatch import Service
from podd.errors import Unavailable

__all__ = ["Limits", "Service", "raise_descriptor_limit", "serve"]

log = structlog.get_logger(__name__)

_ACCEPT_BURST = 8  # few, so that those who were let in are heard before they may have to give way


def raise_descriptor_limit() -> tuple[int, int]:
    """Allow this process as many descriptors as it may have. Returns the (soft, hard) limit from before.

    Programs that podd starts should get the old one back: some walk through all possible descriptors.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    return before


async def serve(
    listeners: Sequence[socket.socket],
    service: Service,
    *,
    limits: Limits | None = None,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on listening Unix sockets until cancelled. The listeners stay open and the caller's.

    started: from then on connections are answered. Cancelled, it tells those who wait that podd is stopping.
    """
    server = _Server(service, limits or Limits())
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.watch_hangups)
            for listener in listeners:
                listener.setblocking(False)
                tasks.start_soon(server.accept, listener, tasks)
            task_status.started()
    finally:
        server.close()


class _Server:
    def __init__(self, service: Service, limits: Limits) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._service = service
        self._limits = limits
        self._total = min(limits.connections, max(soft // 2, 1))
        self._open: dict[int, Connection] = {}  # by descriptor
        self._watched: set[int] = set()
        self._hangups = select.epoll()
        self._turned_away = 0
        self._told_at = float("-inf")

    def close(self) -> None:
        self._hangups.close()

    # ---- accepting
    async def accept(self, listener: socket.socket, tasks: TaskGroup) -> None:
        while True:
            await anyio.wait_readable(listener)
            try:
                for _ in range(_ACCEPT_BURST):
                    self._admit(listener.accept()[0], tasks)
            except BlockingIOError:
                continue
            except OSError as exc:
                await self._accept_failed(exc)

    async def _accept_failed(self, exc: OSError) -> None:
        """Out of descriptors or memory: let the idlest quarter go and wait a little; callers stay in the backlog."""
        if exc.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            raise exc
        log.error("listener.failed", error=str(exc), connections=len(self._open))
        idle = sorted((each for each in self._open.values() if not each.busy), key=lambda each: each.since)
        for connection in idle[: len(idle) // 4 + 1]:
            self._send_away(connection, "descriptors are short")
        await anyio.sleep(0.1)

    def _admit(self, sock: socket.socket, tasks: TaskGroup) -> None:
        """Start to serve a new connection; where there are too many, another one or this one goes."""
        connection = Connection(sock, self._service, self._limits)
        crowd = admission.crowding(
            self._open.values(), connection.peer, per_user=self._limits.connections_per_user, total=self._total
        )
        if crowd:
            leaver = admission.choose(crowd, connection.peer) or connection
            self._send_away(leaver, f"{len(crowd)} connections are open")
            if leaver is connection:
                connection.close()
                return
        self._open[connection.fileno] = connection
        self._hangups.register(connection.fileno, 0)  # EPOLLHUP and EPOLLERR are always reported
        self._watched.add(connection.fileno)
        tasks.start_soon(connection.run, self._forget)

    def _send_away(self, connection: Connection, why: str) -> None:
        """Tell it to go, and the log of it: once a second at most, however many come."""
        peer = connection.peer
        remedy = "close connections that are not needed, and try again"
        connection.give_way(Unavailable(f"process {peer.pid}: connection closed: {why}", remedy=remedy))
        self._forget(connection)
        self._turned_away += 1
        if anyio.current_time() - self._told_at >= 1:
            log.warning("connection.sent_away", count=self._turned_away, reason=why, **peer._asdict())
            self._turned_away, self._told_at = 0, anyio.current_time()

    def _forget(self, connection: Connection) -> None:
        """It will close its socket, now or soon. Asked twice, or of one that was never taken up: nothing."""
        if self._open.get(connection.fileno) is connection:
            del self._open[connection.fileno]
            self._unwatch(connection.fileno)

    # ---- peers that leave
    async def watch_hangups(self) -> None:
        """One epoll tells of every peer that closes: during a call nobody reads from its connection to find out."""
        while True:
            await anyio.wait_readable(self._hangups.fileno())
            for fd, _ in self._hangups.poll(0):
                self._unwatch(fd)
                self._open[fd].peer_left()

    def _unwatch(self, fd: int) -> None:
        if fd in self._watched:
            self._watched.remove(fd)
            self._hangups.unregister(fd)
