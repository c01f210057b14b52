"""Attachments to a running container: its output in frames to each, their input to its stdin or terminal.

Framing and meaning: `podd.driver.contract.CanAttach`. stdin and stdin_once: as Kubernetes' Container v1 core has them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable, Iterator

from podd.shim.loop import READABLE, WRITABLE, Loop

READ_BYTES = 64 * 1024
MAX_BEHIND = 1024 * 1024
"""Bytes of output that may wait for a reader before it loses the attachment."""

HEADER = struct.Struct(">BI")
WINDOW = struct.Struct(">HH")
STDIN, STDOUT, STDERR, RESIZE = 0, 1, 2, 3


class BadFrame(Exception):
    """What came is not the protocol of an attachment."""


class FrameReader:
    """Cuts a stream into (stream, payload). Input is handed on as it comes, so no frame is ever held as a whole."""

    __slots__ = ("_buffer", "_left")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0  # bytes of the current input frame that are still to come

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """An empty payload of STDIN is the end of input. Raises BadFrame."""
        self._buffer += data
        while self._buffer:
            if self._left:
                payload, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
                self._left -= len(payload)
                yield STDIN, payload
                continue
            if len(self._buffer) < HEADER.size:
                return
            stream, size = HEADER.unpack_from(self._buffer)
            if stream == RESIZE and size == WINDOW.size:
                if len(self._buffer) < HEADER.size + size:
                    return
                yield RESIZE, self._buffer[HEADER.size : HEADER.size + size]
                self._buffer = self._buffer[HEADER.size + size :]
            elif stream == STDIN:
                self._buffer = self._buffer[HEADER.size :]
                self._left = size
                if size == 0:
                    yield STDIN, b""
            else:
                raise BadFrame(f"frame: stream {stream} of {size} bytes: not known")


class Input:
    """What a container reads: the write end of its stdin pipe, or its terminal's master side."""

    def __init__(self, loop: Loop, fd: int, *, is_terminal: bool) -> None:
        """fd: nonblocking, owned."""
        self._loop = loop
        self._fd = fd
        self._is_terminal = is_terminal
        self._waiting = b""
        self._ends = False
        self.on_room: Callable[[], None] = lambda: None

    @property
    def is_full(self) -> bool:
        """The container does not read now; on_room is called when it has."""
        return bool(self._waiting)

    def write(self, data: bytes) -> None:
        """Hand data on, or keep it until the container reads. After the end of input it is dropped."""
        if self._fd < 0 or self._ends:
            return
        was_full = self.is_full
        self._waiting += data
        if not was_full:
            self._flush()
            if self.is_full:
                self._loop.watch(self._fd, WRITABLE, self._on_writable)

    def end(self) -> None:
        """No more comes: the container reads the end of file after what waits. A terminal stays as it is."""
        self._ends = True
        if not self.is_full and not self._is_terminal:
            self.close()

    def resize(self, rows: int, columns: int) -> None:
        """Of a terminal; of a pipe: nothing."""
        if self._is_terminal and self._fd >= 0:
            fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._waiting = b""

    def _on_writable(self, _: int) -> None:
        self._flush()
        if self.is_full:
            return
        if self._fd >= 0:
            self._loop.forget(self._fd)
        if self._ends and not self._is_terminal:
            self.close()
        self.on_room()

    def _flush(self) -> None:
        try:
            self._waiting = self._waiting[os.write(self._fd, self._waiting) :]
        except BlockingIOError:
            pass
        except OSError as exc:
            if exc.errno not in (errno.EPIPE, errno.EIO):
                raise
            self.close()  # the container has closed its end: nobody will read any more


class Attachment:
    """One attached peer: a connected stream socket, the other end of which its owner holds."""

    def __init__(self, hub: Hub, loop: Loop, sock: socket.socket, *, feeds_input: bool) -> None:
        sock.setblocking(False)
        self._hub = hub
        self._loop = loop
        self._socket = sock
        self._reader = FrameReader()
        self._behind = bytearray()
        self._is_ending = False
        self._reads = True
        self.feeds_input = feeds_input
        loop.watch(sock.fileno(), READABLE, self._on_ready)

    def send(self, stream: int, data: bytes) -> None:
        """One frame of output, or the end of this attachment where its reader is too far behind."""
        if len(self._behind) > MAX_BEHIND:
            self.close()
            return
        self._behind += HEADER.pack(stream, len(data))
        self._behind += data
        if len(self._behind) == HEADER.size + len(data):
            self._flush()

    def pause_reading(self, paused: bool) -> None:
        if self.feeds_input and self._reads == paused:
            self._reads = not paused
            self._watch()

    def end(self) -> None:
        """Close once the reader has all."""
        self._is_ending = True
        self._flush()

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self._behind.clear()
        self._hub.on_closed(self)

    def _watch(self) -> None:
        events = (READABLE if self._reads else 0) | (WRITABLE if self._behind else 0)
        self._loop.rewatch(self._socket.fileno(), events)

    def _on_ready(self, events: int) -> None:
        if events & WRITABLE:
            self._flush()
        if events & ~WRITABLE and self._socket.fileno() >= 0:
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for stream, payload in self._reader.feed(data):
                self._hub.on_frame(self, stream, payload)
        except BadFrame:
            self.close()

    def _flush(self) -> None:
        had = bool(self._behind)
        try:
            if had:
                del self._behind[: self._socket.send(self._behind, socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._is_ending and not self._behind:
            self.close()
        elif had:
            self._watch()


class Hub:
    """All attachments of one container."""

    __slots__ = ("_attachments", "_input", "_loop", "_stdin_once")

    def __init__(self, loop: Loop, container_input: Input | None, *, stdin_once: bool) -> None:
        """container_input: None where the container was made without stdin. Owned."""
        self._loop = loop
        self._input = container_input
        self._stdin_once = stdin_once
        self._attachments: list[Attachment] = []
        if container_input is not None:
            container_input.on_room = self._on_room

    def adopt(self, sock: socket.socket, *, stdin: bool) -> None:
        """A new attachment. sock: connected to its reader, owned from now on."""
        feeds_input = stdin and self._input is not None
        self._attachments.append(Attachment(self, self._loop, sock, feeds_input=feeds_input))

    def output(self, stream: int, data: bytes) -> None:
        for attachment in list(self._attachments):
            attachment.send(stream, data)

    def end(self) -> None:
        """The container has ended: give each reader the rest, take no more input."""
        if self._input is not None:
            self._input.close()
        for attachment in list(self._attachments):
            attachment.end()

    def close(self) -> None:
        self.end()
        for attachment in list(self._attachments):
            attachment.close()

    def on_frame(self, attachment: Attachment, stream: int, payload: bytes) -> None:
        if self._input is None:
            return
        if stream == RESIZE:
            self._input.resize(*WINDOW.unpack(payload))
        elif attachment.feeds_input and payload:
            self._input.write(payload)
            self._pause(self._input.is_full)
        elif attachment.feeds_input:
            self._end_of_input(attachment)

    def on_closed(self, attachment: Attachment) -> None:
        if attachment in self._attachments:
            self._attachments.remove(attachment)
        if attachment.feeds_input:
            self._end_of_input(attachment)

    def _end_of_input(self, attachment: Attachment) -> None:
        attachment.feeds_input = False
        if self._stdin_once and self._input is not None:
            self._input.end()

    def _on_room(self) -> None:
        self._pause(False)

    def _pause(self, paused: bool) -> None:
        for attachment in list(self._attachments):
            attachment.pause_reading(paused)
