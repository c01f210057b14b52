"""One connection: calls in, one at a time, replies out, until its peer has gone or has to go."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import closing

import anyio
import msgspec
import structlog

from podd.control import wire
from podd.control.dispatch import Context, Method, Service, encode_failure, is_bug, prepare
from podd.control.wire import Call, Channel, Disconnected, Malformed, Message, Peer
from podd.errors import PoddError, Unavailable

log = structlog.get_logger(__name__)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one peer, and all of them, may hold."""

    message_bytes: int = 4 * 1024 * 1024
    message_fds: int = 16
    message_s: float = 10  # from the first byte of a message to its end
    stall_s: float = 30  # a peer that takes nothing for so long is gone, unless the method is paced
    drain_s: float = 2  # for a refused peer to finish sending and read why
    connections: int = 512  # never more than half of the process's descriptors
    connections_per_user: int = 256


class Connection:
    """Owns its socket from the first step of `run` on; until then whoever accepted it does.

    busy: a call is being answered. since: when that began, or when the last one ended; of anyio's clock.
    """

    def __init__(self, sock: socket.socket, service: Service, limits: Limits) -> None:
        self.fileno = sock.fileno()
        self.peer: Peer = wire.peer_of(sock)
        self.busy = False
        self.since = anyio.current_time()
        self._channel = Channel(sock, max_bytes=limits.message_bytes, max_fds=limits.message_fds)
        self._service = service
        self._limits = limits
        self._scope = anyio.CancelScope()
        self._awaited: anyio.CancelScope | None = None  # of the call whose reply the peer waits for
        self._left = False
        self._lost = False
        self._parting: PoddError | None = None

    def give_way(self, why: PoddError) -> None:
        """End it, whatever it does, and tell the peer why if that can be done at once."""
        self._parting = why
        self._scope.cancel()

    def peer_left(self) -> None:
        """The peer has closed: nobody waits for replies. What it sent as oneway is still done."""
        self._left = True
        if self._awaited:
            self._awaited.cancel()

    def close(self) -> None:
        if self._parting:
            self._channel.farewell(encode_failure(self._parting)[1])
        self._channel.sock.close()

    async def run(self, forget: Callable[[Connection], None]) -> None:
        """Serve the peer to its end. forget: called just before the socket is closed. Raises nothing of its own."""
        try:
            with self._scope:
                await self._converse()
        except Disconnected:
            pass
        except Exception:
            log.exception("connection.failed", **self.peer._asdict())
        finally:
            forget(self)
            self.close()

    async def _converse(self) -> None:
        try:
            while message := await self._channel.receive(within_s=self._limits.message_s):
                with closing(message.fds):
                    await self._take(message)
        except Malformed as exc:
            log.warning("connection.refused", error=exc.message, **self.peer._asdict())
            await self._channel.send(encode_failure(exc)[1], stall_s=self._limits.drain_s)
            await self._channel.drain(within_s=self._limits.drain_s)

    async def _take(self, message: Message) -> None:
        """Answer one call, for as long as its peer waits for it. Raises Malformed, Disconnected."""
        call = wire.decode_call(message.data)
        self.busy, self.since = True, anyio.current_time()
        try:
            with anyio.CancelScope() as awaited:
                if not call.oneway:
                    self._awaited = awaited
                    if self._left:
                        awaited.cancel()
                        await anyio.lowlevel.checkpoint()
                await self._answer(call, message)
        except anyio.get_cancelled_exc_class():
            self._parting = self._parting or Unavailable("podd: is stopping", remedy="try again when it is back")
            raise
        finally:
            self._awaited = None
            self.busy, self.since = False, anyio.current_time()

    async def _answer(self, call: Call, message: Message) -> None:
        paced = False

        async def send(data: bytes, fds: Sequence[int]) -> None:
            if call.oneway:
                return
            try:
                await self._channel.send(data, fds, stall_s=None if paced else self._limits.stall_s)
            except Disconnected:
                self._lost = True
                raise

        method: Method | None = None
        with closing(Context(self.peer, more=bool(call.more), fds=message.fds, send=send)) as context:
            outcome = "cancelled"
            try:
                method, parameters = prepare(self._service, call)
                paced = method.paced
                reply = wire.encode_reply(await method.answer(context, parameters))
                outcome = "done"
            except Exception as exc:
                if self._lost:
                    outcome = "disconnected"
                    raise Disconnected from None
                outcome, reply = encode_failure(exc)
                context.take_back()
                if is_bug(exc):
                    log.exception("call.failed", method=call.method[:100], **self.peer._asdict())
            finally:
                self._log_end(call, method, outcome)
            await context.send(reply)

    def _log_end(self, call: Call, method: Method | None, outcome: str) -> None:
        """outcome: done, an error's name, cancelled (the peer left, or podd stops), disconnected (found at a reply)."""
        tell = log.info if method and method.changes else log.debug
        took_ms = round((anyio.current_time() - self.since) * 1000, 1)
        tell("call.ended", method=call.method[:100], outcome=outcome, took_ms=took_ms, **self.peer._asdict())
