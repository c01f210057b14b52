"""Who talks to a shim: connections, requests that are answered in any order, and notices.

A verb is a coroutine function (args, descriptors that came along) -> (what to answer, descriptors to send along, which
are closed afterwards). Descriptors that it does not take are closed for it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from podd.errors import Invalid
from podd.shim.loop import READABLE, WRITABLE, Later, Loop
from podd.shim.wire import Connection, Descriptors, WireError, error_of

MAX_PEERS = 64
MAX_IN_FLIGHT = 1024
"""Requests of one peer that are not answered yet."""

ACCEPT_AGAIN_S = 1.0
"""How long new connections are left waiting when the process has no descriptor for them."""

Answer = tuple[Mapping[str, Any], list[int]]
Verb = Callable[[dict[str, Any], Descriptors], Coroutine[Later[Any], None, Answer]]


class Peer:
    """One connection. `subscribed`: notices go there."""

    def __init__(self, peers: Peers, sock: socket.socket) -> None:
        self._peers = peers
        self._connection = Connection(sock, self._on_blocked)
        self._in_flight = 0
        self.subscribed = False
        self.closed: Later[None] = Later()
        self.fd = self._connection.fileno()
        peers.loop.watch(self.fd, READABLE, self._on_ready)

    def send(self, message: Mapping[str, Any], fds: list[int] | None = None) -> None:
        """To a peer that is gone: nothing. One that cannot take it is dropped."""
        if self._connection.fileno() < 0:
            return
        try:
            self._connection.send(message, fds or [])
        except (WireError, OSError):
            self.close()

    def close(self) -> None:
        if self._connection.fileno() >= 0:
            self._peers.loop.forget(self.fd)
            self._connection.close()
            self._peers.on_closed(self)
            self.closed.set(None)

    def finish(self, timeout_s: float) -> None:
        """Close after what waits has been written, for as long as the peer takes it. Blocks: only for the end."""
        with contextlib.suppress(WireError, OSError):
            self._connection.drain(timeout_s)
        self.close()

    def _on_blocked(self, blocked: bool) -> None:
        self._peers.loop.rewatch(self.fd, READABLE | (WRITABLE if blocked else 0))

    def _on_ready(self, events: int) -> None:
        try:
            if events & WRITABLE:
                self._connection.flush()
            frames = self._connection.receive() if events & ~WRITABLE else []
        except (WireError, OSError):
            frames = None
        if frames is None:
            self.close()
            return
        for request, fds in frames:
            self._serve(request, fds)

    def _serve(self, request: dict[str, Any], fds: Descriptors) -> None:
        number, args = request.get("id"), request.get("args", {})
        if type(number) is not int or not isinstance(args, dict) or self._in_flight >= MAX_IN_FLIGHT:
            fds.close()
            self.close()
            return
        self._peers.loop.spawn(self.answer(number, str(request.get("verb")), args, fds))

    async def answer(self, number: int, verb: str, args: dict[str, Any], fds: Descriptors) -> bool:
        """Do what a request asks and answer it. fds: owned. Returns whether it succeeded."""
        self._in_flight += 1
        ok = False
        try:
            answer, given = await self._peers.verb(self, verb)(args, fds)
            ok = True
        except Exception as exc:  # noqa: BLE001 - whatever it is, the peer is told and the shim goes on
            answer, given = error_of(exc), []
        finally:
            fds.close()
            self._in_flight -= 1
        self.send({"id": number, "ok" if ok else "error": answer}, given)
        for fd in given:
            os.close(fd)
        return ok


class Peers:
    """All connections, and the socket where new ones come."""

    def __init__(self, loop: Loop, verbs: Mapping[str, Verb]) -> None:
        self.loop = loop
        self._verbs = verbs
        self._peers: list[Peer] = []
        self._listener: socket.socket | None = None

    def adopt(self, sock: socket.socket) -> Peer:
        peer = Peer(self, sock)
        self._peers.append(peer)
        return peer

    def listen(self, listener: socket.socket) -> None:
        """listener: owned from now on."""
        listener.setblocking(False)
        self._listener = listener
        self._watch_listener()

    def notify(self, notice: Mapping[str, Any]) -> None:
        for peer in list(self._peers):
            if peer.subscribed:
                peer.send(notice)

    def verb(self, peer: Peer, name: str) -> Verb:
        """Raises Invalid: no such verb."""
        if name == "subscribe":
            return peer_subscribes(peer)
        if name not in self._verbs:
            raise Invalid(f"request: verb {name!r}: not known", remedy="podd and this shim are of different versions")
        return self._verbs[name]

    def close(self, timeout_s: float) -> None:
        """Blocks until what waits has been written, for as long as the peers take it."""
        if self._listener is not None:
            self.loop.forget(self._listener.fileno())
            self._listener.close()
        for peer in list(self._peers):
            peer.finish(timeout_s)

    def on_closed(self, peer: Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)

    def _watch_listener(self) -> None:
        if self._listener is not None and self._listener.fileno() >= 0:
            self.loop.watch(self._listener.fileno(), READABLE, self._accept)

    def _accept(self, _: int) -> None:
        assert self._listener is not None
        try:
            sock, _address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            self.loop.forget(self._listener.fileno())
            self.loop.after(ACCEPT_AGAIN_S, self._watch_listener)
            return
        if len(self._peers) >= MAX_PEERS:
            sock.close()
        else:
            self.adopt(sock)


def peer_subscribes(peer: Peer) -> Verb:
    async def subscribe(_args: dict[str, Any], _fds: Descriptors) -> Answer:
        peer.subscribed = True
        return {}, []

    return subscribe
