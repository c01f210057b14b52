"""A container's output, brought from dockerd's log into the file in CRI format that the rest of podd reads.

dockerd keeps the output while podd is away; both logs carry the same time stamps. So whoever takes up a log again looks
what its end holds, asks dockerd for everything from shortly before, and leaves out what is there. "Shortly before": the
two streams are stamped by two threads of dockerd's, and one that was stamped earlier may be written later.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import anyio

from podd.model.value import Value
from podd.shim.logs import RotatedFile
from podd_docker.api import Api
from podd_docker.times import nanoseconds, stamp_of

_STAMP_BYTES = len("2006-01-02T15:04:05.000000000Z")
_HEADER = struct.Struct(">BxxxI")
_STREAMS = {1: b"stdout", 2: b"stderr"}
_OVERLAP_NS = 200_000_000
_BLOCK_BYTES = 64 * 1024

Key = tuple[bytes, bytes]
"""Stamp and stream of an entry."""


class Log(Value):
    """Where it goes; as labelled on the container."""

    path: str
    max_bytes: int
    max_files: int


async def copy(api: Api, docker_id: str, log: Log, *, tty: bool, begun: Callable[[], None] = lambda: None) -> None:
    """Until dockerd has no more: the container has ended. Can be cancelled and done again anywhere.

    begun: called once dockerd gives it."""
    seen, since = await anyio.to_thread.run_sync(_tail, log.path)
    how = {"follow": "1", "stdout": "1", "stderr": "1", "timestamps": "1", "since": since}
    file = await anyio.to_thread.run_sync(RotatedFile, log.path, log.max_bytes, log.max_files)
    stamp = b""
    try:
        async with api.stream("GET", f"containers/{docker_id}/logs", how) as chunks:
            begun()
            async for messages in _messages(chunks, tty=tty):
                entries = b"".join(_fresh(messages, seen))
                if entries:
                    stamp = entries[:_STAMP_BYTES]
                    await anyio.to_thread.run_sync(file.write, entries, stamp)
    finally:
        file.close(stamp)


def _fresh(messages: list[tuple[bytes, bytes]], seen: Counter[Key]) -> Iterator[bytes]:
    for stream, message in messages:
        stamp, text = message[:_STAMP_BYTES], message[_STAMP_BYTES + 1 :]
        if seen[stamp, stream] > 0:
            seen[stamp, stream] -= 1
        elif text.endswith(b"\n"):
            yield b"%b %b F %b" % (stamp, stream, text)
        else:
            yield b"%b %b P %b\n" % (stamp, stream, text)


async def _messages(chunks: AsyncIterator[bytes], *, tty: bool) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    """Stream, and stamp with text: as many at a time as have come. With a terminal there are no frames, only lines."""
    buffer = b""
    async for chunk in chunks:
        buffer += chunk
        found: list[tuple[bytes, bytes]] = []
        at = 0
        if tty:
            at = buffer.rfind(b"\n") + 1
            found = [(b"stdout", line) for line in buffer[:at].splitlines(keepends=True)]
        else:
            while len(buffer) - at >= _HEADER.size:
                stream, size = _HEADER.unpack_from(buffer, at)
                if len(buffer) - at < _HEADER.size + size:
                    break
                found.append((_STREAMS.get(stream, b"stderr"), buffer[at + _HEADER.size : at + _HEADER.size + size]))
                at += _HEADER.size + size
        buffer = buffer[at:]
        if found:
            yield found


# ---- what is there already -------------------------------------------------------------------------------------------


def _tail(path: str) -> tuple[Counter[Key], str]:
    """The entries at the end of a log, and the time from which dockerd's are wanted: "0" for all."""
    _drop_torn_line(path)
    seen: Counter[Key] = Counter()
    oldest = ""
    for name in (path, f"{path}.1"):
        for line in _backwards(name):
            key = _key(line)
            if not oldest:
                oldest = _before(key[0])
            if key[0].decode() < oldest:
                return seen, _seconds(oldest)
            seen[key] += 1
    return seen, _seconds(oldest) if oldest else "0"


def _key(line: bytes) -> Key:
    stamp, _, rest = line.partition(b" ")
    return stamp, rest[:6]


def _drop_torn_line(path: str) -> None:
    """What a crash of the machine has left of an entry."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(fd).st_size
        end = size
        while end > 0:
            block = os.pread(fd, min(_BLOCK_BYTES, end), max(0, end - _BLOCK_BYTES))
            if (at := block.rfind(b"\n")) >= 0:
                end = max(0, end - _BLOCK_BYTES) + at + 1
                break
            end = max(0, end - _BLOCK_BYTES)
        if end < size:
            os.ftruncate(fd, end)
    finally:
        os.close(fd)


def _backwards(path: str) -> Iterator[bytes]:
    """The lines of a file, the last one first."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        at, rest = os.fstat(fd).st_size, b""
        while at > 0:
            size = min(_BLOCK_BYTES, at)
            at -= size
            first, *lines = (os.pread(fd, size, at) + rest).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            rest = first
        if rest:
            yield rest
    finally:
        os.close(fd)


def _before(stamp: bytes) -> str:
    """The same form, a little earlier."""
    return stamp_of(nanoseconds(stamp.decode()) - _OVERLAP_NS)


def _seconds(stamp: str) -> str:
    """As dockerd takes the beginning of a log."""
    seconds, fraction = divmod(nanoseconds(stamp), 1_000_000_000)
    return f"{seconds}.{fraction:09d}"
