"""The files of one container instance's log as a stream of entries, however they are rotated meanwhile.

The writer (podd.shim.logs) keeps `x.log` and, renamed, `x.log.1` (the one before) and so on. No entry lies in two
files, and one that was renamed is written no more. The reader holds open what it has yet to read, so what is renamed or
removed meanwhile is read all the same.
Source: the CRI logging design of Kubernetes.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple

from podd.engine.clock import parse_rfc3339, rfc3339_nano

CHUNK_BYTES = 64 * 1024
MAX_ENTRY_BYTES = 64 * 1024
"""More than this without a newline is no entry."""
SNAPSHOT_TRIES = 1000

Stream = Literal["stdout", "stderr"]

_STREAMS: dict[bytes, Stream] = {b"stdout": "stdout", b"stderr": "stderr"}
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
_NUMBER = re.compile(r"|\.[1-9]\d{0,8}", re.ASCII)


class Entry(NamedTuple):
    time: str  # RFC 3339 with nanoseconds, UTC
    stream: Stream
    ends_line: bool
    text: bytes


def parse(line: bytes) -> Entry | None:
    """`<time> stdout|stderr F|P <text>`, without the newline. None: it is no log entry, and is passed over."""
    stamp, _, rest = line.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    tags, _, text = rest.partition(b" ")
    name = _STREAMS.get(stream)
    tag = tags.partition(b":")[0]
    if name is None or tag not in (b"F", b"P"):
        return None
    if _STAMP.fullmatch(stamp):
        return Entry(stamp.decode(), name, tag == b"F", text)
    try:
        return Entry(rfc3339_nano(parse_rfc3339(stamp.decode("ascii"))), name, tag == b"F", text)
    except ValueError:
        return None


def prune(directory: str, keep: Collection[int]) -> None:
    """Remove the logs of all instances but those. directory: of one container. What cannot be removed stays."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            attempt = name.partition(".")[0]
            if attempt.isdecimal() and int(attempt) not in keep:
                with contextlib.suppress(OSError):
                    os.unlink(f"{directory}/{name}")


class Reader:
    """Blocking; for one caller at a time. Raises OSError: a file cannot be read."""

    def __init__(self, path: str) -> None:
        """path: absolute, of the current file."""
        self._path = path
        self._files: deque[int] = deque()  # descriptors, the oldest first; only the last may still grow
        self._at = 0  # in the first
        self._torn = b""  # the beginning of an entry whose end was not there yet
        self._dropping = False  # within something too long to be an entry

    def start(self, tail: int | None, since_ns: int | None) -> None:
        """Go to where to begin: the last so many lines, or roughly a time. Without a log yet: to its beginning."""
        self._files.extend(_open_all(self._path))
        if since_ns is not None:
            while len(self._files) > 1 and os.fstat(self._files[0]).st_mtime_ns < since_ns:
                os.close(self._files.popleft())
        if tail is not None:
            self._seek_tail(tail)

    def read(self) -> bytes:
        """The next whole entries, about CHUNK_BYTES of them; b"" when there are none now."""
        while True:
            if not self._files:
                self._files.extend(_open_all(self._path))
                if not self._files:
                    return b""
            data = os.pread(self._files[0], CHUNK_BYTES, self._at)
            if data:
                self._at += len(data)
                if whole := self._whole(data):
                    return whole
            elif not self._next_file():
                return b""

    def close(self) -> None:
        while self._files:
            os.close(self._files.popleft())

    def _next_file(self) -> bool:
        """At the end of a file: is there more to read, here or in the next one?"""
        first = self._files[0]
        if len(self._files) == 1:
            found = os.fstat(first)
            if found.st_size < self._at:  # somebody emptied it
                self._begin_file()
                return True
            try:
                is_current = os.path.samestat(os.stat(self._path), found)
            except FileNotFoundError:  # renamed away, and the next one is not there yet
                is_current = True
            if is_current:
                return False
            self._files.extend(_open_all(self._path, newer_than=found))
            if os.fstat(first).st_size > self._at:  # written after our last look and before it was renamed
                return True
        os.close(self._files.popleft())
        self._begin_file()
        return True

    def _begin_file(self) -> None:
        self._at, self._torn, self._dropping = 0, b"", False

    def _whole(self, data: bytes) -> bytes:
        """What is complete now, together with what was torn before."""
        begin = data.find(b"\n") + 1 if self._dropping else 0
        end = data.rfind(b"\n") + 1
        whole = self._torn + data[begin:end] if end else b""
        if end:
            self._torn, self._dropping = data[end:], False
        elif not self._dropping:
            self._torn += data
        if len(self._torn) > MAX_ENTRY_BYTES:
            self._torn, self._dropping = b"", True
        return whole

    def _seek_tail(self, lines: int) -> None:
        """Go to the place where the last so many lines begin, and let go of the files before."""
        wanted = _Countdown(lines)
        for index in range(len(self._files) - 1, -1, -1):
            at = _find_back(self._files[index], wanted)
            if at is not None:
                for _ in range(index):
                    os.close(self._files.popleft())
                self._at = at
                return


