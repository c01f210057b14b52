"""Requests over one connection: answers in any order, callers that leave, peers that leave, peers that do not read."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from podd.errors import Conflict, Internal
from podd.shim.wire import Connection, encode
from podd.supervision.peer import ConnectionLost, Peer

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Other:
    """The far end, played by hand."""

    def __init__(self, sock: socket.socket) -> None:
        self.connection = Connection(sock)
        self._seen: list[tuple[dict[str, Any], list[int]]] = []

    async def request(self) -> tuple[dict[str, Any], list[int]]:
        while not self._seen:
            await anyio.wait_readable(self.connection)
            self._seen += [(message, fds.take()) for message, fds in self.connection.receive() or []]
        return self._seen.pop(0)

    async def answer(self, ok: object, fds: tuple[int, ...] = ()) -> dict[str, Any]:
        message, _ = await self.request()
        self.connection.send({"id": message["id"], "ok": ok}, fds)
        return message


class Wire:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.notices: list[dict[str, Any]] = []
        self.peer = Peer(ours, "shim 1", self.notices.append)
        self.other = Other(theirs)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    before = set(os.listdir("/proc/self/fd"))
    wire = Wire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.peer.run)
        yield wire
        await wire.peer.aclose()
    wire.other.connection.close()
    assert set(os.listdir("/proc/self/fd")) <= before


async def test_answers_in_any_order(wire: Wire) -> None:
    said: list[Any] = []

    async def ask(verb: str) -> None:
        said.append((verb, (await wire.peer.call(verb, {}))[0]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "a")
        tasks.start_soon(ask, "b")
        first, _ = await wire.other.request()
        second, _ = await wire.other.request()
        for message in (second, first):
            wire.other.connection.send({"id": message["id"], "ok": {"to": message["verb"]}})
    assert sorted(said) == [("a", {"to": "a"}), ("b", {"to": "b"})]


async def test_an_error_keeps_its_kind_and_words(wire: Wire) -> None:
    async def refuse(error: dict[str, str]) -> None:
        message, _ = await wire.other.request()
        wire.other.connection.send({"id": message["id"], "error": error})

    for kind, cls in (("Conflict", Conflict), ("NoSuchKind", Internal)):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refuse, {"kind": kind, "message": "it is taken", "remedy": "take another"})
            with pytest.raises(cls) as refused:
                await wire.peer.call("x", {})
            assert str(refused.value) == "it is taken; take another"


async def test_descriptors_go_both_ways(wire: Wire) -> None:
    read, write = os.pipe()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.other.answer, {}, (read,))
        _, fds = await wire.peer.call("x", {})
    (given,) = fds.take()
    os.write(write, b"hello")
    assert os.read(given, 10) == b"hello"
    for fd in (read, write, given):
        os.close(fd)


async def test_the_answer_to_one_who_left_is_given_up(wire: Wire) -> None:
    late: list[dict[str, Any]] = []
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_leave, wire, late, scope)
    null = os.open("/dev/null", os.O_RDONLY)
    await wire.other.answer({"n": 1}, (null,))
    os.close(null)
    async with anyio.create_task_group() as tasks:  # what comes later on the wire has been read later
        tasks.start_soon(wire.other.answer, {})
        await wire.peer.call("y", {})
    assert late == [{"n": 1}]


async def _leave(wire: Wire, late: list[dict[str, Any]], scope: anyio.CancelScope) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: wire.peer.call("x", {}, late=late.append))
        await anyio.wait_all_tasks_blocked()
        scope.cancel()


async def test_who_waits_when_the_peer_leaves_is_told(wire: Wire) -> None:
    async def hang_up() -> None:
        await wire.other.request()
        wire.other.connection.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hang_up)
        with pytest.raises(ConnectionLost, match="shim 1: connection lost: it hung up"):
            await wire.peer.call("x", {})
    with pytest.raises(ConnectionLost):
        await wire.peer.call("y", {})
    wire.peer.post("z", {})


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"\0\0\0\2[]", b"\0\0\0\1x"])
async def test_a_peer_that_talks_nonsense_is_dropped(wire: Wire, garbage: bytes) -> None:
    async def talk() -> None:
        await wire.other.request()
        os.write(wire.other.connection.fileno(), garbage)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk)
        with pytest.raises(ConnectionLost):
            await wire.peer.call("x", {})


async def test_notices_and_answers_to_nobody(wire: Wire) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    wire.other.connection.send({"event": "exited", "container": "a"})
    wire.other.connection.send({"id": 4711, "ok": {}}, (null,))
    os.close(null)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.other.answer, {})
        await wire.peer.call("x", {})
    assert wire.notices == [{"event": "exited", "container": "a"}]


async def test_a_request_larger_than_the_socket_takes_goes_out_in_time(wire: Wire) -> None:
    big = {"text": "x" * (1 << 20)}
    async with anyio.create_task_group() as tasks:
        for verb, args in (("big", big), ("small", {})):
            tasks.start_soon(wire.peer.call, verb, args)
            await anyio.wait_all_tasks_blocked()
        for verb, args in (("big", big), ("small", {})):
            message = await wire.other.answer({})
            assert (message["verb"], message["args"]) == (verb, args)


async def test_asked_before_the_reader_runs() -> None:
    wire = Wire()
    async with anyio.create_task_group() as reader:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.peer.call, "big", {"text": "x" * (1 << 20)})
            await anyio.wait_all_tasks_blocked()
            reader.start_soon(wire.peer.run)
            await wire.other.answer({})
        await wire.peer.aclose()
    wire.other.connection.close()


async def test_a_report_that_comes_unasked_is_kept_for_who_expects_it(wire: Wire) -> None:
    report = wire.peer.expect(0)
    os.write(wire.other.connection.fileno(), encode({"id": 0, "ok": {"id": "a"}}))
    assert (await report.answer())[0] == {"id": "a"}


async def test_the_last_words_of_a_peer_are_heard_before_its_end() -> None:
    """As of a shim that has refused and hung up before it is asked for anything."""
    wire = Wire()
    report = wire.peer.expect(0)
    refusal = {"kind": "Conflict", "message": "it has a shim already", "remedy": ""}
    os.write(wire.other.connection.fileno(), encode({"id": 0, "error": refusal}))
    wire.other.connection.close()
    wire.peer.post("subscribe", {})
    async with anyio.create_task_group() as reader:
        reader.start_soon(wire.peer.run)
        with pytest.raises(Conflict, match="it has a shim already"):
            await report.answer()
        with pytest.raises(ConnectionLost):
            await wire.peer.call("status", {})
