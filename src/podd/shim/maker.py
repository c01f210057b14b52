"""The shim's side of its maker (`podd.shim.making`): have one when there is something to make, let it go afterwards."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from podd.errors import PoddError, Unavailable
from podd.linux.syscalls import Prctl, close_all_but, prctl
from podd.shim import making
from podd.shim.home import Home
from podd.shim.loop import READABLE, WRITABLE, Later, Loop
from podd.shim.processes import Child
from podd.shim.wire import Connection, Descriptors, WireError, error_from

IDLE_S = 0.5
"""How long a maker is kept when there is nothing to do: it takes about a millisecond to start another one."""

Made = tuple[dict[str, Any], Descriptors]


class MakerProcess:
    """One maker and what is asked of it."""

    def __init__(self, loop: Loop, home: Home) -> None:
        self._loop = loop
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            _be_maker(theirs, home)
        theirs.close()
        Child(loop, pid)
        self._connection = Connection(ours, self._on_blocked)
        self._waiting: dict[int, tuple[Later[Made | PoddError], Callable[[int], None]]] = {}
        self._asked = 0
        loop.watch(ours.fileno(), READABLE, self._on_ready)

    @property
    def alive(self) -> bool:
        return self._connection.fileno() >= 0

    async def ask(self, verb: str, args: Mapping[str, Any], fds: Sequence[int], forked: Callable[[int], None]) -> Made:
        self._asked += 1
        number = self._asked
        later: Later[Made | PoddError] = Later()
        self._waiting[number] = (later, forked)
        try:
            self._connection.send({"id": number, "verb": verb, "args": {**args, "token": number}}, fds)
        except (WireError, OSError):
            self.close()
        self._loop.after(IDLE_S, lambda: self._end_if_idle(number))
        made = await later
        if isinstance(made, PoddError):
            raise made
        return made

    def close(self) -> None:
        """It ends, and what is still asked has failed."""
        if not self.alive:
            return
        self._loop.forget(self._connection.fileno())
        self._connection.close()
        for later, _ in list(self._waiting.values()):
            later.set(Unavailable("shim: the process that makes containers has ended"))

    def _end_if_idle(self, number: int) -> None:
        if number == self._asked:
            if self._waiting:
                self._loop.after(IDLE_S, lambda: self._end_if_idle(number))
            else:
                self.close()

    def _on_blocked(self, blocked: bool) -> None:
        self._loop.rewatch(self._connection.fileno(), READABLE | (WRITABLE if blocked else 0))

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
        for message, fds in frames:
            self._take(message, fds)

    def _take(self, message: dict[str, Any], fds: Descriptors) -> None:
        if "forked" in message:
            self._waiting[message["token"]][1](message["forked"])
            return
        later, _ = self._waiting.pop(message["id"])
        later.set(error_from(message["error"]) if "error" in message else (message["ok"], fds))


class Maker:
    """A maker whenever one is needed."""

    def __init__(self, loop: Loop, home: Home) -> None:
        self._loop = loop
        self._home = home
        self._process: MakerProcess | None = None

    async def ask(
        self,
        verb: str,
        args: Mapping[str, Any],
        fds: Sequence[int] = (),
        forked: Callable[[int], None] = lambda _: None,
    ) -> Made:
        """What the verb answers, and the descriptors with it, owned by the caller; see `making`.

        fds: borrowed. forked: told the pid of the new child before anything else is known of it.
        Raises a podd.errors kind; Unavailable: the maker has died.
        """
        if self._process is None or not self._process.alive:
            self._process = MakerProcess(self._loop, self._home)
        return await self._process.ask(verb, args, fds, forked)

    def close(self) -> None:
        if self._process is not None:
            self._process.close()


def _be_maker(channel: socket.socket, home: Home) -> None:
    """The whole life of the forked process. What it has of the shim's objects stays unused."""
    status = 1
    try:
        close_all_but({0, 1, 2, channel.fileno()})
        prctl(Prctl.SET_PDEATHSIG, 9)
        making.serve(channel, home)
        status = 0
    finally:
        os._exit(status)
