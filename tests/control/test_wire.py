"""Messages and their descriptors stay together, on either event loop."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import anyio
import pytest

from control.harness import open_descriptors
from podd.control.wire import Channel, Disconnected, Malformed, Message, decode_call
from podd.errors import Invalid

Pair = tuple[Channel, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A channel that takes 1 MiB and 4 descriptors, and the peer's bare socket."""
    before = open_descriptors()
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        yield Channel(ours, max_bytes=1 << 20, max_fds=4), theirs
    assert open_descriptors() == before, "a descriptor leaked"


def run(backend: str, func: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with anyio.fail_after(10):
            await func()

    anyio.run(bounded, backend=backend)


def send_fds(sock: socket.socket, data: bytes, count: int) -> None:
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * count))])


async def take(channel: Channel, count: int) -> Sequence[Message]:
    messages = []
    for _ in range(count):
        message = await channel.receive(within_s=5)
        assert message is not None
        messages.append(message)
    return messages


def test_descriptors_stay_with_the_message_they_came_with(pair: Pair, backend: str) -> None:
    channel, peer = pair

    async def main() -> None:
        peer.sendall(b"a\0")  # the kernel would hand out all five in two reads
        send_fds(peer, b"b\0", 1)
        peer.sendall(b"c\0d\0")
        send_fds(peer, b"e\0", 2)
        messages = await take(channel, 5)
        assert [(m.data, len(m.fds)) for m in messages] == [(b"a", 0), (b"b", 1), (b"c", 0), (b"d", 0), (b"e", 2)]
        for message in messages:
            message.fds.close()

    run(backend, main)


def test_a_message_in_pieces_keeps_all_its_descriptors(pair: Pair, backend: str) -> None:
    channel, peer = pair

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, in_pieces)
            (message,) = await take(channel, 1)
        assert len(message.data) == 600_002
        assert len(message.fds) == 3
        message.fds.close()

    def in_pieces() -> None:
        send_fds(peer, b"{", 2)
        peer.sendall(b" " * 600_000)
        send_fds(peer, b"}\0", 1)

    run(backend, main)


@pytest.mark.parametrize("fds", [5, 6, 64, 250])
def test_more_descriptors_than_allowed_are_closed(pair: Pair, backend: str, fds: int) -> None:
    channel, peer = pair

    async def main() -> None:
        send_fds(peer, b"a\0", fds)
        with pytest.raises(Malformed, match="more than 4 descriptors"):
            await channel.receive(within_s=5)

    run(backend, main)


def test_descriptors_of_a_message_that_never_ends_are_closed(pair: Pair, backend: str) -> None:
    channel, peer = pair

    async def main() -> None:
        send_fds(peer, b"a", 4)
        with pytest.raises(Malformed, match="no end within"):
            await channel.receive(within_s=0.01)

    run(backend, main)


def test_a_message_that_is_cut_off(pair: Pair, backend: str) -> None:
    channel, peer = pair

    async def main() -> None:
        send_fds(peer, b"a", 1)
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(Malformed, match="cut off"):
            await channel.receive(within_s=5)

    run(backend, main)


@pytest.mark.parametrize(("size", "fits"), [(1 << 20, True), ((1 << 20) + 1, False)])
def test_the_largest_message(pair: Pair, backend: str, size: int, fits: bool) -> None:
    channel, peer = pair

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, lambda: peer.sendall(b"x" * size + b"\0"))
            if fits:
                (message,) = await take(channel, 1)
                assert len(message.data) == size
            else:
                with pytest.raises(Malformed, match="larger than 1048576 bytes"):
                    await channel.receive(within_s=5)
                await channel.drain(within_s=0.05)

    run(backend, main)


def test_a_send_that_was_cancelled_half_way_tears_the_channel(pair: Pair, backend: str) -> None:
    channel, peer = pair

    async def main() -> None:
        with anyio.move_on_after(0.01):
            await channel.send(b"x" * (1 << 20), stall_s=None)
        with pytest.raises(Disconnected):
            await channel.send(b"y", stall_s=None)
        channel.farewell(b"z")
        channel.sock.close()
        received = b""
        while chunk := peer.recv(1 << 20):
            received += chunk
        assert set(received) == set(b"x")

    run(backend, main)


def test_a_peer_that_takes_nothing_is_given_up(pair: Pair, backend: str) -> None:
    channel, _ = pair

    async def main() -> None:
        with pytest.raises(Disconnected):
            await channel.send(b"x" * (1 << 20), stall_s=0.01)

    run(backend, main)


def test_sends_of_several_tasks_do_not_mix(pair: Pair, backend: str) -> None:
    channel, peer = pair
    sent = [bytes([letter]) * 300_000 for letter in b"abcd"]
    received = bytearray()

    def read() -> None:
        while received.count(b"\0") < len(sent):
            received.extend(peer.recv(1 << 20))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, read)
            for data in sent:
                tasks.start_soon(partial(channel.send, data, stall_s=5))
        assert sorted(received.split(b"\0")[:-1]) == sent

    run(backend, main)


def test_a_peer_that_has_closed(pair: Pair, backend: str) -> None:
    channel, peer = pair

    async def main() -> None:
        reader, writer = os.pipe()
        peer.close()
        assert await channel.receive(within_s=5) is None
        with pytest.raises(Disconnected):
            await channel.send(b"x", [reader], stall_s=5)
        os.close(reader)
        os.close(writer)

    run(backend, main)


NOT_CALLS = {
    "nothing": b"",
    "text": b"hello",
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "half an object": b'{"method":"io.podd.List"',
    "an array": b"[]",
    "null": b"null",
    "a number": b"9" * 5000,
    "no method": b"{}",
    "method null": b'{"method":null}',
    "method of the wrong type": b'{"method":1}',
    "more of the wrong type": b'{"method":"io.podd.List","more":"yes"}',
    "oneway of the wrong type": b'{"method":"io.podd.List","oneway":1}',
    "trailing data": b'{"method":"io.podd.List"}}',
    "invalid UTF-8": b'{"method":"\xff\xfe"}',
    "a lone surrogate": b'{"method":"\\ud800"}',
    "a byte order mark": b'\xef\xbb\xbf{"method":"io.podd.List"}',
    "NaN": b'{"method":"io.podd.List","parameters":NaN}',
    "deep arrays": b'{"method":"io.podd.List","parameters":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep and unfinished": b"[" * 1_000_000,
}


@pytest.mark.parametrize("data", NOT_CALLS.values(), ids=NOT_CALLS)
def test_what_is_not_a_call(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        decode_call(data)
    assert isinstance(caught.value, Invalid)
    assert len(caught.value.message) < 200, "it does not echo what came"


def test_a_repeated_member_counts_last_and_an_unknown_one_nothing() -> None:
    assert decode_call(b'{"method":"a","x":[1],"method":"b"}').method == "b"
