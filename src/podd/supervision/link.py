"""The daemon's side of one shim: a connection, what it told of exits, and a watch for its death."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio
import msgspec

from podd.driver.contract import Exit
from podd.errors import NotFound, PoddError, Unavailable
from podd.linux.process import PidIdentity, open_pidfd
from podd.shim.files import read_json
from podd.shim.plan import ContainerState
from podd.shim.wire import Descriptors, connect
from podd.supervision.peer import LateAnswer, Peer

DYING_S = 1.0
"""A process that is killed closes its sockets before it is gone: how long after the one the other is awaited."""

_PEERCRED = struct.Struct("3i")


class _Watched:
    """A container whose end somebody may wait for."""

    __slots__ = ("exit", "settled")

    def __init__(self) -> None:
        self.exit: Exit | None = None
        self.settled = anyio.Event()  # it has an exit, or will have none that its shim could tell

    def settle(self, exit_: Exit | None) -> None:
        self.exit = self.exit or exit_
        self.settled.set()


class Link:
    """One shim as long as it lives. `run` keeps it up to date; `lost` is set when it is of no more use: it died, is
    out of reach, or was let go of."""

    def __init__(self, sandbox: str, run_dir: str, shim: PidIdentity, pidfd: int, sock: socket.socket) -> None:
        """run_dir: the sandbox's. pidfd, sock: of the shim and connected to it; owned by the link from now on."""
        self.sandbox = sandbox
        self.run_dir = run_dir
        self.shim = shim
        self.lost = anyio.Event()
        self.died = False
        self.let_go = False
        self.why = ""
        self._pidfd = pidfd
        self._name = f"sandbox {sandbox}: shim {shim.pid}"
        self._watched: dict[str, _Watched] = {}
        self._scope = anyio.CancelScope()
        self._closed = anyio.Event()
        self.peer = Peer(sock, self._name, self._on_notice)

    @classmethod
    async def connect(cls, sandbox: str, run_dir: str, shim: PidIdentity) -> Link:
        """To a shim that an earlier daemon started.

        Raises NotFound: it is gone; Unavailable: it lives and cannot be reached.
        """
        pidfd, sock = await anyio.to_thread.run_sync(_open, sandbox, run_dir, shim)
        return cls(sandbox, run_dir, shim, pidfd, sock)

    # ---- for callers -------------------------------------------------------------------------------------------------

    async def call(
        self, verb: str, args: Mapping[str, Any], fds: tuple[int, ...] = (), late: LateAnswer | None = None
    ) -> tuple[dict[str, Any], Descriptors]:
        """As Peer.call."""
        return await self.peer.call(verb, args, fds, late)

    async def refresh(self) -> dict[str, Any]:
        """Subscribe, then ask for the status: no exit falls between the two. Returns what the shim says."""
        await self.peer.call("subscribe", {})
        answer, _ = await self.peer.call("status", {})
        states: dict[str, ContainerState] = answer["containers"]
        for container, state in states.items():
            watched = self._watched.setdefault(container, _Watched())
            if state["exit"] is not None:
                watched.settle(msgspec.convert(state["exit"], Exit))
        return answer

    def expect_exit(self, container: str) -> None:
        """A container exists now."""
        self._watched.setdefault(container, _Watched())

    def forget(self, container: str) -> None:
        """A container was destroyed: who still waits is told so, unless its exit came first."""
        watched = self._watched.pop(container, None)
        if watched is not None:
            watched.settle(None)

    async def exit_of(self, container: str) -> Exit:
        """Wait for it. Raises NotFound: there is no such container, or it was destroyed before it ended.

        Where the shim dies first, this is what it wrote down; Unavailable when the link was let go of.
        """
        watched = self._watched.get(container)
        if watched is None and not self.lost.is_set():
            await self.refresh()
            watched = self._watched.get(container)
        if watched is None:
            raise NotFound(f"container {container}: it does not exist in sandbox {self.sandbox}")
        await watched.settled.wait()
        if watched.exit is not None:
            return watched.exit
        if self._watched.get(container) is not watched:
            raise NotFound(f"container {container}: it was destroyed")
        if not self.died:
            raise Unavailable(f"container {container}: how it ends cannot be known: {self.why}")
        return await anyio.to_thread.run_sync(exit_on_disk, self.run_dir, container)

    def kill(self) -> None:
        """SIGKILL, to exactly that process. Of one that has ended: nothing."""
        if not self._closed.is_set():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def aclose(self) -> None:
        """Let go of the shim, which lives on. `run` must have been started."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._closed.wait()

    # ---- in the background -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the shim is lost or the link is closed. Never raises."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._stay_connected)
                    await anyio.wait_readable(self._pidfd)
                    self.died = True
                    with anyio.move_on_after(DYING_S):
                        await self.peer.ended.wait()  # what it has said before is heard first: why it refused, an exit
                    self._lose(f"shim {self.shim.pid} has died")
                    tasks.cancel_scope.cancel()
        finally:
            os.close(self._pidfd)
            self.let_go = not self.lost.is_set()
            self._lose("podd has let go of it")
            self._closed.set()

    async def _stay_connected(self) -> None:
        await self.peer.run()
        while True:
            with anyio.move_on_after(DYING_S):
                await self.lost.wait()
            try:
                sock = await anyio.to_thread.run_sync(_connect, self.run_dir, self.shim)
            except OSError as exc:
                self._lose(f"shim {self.shim.pid} has hung up and cannot be reached: {exc.strerror or exc}")
                return
            self.peer = Peer(sock, self._name, self._on_notice)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._catch_up)
                await self.peer.run()

    async def _catch_up(self) -> None:
        with suppress(PoddError):  # it has hung up again
            await self.refresh()

    def _lose(self, why: str) -> None:
        if not self.lost.is_set():
            self.why = why
            self.lost.set()
            for watched in self._watched.values():
                watched.settle(None)

    def _on_notice(self, notice: dict[str, Any]) -> None:
        if notice.get("event") == "exited":
            watched = self._watched.setdefault(notice["container"], _Watched())
            watched.settle(msgspec.convert(notice["exit"], Exit))


def exit_on_disk(run_dir: str, container: str) -> Exit:
    """What a shim that is dead wrote down before; else that it died with its shim, as the kubelet would word it."""
    record = read_json(f"{run_dir}/exits/{container}.json")
    try:
        return msgspec.convert(record, Exit)
    except msgspec.ValidationError:
        return Exit(
            code=137,
            signal=9,
            reason="ContainerStatusUnknown",
            message="its supervisor was killed, and the container with it",
        )


def has_ended(pidfd: int) -> bool:
    """Reaped or not."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _open(sandbox: str, run_dir: str, shim: PidIdentity) -> tuple[int, socket.socket]:
    """Its pidfd and a connection, both owned by the caller. Raises as Link.connect."""
    try:
        pidfd = open_pidfd(shim)
    except ProcessLookupError as exc:
        raise NotFound(f"sandbox {sandbox}: its shim {shim.pid} is gone") from exc
    try:
        return pidfd, _connect(run_dir, shim)
    except OSError as exc:
        dead = has_ended(pidfd)
        os.close(pidfd)
        if dead:
            raise NotFound(f"sandbox {sandbox}: its shim {shim.pid} has died") from exc
        raise Unavailable(f"sandbox {sandbox}: shim {shim.pid}: {exc.strerror or exc}") from exc


def _connect(run_dir: str, shim: PidIdentity) -> socket.socket:
    """Raises OSError: it cannot be reached, or somebody else answers in its place."""
    sock = connect(run_dir)
    pid, uid, _ = _PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    if (pid, uid) != (shim.pid, os.geteuid()):
        sock.close()
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"process {pid} of user {uid} listens in its place")
    return sock
