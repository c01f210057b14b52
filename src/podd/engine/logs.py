"""Reading a container's log for somebody: lines in order, from where they want, for as long as they want.

Nothing is queued: it is read as fast as the reader asks. What may have to come from a disk is read in a worker thread;
what was written just now, and is therefore in memory, is read directly.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import anyio
import anyio.lowlevel
import anyio.to_thread

from podd.engine.clock import rfc3339_nano
from podd.engine.logfiles import Entry, Reader, Stream, parse
from podd.engine.view import LogLine
from podd.errors import Unavailable
from podd.model.value import Value

POLL_S = 0.1
MAX_LINE_BYTES = 256 * 1024
"""A longer line is told in parts."""


class Standing(Value):
    """Where a container has got to. attempt: of its newest instance. over: that has ended, and no other will come."""

    attempt: int
    over: bool


async def read_log(
    directory: str,
    container: str,
    attempt: int,
    *,
    tail: int | None = None,
    since_ns: int | None = None,
    follow: Callable[[], Standing] | None = None,
) -> AsyncGenerator[Sequence[LogLine], None]:
    """Batches of lines, the oldest first; no batch is empty, and none is much larger than MAX_LINE_BYTES.

    directory: of the container's logs. attempt: the instance whose log to read, `<attempt>.log`. One that has written
    nothing has no file, and no lines.
    tail: begin with the last so many of its lines; one that was written in pieces among lines of the other stream may
    lack its beginning. since_ns: no lines from before.
    follow: go on, also into the logs of later instances, until it says that all is over.
    Raises Unavailable: it cannot be read.
    """
    while True:
        reader = Reader(os.path.join(directory, f"{attempt}.log"))
        joiner = _Joiner(container, since_ns)
        try:
            await anyio.to_thread.run_sync(reader.start, tail, since_ns)
            async with aclosing(_entries(reader, attempt, follow)) as coming:
                async for entries in coming:
                    if lines := joiner.feed(entries):
                        yield lines
            if lines := joiner.end():
                yield lines
        except OSError as exc:
            raise Unavailable(f"log: {exc.filename or directory}: {(exc.strerror or str(exc)).lower()}") from exc
        finally:
            reader.close()
        if follow is None or follow().attempt <= attempt:
            return
        attempt, tail = attempt + 1, None


async def _entries(reader: Reader, attempt: int, follow: Callable[[], Standing] | None) -> AsyncGenerator[bytes, None]:
    """What is there; then, when following, what comes until this instance is over."""
    while entries := await anyio.to_thread.run_sync(reader.read):
        yield entries
    quiet = False
    while follow is not None:
        # Asked before reading, so what was written before the end was known is read after it. And once more, since
        # the end of a process may be known a moment before its last words are in the file.
        standing = follow()
        is_over = standing.over or standing.attempt > attempt
        if entries := reader.read():
            quiet = False
            await anyio.lowlevel.checkpoint()
            yield entries
        elif is_over and quiet:
            return
        else:
            quiet = is_over
            await anyio.sleep(POLL_S)


class _Unfinished:
    """A line of which only pieces have come. time: of the first since the last `take`."""

    def __init__(self, time: str) -> None:
        self.time = time
        self.size = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []

    def add(self, entry: Entry) -> None:
        if not self.size:
            self.time = entry.time
        self.size += len(entry.text)
        self._pieces.append(self._decoder.decode(entry.text))

    def take(self, *, final: bool) -> str:
        """What has come, but a character that is still to be completed."""
        text = "".join(self._pieces) + self._decoder.decode(b"", final)
        self._pieces.clear()
        self.size = 0
        return text


class _Joiner:
    """Makes lines of entries: pieces are put together up to MAX_LINE_BYTES."""

    def __init__(self, container: str, since_ns: int | None) -> None:
        self._container = container
        self._since = "" if since_ns is None else rfc3339_nano(max(0, since_ns))
        self._unfinished: dict[Stream, _Unfinished] = {}

    def feed(self, entries: bytes) -> list[LogLine]:
        parsed = (entry for line in entries.split(b"\n") if (entry := parse(line)) is not None)
        return [line for entry in parsed if (line := self._take(entry)) is not None]

    def end(self) -> list[LogLine]:
        """Last words that never got their newline."""
        last = sorted(self._unfinished.items(), key=lambda item: item[1].time)
        self._unfinished.clear()
        lines = (self._line(left.time, stream, left.take(final=True), partial=True) for stream, left in last)
        return [line for line in lines if line is not None and line.text]

    def _take(self, entry: Entry) -> LogLine | None:
        left = self._unfinished.get(entry.stream)
        if left is None and entry.ends_line:
            return self._line(entry.time, entry.stream, entry.text.decode("utf-8", "replace"), partial=False)
        if left is None:
            left = self._unfinished[entry.stream] = _Unfinished(entry.time)
        left.add(entry)
        if entry.ends_line:
            del self._unfinished[entry.stream]
        elif left.size < MAX_LINE_BYTES:
            return None
        return self._line(left.time, entry.stream, left.take(final=entry.ends_line), partial=not entry.ends_line)

    def _line(self, time: str, stream: Stream, text: str, *, partial: bool) -> LogLine | None:
        if time < self._since:
            return None
        return LogLine(time=time, stream=stream, text=text, partial=partial, container=self._container)
