"""Requests to the zygote or to a shim over one connection: many in flight, answered in any order.

A caller that is cancelled leaves nothing un-awaited: its request has been handed over whole, its answer is taken off
the wire when it comes, and the descriptors that came with it are closed.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
from anyio.abc import TaskGroup

from podd.errors import PoddError, Unavailable
from podd.shim.wire import Connection, Descriptors, WireError, error_from

Answer = tuple[dict[str, Any], Descriptors]
LateAnswer = Callable[[dict[str, Any]], None]


class ConnectionLost(Unavailable):
    """The peer went away before it answered. It may or may not have done what was asked."""


class Call:
    """One request in flight."""

    __slots__ = ("_abandoned", "_answer", "_done", "_failure", "_late")

    def __init__(self, late: LateAnswer | None = None) -> None:
        self._done = anyio.Event()
        self._answer: Answer | None = None
        self._failure: PoddError | None = None
        self._late = late
        self._abandoned = False

    async def answer(self) -> Answer:
        """Wait for it; the descriptors are the caller's to take. Raises what the peer refused with; ConnectionLost."""
        try:
            await self._done.wait()
        except BaseException:
            self.abandon()
            raise
        if self._failure is not None:
            raise self._failure
        assert self._answer is not None
        return self._answer

    def settle(self, answer: Answer | PoddError) -> None:
        if isinstance(answer, PoddError):
            self._failure = answer
        else:
            self._answer = answer
        self._done.set()
        if self._abandoned:
            self.abandon()

    def abandon(self) -> None:
        """Nobody waits any more. What was granted is given up now, or when it comes."""
        self._abandoned = True
        if self._answer is not None:
            ok, fds = self._answer
            fds.close()
            if self._late is not None:
                self._late(ok)


class Peer:
    """One connection. `run` reads it until it ends; `call` may be used from any task meanwhile."""

    def __init__(self, sock: socket.socket, name: str, on_notice: Callable[[dict[str, Any]], None]) -> None:
        """sock: owned by the peer from now on; `run` closes it. name: for messages, "shim 4711"."""
        self.name = name
        self.ended = anyio.Event()  # no more answers will come
        self._closed = anyio.Event()
        self._connection = Connection(sock, self._on_blocked)
        self._on_notice = on_notice
        self._numbers = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._tasks: TaskGroup | None = None
        self._blocked = False  # output waits for the peer to read
        self._scope = anyio.CancelScope()
        self._why = "closed"

    # ---- for callers -------------------------------------------------------------------------------------------------

    async def call(
        self, verb: str, args: Mapping[str, Any], fds: Sequence[int] = (), late: LateAnswer | None = None
    ) -> Answer:
        """Ask and wait for the answer. fds are borrowed; the descriptors of the answer are the caller's to take.

        late: called with what was granted when the caller had been cancelled by then.
        Raises what the peer refused with; ConnectionLost.
        """
        return await self._ask(verb, args, fds, Call(late)).answer()

    def post(self, verb: str, args: Mapping[str, Any]) -> None:
        """Ask without waiting; the answer is dropped. Where the peer is gone: nothing."""
        self._ask(verb, args, (), Call()).abandon()

    def expect(self, number: int) -> Call:
        """An answer that will come unasked. Number 0 is a new shim's report on its sandbox."""
        return self._register(number, Call())

    async def aclose(self) -> None:
        """Hang up, and return when it is done. `run` must have been started."""
        self._end("closed")
        with anyio.CancelScope(shield=True):
            await self._closed.wait()

    def _ask(self, verb: str, args: Mapping[str, Any], fds: Sequence[int], call: Call) -> Call:
        number = next(self._numbers)
        self._register(number, call)
        if not self.ended.is_set():
            try:
                self._connection.send({"id": number, "verb": verb, "args": args}, fds)
            except ConnectionError:
                pass  # the reader will see it, after what the peer has said before it left
            except (WireError, OSError) as exc:
                self._end(str(exc))
        return call

    def _register(self, number: int, call: Call) -> Call:
        if self.ended.is_set():
            call.settle(self._lost())
        else:
            self._calls[number] = call
        return call

    # ---- the reader --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read until the connection ends or is closed; then every call in flight has failed. Never raises."""
        try:
            with self._scope:
                async with anyio.create_task_group() as self._tasks:
                    self._on_blocked(self._blocked)  # by what was asked before this task began
                    self._end(await self._read())
        finally:
            self._end("closed")
            self._connection.close()  # here, where nothing waits for its descriptor any more
            self._closed.set()

    async def _read(self) -> str:
        try:
            while True:
                await anyio.wait_readable(self._connection)
                frames = self._connection.receive()
                if frames is None:
                    return "it hung up"
                for message, fds in frames:
                    self._take(message, fds)
        except (WireError, OSError) as exc:
            return str(exc)

    def _take(self, message: dict[str, Any], fds: Descriptors) -> None:
        if "id" not in message:
            fds.close()
            self._on_notice(message)
            return
        call = self._calls.pop(message["id"], None)
        if call is None:
            fds.close()
        elif "error" in message:
            fds.close()
            call.settle(error_from(message["error"]))
        else:
            call.settle((message["ok"], fds))

    def _on_blocked(self, blocked: bool) -> None:
        self._blocked = blocked
        if blocked and self._tasks is not None:
            self._tasks.start_soon(self._write)

    async def _write(self) -> None:
        try:
            while self._blocked:
                await anyio.wait_writable(self._connection)
                self._connection.flush()
        except ConnectionError:
            pass  # as in _ask
        except (WireError, OSError) as exc:
            self._end(str(exc))

    def _end(self, why: str) -> None:
        if self.ended.is_set():
            return
        self._why = why
        self.ended.set()
        self._scope.cancel()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.settle(self._lost())

    def _lost(self) -> ConnectionLost:
        return ConnectionLost(f"{self.name}: connection lost: {self._why}")
