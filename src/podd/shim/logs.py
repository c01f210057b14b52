"""A container's log in CRI format, rotated by size: `<RFC 3339 nano> stdout|stderr F|P <text>\n`.

F ends a line, P is a piece of a line that goes on (or the last piece of output that never got its newline), so the
bytes that the container wrote can be put together again exactly. `x.log` is the newest file; `x.log.1` was it before,
and so on up to log_max_files in all. Rotation renames, so a reader that holds a file keeps reading it; no line is ever
divided between two files.
Source: the CRI logging design of Kubernetes; pieces of 16 KiB as containerd and CRI-O have them.
"""

from __future__ import annotations

import contextlib
import os
import time

from podd.shim.files import unlink

MAX_PIECE = 16 * 1024
FILE_MODE = 0o640
DIRECTORY_MODE = 0o755


class Clock:
    """RFC 3339 with nanoseconds, UTC. Formats each second once."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def stamp(self, now_ns: int) -> bytes:
        second, fraction = divmod(now_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return b"%b.%09dZ" % (self._prefix.encode(), fraction)


class Lines:
    """The output of one stream, cut into log entries. Holds at most MAX_PIECE bytes: a line that is not complete."""

    __slots__ = ("_pending", "_stream")

    def __init__(self, stream: str) -> None:
        self._stream = stream.encode()
        self._pending = b""

    def feed(self, data: bytes, stamp: bytes) -> bytes:
        """The entries that data completes, all with the same stamp; b"" where it completes none."""
        *lines, rest = (self._pending + data).split(b"\n")
        if lines and max(map(len, lines)) > MAX_PIECE:
            entries = b"".join([self._long(line, b"F", stamp) for line in lines])
        elif lines:
            full = b"%b %b F " % (stamp, self._stream)
            entries = full + (b"\n" + full).join(lines) + b"\n"
        else:
            entries = b""
        if len(rest) > MAX_PIECE:
            keep = len(rest) - 1 - (len(rest) - 1) % MAX_PIECE  # never empty: the last piece may turn out to be the F
            entries += self._long(rest[:keep], b"P", stamp)
            rest = rest[keep:]
        self._pending = rest
        return entries

    def end(self, stamp: bytes) -> bytes:
        """What is left when the stream has ended without a newline."""
        rest, self._pending = self._pending, b""
        return self._long(rest, b"P", stamp) if rest else b""

    def _long(self, line: bytes, last: bytes, stamp: bytes) -> bytes:
        head = b"%b %b " % (stamp, self._stream)
        pieces = [line[at : at + MAX_PIECE] for at in range(0, len(line), MAX_PIECE)] or [b""]
        return b"".join(
            [b"%bP %b\n" % (head, piece) for piece in pieces[:-1]] + [head + last + b" " + pieces[-1] + b"\n"]
        )


class RotatedFile:
    """A file that is renamed away before it grows beyond max_bytes. Holds whole lines only.

    Never raises: what cannot be written (disk full, directory gone) is counted, the file is cut back to its last whole
    line, and an entry says what was lost as soon as writing works again.
    """

    __slots__ = ("_fd", "_lost_bytes", "_lost_lines", "_max_bytes", "_max_files", "_path", "_size", "_why")

    def __init__(self, path: str, max_bytes: int, max_files: int) -> None:
        """path: absolute; its directory is made when it is missing. max_files: the current one included, at least 1."""
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max(1, max_files)
        self._fd = -1
        self._size = 0
        self._lost_lines = 0
        self._lost_bytes = 0
        self._why = ""
        with contextlib.suppress(OSError):  # a log that stays empty exists too; the first write tells what is wrong
            self._open()

    def write(self, lines: bytes, stamp: bytes) -> None:
        """Append whole lines, one write(2) unless a rotation falls in between."""
        if self._lost_lines:
            if self._put(self._loss(stamp)):
                self._count_lost(lines)
                return
            self._lost_lines = self._lost_bytes = 0
        self._count_lost(self._put(lines))

    def close(self, stamp: bytes) -> None:
        """Say what was lost, if anything, and close."""
        if self._lost_lines:
            self.write(b"", stamp)
        self._release()

    def _put(self, lines: bytes) -> bytes:
        """What could not be written; always whole lines."""
        at = 0
        try:
            while at < len(lines):
                self._open()
                end = self._fitting(lines, at)
                if end > at:
                    self._append(lines[at:end] if end - at < len(lines) else lines)
                    at = end
                else:
                    self._rotate()
        except OSError as exc:
            self._why = exc.strerror or str(exc)
        return lines[at:]

    def _fitting(self, lines: bytes, at: int) -> int:
        """The end of what still fits in this file; `at` for nothing, but at least a line where the file is empty."""
        room = self._max_bytes - self._size
        if self._max_bytes <= 0 or len(lines) - at <= room:
            return len(lines)
        end = lines.rfind(b"\n", at, at + max(0, room)) + 1
        if end > at:
            return end
        return at if self._size else lines.index(b"\n", at) + 1

    def _append(self, data: bytes) -> None:
        """All of data, or none of it."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, self._size)  # a torn line would be read as a whole one; cutting needs no space
            raise
        self._size += len(data)

    def _open(self) -> None:
        """Have the current file open; a new one where somebody removed it."""
        if self._fd >= 0:
            if os.fstat(self._fd).st_nlink:
                return
            self._release()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path, flags, FILE_MODE)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self._path), DIRECTORY_MODE, exist_ok=True)
            self._fd = os.open(self._path, flags, FILE_MODE)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        """Make room for a new file. The oldest goes; a reader of the current one keeps it."""
        if self._max_files == 1:
            unlink(self._path)
        for number in range(self._max_files - 1, 0, -1):
            _rename(self._path if number == 1 else f"{self._path}.{number - 1}", f"{self._path}.{number}")
        self._release()

    def _release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = -1, 0

    def _count_lost(self, lines: bytes) -> None:
        self._lost_lines += lines.count(b"\n")
        self._lost_bytes += len(lines)

    def _loss(self, stamp: bytes) -> bytes:
        said = f"podd: {self._lost_lines} entries ({self._lost_bytes} bytes) of this log were lost: {self._why.lower()}"
        return b"%b stderr F %b\n" % (stamp, said.encode())


def _rename(old: str, new: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(old, new)


class Log:
    """Both streams of a container into one rotated file."""

    __slots__ = ("_clock", "_file", "_streams")

    def __init__(self, path: str, max_bytes: int, max_files: int) -> None:
        """path: "" keeps nothing."""
        self._clock = Clock()
        self._file = RotatedFile(path, max_bytes, max_files) if path else None
        self._streams = {"stdout": Lines("stdout"), "stderr": Lines("stderr")}

    def feed(self, stream: str, data: bytes) -> None:
        if self._file is None:
            return
        stamp = self._clock.stamp(time.time_ns())
        if entries := self._streams[stream].feed(data, stamp):
            self._file.write(entries, stamp)

    def close(self) -> None:
        """Nothing more comes. Writes what is left, closes the file."""
        if self._file is None:
            return
        stamp = self._clock.stamp(time.time_ns())
        for lines in self._streams.values():
            if rest := lines.end(stamp):
                self._file.write(rest, stamp)
        self._file.close(stamp)
