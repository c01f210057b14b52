from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from podd.cli import streams

BIG = b"0123456789abcdef" * 64 * 1024  # 1 MiB: more than any pipe holds


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends; what the test has closed is left."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def writer(descriptor: int, data: bytes) -> threading.Thread:
    """Write it all and close, as a process would."""

    def work() -> None:
        with open(descriptor, "wb") as stream:
            stream.write(data)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def reader(descriptor: int, into: list[bytes]) -> threading.Thread:
    def work() -> None:
        with open(descriptor, "rb") as stream:
            into.append(stream.read())

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_copy_ends_with_its_source() -> None:
    source, to = os.pipe()
    back, sink = os.pipe()
    os.set_blocking(sink, False)
    got: list[bytes] = []
    threads = [writer(to, BIG), reader(back, got)]
    inlet = streams.copy(source, sink, own_source=True, own_sink=True)
    while not inlet.done or inlet.outlets[0].pending:
        streams.turn([inlet])
    for thread in threads:
        thread.join(20)
    assert got == [BIG]
    for descriptor in (source, sink):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_sink_that_is_full_does_not_keep_the_other_way_waiting() -> None:
    """Of a command that answers every byte before it reads on: both its pipes are full, and still all gets through."""
    from_user, user = os.pipe()
    command_in, to_command = os.pipe()
    from_command, command_out = os.pipe()
    shown, screen = os.pipe()
    got: list[bytes] = []

    def echo() -> None:
        with open(command_in, "rb", buffering=0) as given, open(command_out, "wb", buffering=0) as answered:
            while data := given.read(65536):
                answered.write(data)

    threads = [writer(user, BIG), threading.Thread(target=echo), reader(shown, got)]
    threads[1].start()
    os.set_blocking(to_command, False)
    os.set_blocking(from_command, False)
    inlets = [
        streams.copy(from_user, to_command, own_source=True, own_sink=True),
        streams.copy(from_command, screen, own_source=True, own_sink=True),
    ]
    while not inlets[1].outlets[0].gone:
        streams.turn(inlets)
    for thread in threads:
        thread.join(20)
    assert got == [BIG]


def test_writer_learns_that_nobody_reads(pipe: tuple[int, int]) -> None:
    source, command = os.pipe()
    os.close(pipe[0])
    inlet = streams.copy(source, pipe[1], own_source=True)
    os.write(command, b"x")
    while not inlet.done:
        streams.turn([inlet])
    with pytest.raises(BrokenPipeError):
        os.write(command, b"y")
    os.close(command)


def test_drain_takes_what_is_there_and_waits_for_no_more(pipe: tuple[int, int]) -> None:
    """A process that the command left behind still holds the pipe."""
    source, still_open = os.pipe()
    os.set_blocking(source, False)
    os.write(still_open, b"last words")
    streams.drain([streams.copy(source, pipe[1])])
    assert os.read(pipe[0], 100) == b"last words"
    os.close(source)
    os.close(still_open)


def test_drain_waits_for_the_reader() -> None:
    """A screen that takes little at a time gets everything."""
    source, command = os.pipe()
    shown, screen = os.pipe()
    os.set_blocking(source, False)
    os.set_blocking(screen, False)
    os.write(screen, b"s" * 65536)
    os.write(command, b"c" * 4096)
    os.close(command)
    got: list[bytes] = []
    inlet = streams.copy(source, screen, own_source=True, own_sink=True)
    streams.turn([inlet])  # what was read cannot be written yet
    thread = reader(shown, got)
    streams.drain([inlet])
    thread.join(20)
    assert got == [b"s" * 65536 + b"c" * 4096]


def test_turn_tells_of_the_one_that_is_waited_for(pipe: tuple[int, int]) -> None:
    quiet, quiet_writer = os.pipe()
    os.write(pipe[1], b"!")
    assert streams.turn([streams.copy(quiet, 1)], until=pipe[0])
    for descriptor in (quiet, quiet_writer):
        os.close(descriptor)
