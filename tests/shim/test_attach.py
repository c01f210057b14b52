"""Attachments: frames, input to a pipe, who is too slow, and what the end of input means."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podd.shim import attach
from podd.shim.attach import RESIZE, STDERR, STDIN, STDOUT, BadFrame, FrameReader, Hub, Input
from podd.shim.loop import Later, Loop


def frame(stream: int, payload: bytes) -> bytes:
    return struct.pack(">BI", stream, len(payload)) + payload


INPUTS = st.lists(
    st.tuples(st.just(STDIN), st.binary(max_size=30)) | st.tuples(st.just(RESIZE), st.binary(min_size=4, max_size=4)),
    max_size=8,
)


@settings(deadline=None)
@given(INPUTS, st.data())
def test_frames_do_not_depend_on_how_the_bytes_arrive(inputs: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frame(*one) for one in inputs)
    reader = FrameReader()
    got: list[tuple[int, bytes]] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += list(reader.feed(stream[:size]))
        stream = stream[size:]

    def joined(frames: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Input that follows input, put together: its frames have no meaning of their own."""
        result: list[tuple[int, bytes]] = []
        for kind, payload in frames:
            if result and kind == STDIN and payload and result[-1][0] == STDIN and result[-1][1]:
                result[-1] = (kind, result[-1][1] + payload)
            else:
                result.append((kind, payload))
        return result

    assert joined(got) == joined(inputs)


@pytest.mark.parametrize("data", [frame(1, b"x"), frame(9, b""), frame(RESIZE, b"123"), b"\xff" * 9])
def test_nonsense_is_an_error(data: bytes) -> None:
    with pytest.raises(BadFrame):
        list(FrameReader().feed(data))


class World:
    """A hub in front of a pipe as the container's stdin, and a loop that can be turned."""

    def __init__(self, *, stdin: bool = True, stdin_once: bool = False) -> None:
        self.errors: list[Exception] = []
        self.loop = Loop(self.errors.append).open()
        self.stdin, write = os.pipe()
        os.set_blocking(write, False)
        given_input = Input(self.loop, write, is_terminal=False) if stdin else None
        if given_input is None:
            os.close(write)
        self.hub = Hub(self.loop, given_input, stdin_once=stdin_once)

    def turn(self, until: Callable[[], bool] = lambda: False) -> None:
        """Serve what is ready now, or until the condition holds."""
        for _ in range(1000):
            done: Later[None] = Later()
            self.loop.after(0, lambda done=done: done.set(None))  # type: ignore[misc]
            self.loop.run(done)
            if until():
                return

    def attach(self, *, stdin: bool) -> socket.socket:
        """The reader's end."""
        ours, theirs = socket.socketpair()
        self.hub.adopt(ours, stdin=stdin)
        return theirs

    def close(self) -> None:
        self.hub.close()
        os.close(self.stdin)
        assert self.errors == []


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def ended(sock: socket.socket) -> bool:
    """Whether the other side is closed and all it sent has been read."""
    try:
        return sock.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


def test_everybody_gets_the_output_from_now_on(world: World) -> None:
    world.hub.output(STDOUT, b"before")
    with world.attach(stdin=False) as one, world.attach(stdin=True) as two:
        world.hub.output(STDOUT, b"out")
        world.hub.output(STDERR, b"err")
        for sock in (one, two):
            assert sock.recv(100) == frame(STDOUT, b"out") + frame(STDERR, b"err")


def test_input_reaches_the_container(world: World) -> None:
    with world.attach(stdin=True) as one, world.attach(stdin=False) as two:
        two.send(frame(STDIN, b"not asked for"))
        world.turn()
        one.send(frame(STDIN, b"hel") + frame(RESIZE, b"\0\x18\0\x50") + frame(STDIN, b"lo"))
        world.turn()
        assert os.read(world.stdin, 100) == b"hello"


def test_input_waits_for_a_container_that_does_not_read(world: World) -> None:
    sent = os.urandom(1 << 20)
    with world.attach(stdin=True) as sock:
        sock.setblocking(False)
        stream, got = frame(STDIN, sent), b""
        while len(got) < len(sent):
            if stream:
                try:
                    stream = stream[sock.send(stream) :]
                except BlockingIOError:
                    got += os.read(world.stdin, 50_000)
            else:
                got += os.read(world.stdin, 50_000)
            world.turn(lambda: True)
    assert got == sent


def at_end_of_file(fd: int) -> bool:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 1) == b""
    except BlockingIOError:
        return False


@pytest.mark.parametrize("stdin_once", [True, False])
@pytest.mark.parametrize("how", ["end of input", "detach"])
def test_end_of_the_first_input_closes_stdin_where_it_is_once(stdin_once: bool, how: str) -> None:
    world = World(stdin_once=stdin_once)
    sock = world.attach(stdin=True)
    sock.send(frame(STDIN, b"x"))
    world.turn()
    assert os.read(world.stdin, 10) == b"x"
    if how == "end of input":
        sock.send(frame(STDIN, b""))
    else:
        sock.close()
    world.turn()
    assert at_end_of_file(world.stdin) is stdin_once
    sock.close()
    world.close()


def test_detaching_an_output_reader_leaves_stdin_open() -> None:
    world = World(stdin_once=True)
    world.attach(stdin=False).close()
    world.turn()
    assert not at_end_of_file(world.stdin)
    world.close()


def test_container_without_stdin_takes_none() -> None:
    world = World(stdin=False)
    with world.attach(stdin=True) as sock:
        sock.send(frame(STDIN, b"x") + frame(RESIZE, b"\0\1\0\1") + frame(STDIN, b""))
        world.turn()
        world.hub.output(STDOUT, b"still here")
        assert sock.recv(100) == frame(STDOUT, b"still here")
    world.close()


def test_container_that_closed_its_stdin(world: World) -> None:
    os.close(world.stdin)
    with world.attach(stdin=True) as sock:
        sock.send(frame(STDIN, b"x"))
        world.turn()
        world.hub.output(STDOUT, b"still here")
        assert sock.recv(100) == frame(STDOUT, b"still here")
    world.stdin = os.open("/dev/null", os.O_RDONLY)


def test_slow_reader_is_dropped_and_the_others_are_not(world: World) -> None:
    slow, good = world.attach(stdin=False), world.attach(stdin=False)
    got = 0
    chunk = b"x" * 50_000
    rounds = 10 * attach.MAX_BEHIND // len(chunk)
    for _ in range(rounds):
        world.hub.output(STDOUT, chunk)
        got += len(good.recv(1 << 20))
        world.turn(lambda: True)
    while got < rounds * (len(chunk) + 5):
        got += len(good.recv(1 << 20))
        world.turn(lambda: True)
    held = 0
    while data := slow.recv(1 << 20):
        held += len(data)
    assert held < 4 * attach.MAX_BEHIND
    assert got == rounds * (len(chunk) + 5)
    slow.close()
    good.close()


def test_end_of_the_container_gives_each_reader_the_rest(world: World) -> None:
    with world.attach(stdin=False) as sock:
        big = b"x" * 700_000
        world.hub.output(STDOUT, big)
        world.hub.end()
        got = b""
        while data := sock.recv(1 << 20):
            got += data
            world.turn(lambda: True)
        assert got == frame(STDOUT, big)


def test_nonsense_ends_the_attachment_alone(world: World) -> None:
    with world.attach(stdin=True) as bad, world.attach(stdin=True) as good:
        bad.send(b"\xff" * 100)
        world.turn()
        assert ended(bad)
        good.send(frame(STDIN, b"x"))
        world.turn()
        assert os.read(world.stdin, 10) == b"x"