class _Countdown:
    """Counts lines from the end: seen from there, an entry that ends a line is the first of another."""

    def __init__(self, lines: int) -> None:
        self._left = lines
        self._at_end = True

    def is_before(self, entry: Entry) -> bool:
        """Does it lie before the lines that are wanted? Pieces after the last whole line count as one."""
        if entry.ends_line or self._at_end:
            self._left -= 1
        self._at_end = False
        return self._left < 0


def _find_back(fd: int, wanted: _Countdown) -> int | None:
    """The offset after the last entry that is not wanted. None: all of the file is."""
    at = os.fstat(fd).st_size
    rest = b""  # the end of an entry whose beginning is still to be read
    while at > 0:
        begin = max(0, at - CHUNK_BYTES)
        block = os.pread(fd, at - begin, begin) + rest
        at = begin
        if begin:
            head, newline, block = block.partition(b"\n")
            rest = head + newline if len(head) < MAX_ENTRY_BYTES else b"\n"
            begin += len(head) + 1
        for line, end in reversed(list(_lines(block, begin))):
            entry = parse(line)
            if entry is not None and wanted.is_before(entry):
                return end
    return None


def _lines(block: bytes, begin: int) -> Iterator[tuple[bytes, int]]:
    """Each whole line of a block that lies at `begin`, without its newline, and the offset after it."""
    at = 0
    while newline := block.find(b"\n", at) + 1:
        yield block[at : newline - 1], begin + newline
        at = newline


def _open_all(path: str, newer_than: os.stat_result | None = None) -> list[int]:
    """The files of a log, all of one moment, the oldest first; only those after the given one."""
    for _ in range(SNAPSHOT_TRIES):
        listed = _listing(path)
        opened = _open_each(path, listed)
        if opened is not None and _listing(path) == listed:
            return opened if newer_than is None else _only_newer(opened, newer_than)
        for fd in opened or ():
            os.close(fd)
    raise TimeoutError(0, "is renamed faster than it can be opened", path)


def _listing(path: str) -> list[tuple[int, int]]:
    """(number, inode) of each file: `x.log` has number 0, `x.log.2` has 2. The highest, which is the oldest, first."""
    directory, name = os.path.split(path)
    try:
        with os.scandir(directory) as entries:
            found = [(entry.name.removeprefix(name), entry.inode()) for entry in entries if entry.name.startswith(name)]
    except FileNotFoundError:
        return []
    return sorted(((int(rest[1:] or 0), inode) for rest, inode in found if _NUMBER.fullmatch(rest)), reverse=True)


def _open_each(path: str, listed: list[tuple[int, int]]) -> list[int] | None:
    """None: one has another name by now."""
    opened: list[int] = []
    for number, inode in listed:
        try:
            fd = os.open(f"{path}.{number}" if number else path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            fd = -1
        else:
            opened.append(fd)
        if fd < 0 or os.fstat(fd).st_ino != inode:
            for other in opened:
                os.close(other)
            return None
    return opened


def _only_newer(opened: list[int], than: os.stat_result) -> list[int]:
    """Close the others. Where the given file has no name any more, those are newer that were written later."""
    stats = [os.fstat(fd) for fd in opened]
    named = next((index for index, found in enumerate(stats) if os.path.samestat(found, than)), None)
    keep = []
    for index, (fd, found) in enumerate(zip(opened, stats, strict=True)):
        if index > named if named is not None else found.st_mtime_ns >= than.st_mtime_ns:
            keep.append(fd)
        else:
            os.close(fd)
    return keep
