"""Who talks to a shim: connections, requests that are answered in any order, and notices.

A verb is a coroutine function (args, descriptors that came along) -> (what to answer, descriptors to send along, which
are closed afterwards). Descriptors that it does not take are closed for it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from podd.errors import Invalid
from podd.shim.keeper import LISTENER, PEER
from podd.shim.loop import READABLE, WRITABLE, Later, Loop
from podd.shim.wire import Connection, Descriptors, WireError, error_of

if TYPE_CHECKING:
    from podd.shim.keeping import Keeping

MAX_PEERS = 64
MAX_IN_FLIGHT = 1024
"""Requests of one peer that are not answered yet."""

ACCEPT_AGAIN_S = 1.0
"""How long new connections are left waiting when the process has no descriptor for them."""

Answer = tuple[Mapping[str, Any], list[int]]
Verb = Callable[[dict[str, Any], Descriptors], Coroutine[Later[Any], None, Answer]]
VerbOfPeer = Callable[[str, dict[str, Any], Descriptors], Coroutine[Later[Any], None, Answer]]


class Peer:
    """One connection. `subscribed`: notices go there."""

    def __init__(self, peers: Peers, sock: socket.socket, name: str) -> None:
        self.name = name
        self.subscribed = False
        self._peers = peers
        self._connection = Connection(sock, self._on_blocked)
        self._in_flight = 0
        self._fd = sock.fileno()
        peers.loop.watch(self._fd, READABLE, self._on_ready)

    @property
    def is_idle(self) -> bool:
        """Nothing is asked, half said or half answered."""
        return self._in_flight == 0 and self._connection.is_idle

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
            self._peers.loop.forget(self._fd)
            self._connection.close()
            self._peers.on_closed(self)

    def finish(self, timeout_s: float) -> None:
        """Close after what waits has been written, for as long as the peer takes it. Blocks: only for the end."""
        with suppress(WireError, OSError):
            self._connection.drain(timeout_s)
        self.close()

    def _on_blocked(self, blocked: bool) -> None:
        self._peers.loop.rewatch(self._fd, READABLE | (WRITABLE if blocked else 0))

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
        self._peers.asked += 1
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
    """All connections, and the socket where new ones come. They are kept for the next attendant."""

    def __init__(
        self,
        loop: Loop,
        keeping: Keeping,
        verbs: Mapping[str, Verb],
        verbs_of_peers: Mapping[str, VerbOfPeer],
        on_gone: Callable[[str], None],
    ) -> None:
        """verbs_of_peers: those that are told first the name of who asks. on_gone: told the name of who has left."""
        self.loop = loop
        self._verbs_of_peers = verbs_of_peers
        self._on_gone = on_gone
        self.asked = 0  # requests so far
        self._keeping = keeping
        self._verbs = verbs
        self._peers: list[Peer] = []
        self._listener: socket.socket | None = None

    @property
    def are_idle(self) -> bool:
        return all(peer.is_idle for peer in self._peers)

    @property
    def subscribers(self) -> list[str]:
        """Their names, for `restore`."""
        return [peer.name for peer in self._peers if peer.subscribed]

    def restore(self, subscribers: list[str]) -> None:
        """Take up what the keeper has of an earlier attendant."""
        for name, fd in self._keeping.kept.items():
            if name == LISTENER:
                self._watch(socket.socket(fileno=fd))
            elif name.startswith(PEER):
                peer = Peer(self, socket.socket(fileno=fd), name)
                peer.subscribed = name in subscribers
                self._peers.append(peer)

    def has(self, name: str) -> bool:
        return any(peer.name == name for peer in self._peers)

    def first(self) -> Peer:
        """The one that came with the fork."""
        return self._peers[0]

    def listen(self, listener: socket.socket) -> None:
        """listener: owned from now on."""
        self._keeping.listen(listener.fileno())
        self._watch(listener)

    def notify(self, notice: Mapping[str, Any]) -> None:
        for peer in list(self._peers):
            if peer.subscribed:
                peer.send(notice)

    def verb(self, peer: Peer, name: str) -> Verb:
        """Raises Invalid: no such verb."""
        if name == "subscribe":
            return _subscribe(peer)
        if name in self._verbs_of_peers:
            return partial(self._verbs_of_peers[name], peer.name)
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
        self._peers.remove(peer)
        self._keeping.drop(peer.name)
        self._on_gone(peer.name)

    def _watch(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._watch_listener()

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
            return
        name = next(f"{PEER}{n}" for n in range(MAX_PEERS + 1) if f"{PEER}{n}" not in self._keeping.kept)
        self._keeping.keep(name, sock.fileno())
        self._peers.append(Peer(self, sock, name))


def _subscribe(peer: Peer) -> Verb:
    async def subscribe(_args: dict[str, Any], _fds: Descriptors) -> Answer:
        peer.subscribed = True
        return {}, []

    return subscribe
