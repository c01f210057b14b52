"""Framing: whatever way the bytes arrive, the same frames with the same descriptors; nonsense ends the connection."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podd.errors import Conflict, Internal, NotFound
from podd.shim import wire
from podd.shim.plan import MAX_MESSAGE

MESSAGES = st.lists(st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=40)), max_size=6)


@pytest.fixture
def pair() -> Iterator[tuple[wire.Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    connection = wire.Connection(ours)
    yield connection, theirs
    connection.close()
    theirs.close()


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@settings(deadline=None)
@given(MESSAGES, st.data())
def test_frames_do_not_depend_on_how_the_bytes_arrive(messages: list[dict[str, object]], data: st.DataObject) -> None:
    stream = b"".join(wire.encode(message) for message in messages)
    decoder = wire.Decoder()
    got = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += [message for message, _ in decoder.feed(stream[:size])]
        stream = stream[size:]
    assert got == messages


NONSENSE = {
    "a length beyond the limit": struct.pack(">I", MAX_MESSAGE + 1),
    "text of another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "not JSON": struct.pack(">I", 4) + b"oops",
    "not UTF-8": struct.pack(">I", 4) + b"\xff\xfe\x00\x00",
    "not an object": struct.pack(">I", 2) + b"[]",
    "nested without end": struct.pack(">I", 200_000) + b"[" * 200_000,
}


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_an_error(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.Decoder().feed(data)


def test_descriptors_of_frames_before_nonsense_are_closed(pair: tuple[wire.Connection, socket.socket]) -> None:
    connection, peer = pair
    before = open_fds()
    socket.send_fds(peer, [wire.encode({"a": 1}) + struct.pack(">I", 3) + b"???"], [0, 1])
    with pytest.raises(wire.WireError):
        connection.receive()
    assert open_fds() == before


def test_descriptors_arrive_with_their_frame(pair: tuple[wire.Connection, socket.socket]) -> None:
    connection, peer = pair
    sender = wire.Connection(peer.dup())
    read, write = os.pipe()
    sender.send({"n": 1})
    sender.send({"n": 2}, [write])
    sender.send({"n": 3})
    sender.send({"n": 4}, [read, write])
    frames: list[wire.Frame] = []
    while len(frames) < 4:
        received = connection.receive()
        assert received is not None
        frames += received
    assert [(message["n"], len(fds)) for message, fds in frames] == [(1, 0), (2, 1), (3, 0), (4, 2)]
    (theirs,) = frames[1][1].take()
    os.write(theirs, b"x")
    assert os.read(read, 1) == b"x"
    for fd in (read, write, theirs):
        os.close(fd)
    frames[3][1].close()
    sender.close()


def test_descriptors_of_a_frame_in_many_pieces(pair: tuple[wire.Connection, socket.socket]) -> None:
    connection, peer = pair
    frame = wire.encode({"text": "x" * 1000})
    socket.send_fds(peer, [frame[:3]], [0])
    assert connection.receive() == []
    peer.send(frame[3:500])
    assert connection.receive() == []
    peer.send(frame[500:])
    ((_, fds),) = connection.receive() or []
    assert len(fds) == 1
    fds.close()


def test_too_many_descriptors_are_refused_and_closed(pair: tuple[wire.Connection, socket.socket]) -> None:
    connection, peer = pair
    before = open_fds()
    socket.send_fds(peer, [wire.encode({})], [0] * (wire.MAX_DESCRIPTORS + 8))
    with pytest.raises(wire.WireError):
        connection.receive()
    assert open_fds() == before


def test_close_in_the_middle_of_a_frame_leaks_nothing() -> None:
    before = open_fds()
    ours, theirs = socket.socketpair()
    connection = wire.Connection(ours)
    socket.send_fds(theirs, [wire.encode({"a": 1})[:5]], [0, 1, 2])
    assert connection.receive() == []
    connection.close()
    theirs.close()
    assert open_fds() == before


def test_peer_that_does_not_read_is_given_up(pair: tuple[wire.Connection, socket.socket]) -> None:
    connection, _ = pair
    blocked: list[bool] = []
    connection.on_blocked = blocked.append
    before = open_fds()
    read, write = os.pipe()

    def flood() -> None:
        for _ in range(1000):
            connection.send({"text": "x" * 100_000}, [read])

    with pytest.raises(wire.WireError):
        flood()
    assert blocked[0] is True
    connection.close()
    os.close(read)
    os.close(write)
    assert len(open_fds()) < len(before)


def test_output_that_waited_arrives_whole(pair: tuple[wire.Connection, socket.socket]) -> None:
    connection, peer = pair
    reader = wire.Connection(peer.dup())
    blocked: list[bool] = []
    connection.on_blocked = blocked.append
    for n in range(30):
        connection.send({"n": n, "text": "x" * 50_000})
    got: list[int] = []
    while len(got) < 30:
        got += [message["n"] for message, _ in reader.receive() or []]
        connection.flush()
    assert got == list(range(30))
    assert blocked[-1] is False
    reader.close()


def test_end_of_the_peer_is_none(pair: tuple[wire.Connection, socket.socket]) -> None:
    connection, peer = pair
    peer.send(wire.encode({"n": 1}))
    peer.close()
    assert [message for message, _ in connection.receive() or []] == [{"n": 1}]
    assert connection.receive() is None


def test_message_that_is_too_long_is_not_sent(pair: tuple[wire.Connection, socket.socket]) -> None:
    connection, _ = pair
    with pytest.raises(wire.WireError):
        connection.send({"text": "x" * (MAX_MESSAGE + 1)})


ERRORS = {
    "of podd": (NotFound("container x: gone", remedy="look again"), NotFound, "container x: gone", "look again"),
    "no space": (OSError(28, "No space left on device", "/x"), None, "/x: No space left on device", ""),
    "a bug": (KeyError("args"), Internal, "KeyError: 'args'", ""),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_errors_travel(case: tuple[Exception, type[Exception] | None, str, str]) -> None:
    error, kind, message, remedy = case
    arrived = wire.error_from(json.loads(json.dumps(wire.error_of(error))))
    assert (arrived.message, arrived.remedy) == (message, remedy)
    assert kind is None or type(arrived) is kind


def test_unknown_kind_of_error_is_internal() -> None:
    assert type(wire.error_from({"kind": "Surprise", "message": "m"})) is Internal
    assert type(wire.error_from(wire.error_of(Conflict("c")))) is Conflict


def test_socket_below_a_directory_of_any_length(tmp_path: os.PathLike[str]) -> None:
    directory = f"{tmp_path}/{'d' * 100}/{'e' * 100}"
    os.makedirs(directory)
    for _ in range(2):  # again: in place of the first one
        with wire.listener(directory) as listening, wire.connect(directory) as client:
            assert os.stat(f"{directory}/shim.sock").st_mode & 0o777 == 0o600
            server, _ = listening.accept()
            client.send(b"x")
            assert server.recv(1) == b"x"
            server.close()
