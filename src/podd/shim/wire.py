"""Framed JSON with descriptors over a Unix stream socket: the transport below `podd.shim.plan`.

A frame is 4 bytes big-endian length and that much UTF-8 JSON, an object. Descriptors ride on the first byte of their
frame, and the sendmsg(2) that carries them carries nothing of the next frame: the kernel never merges what follows
into the same recvmsg(2), so what one recvmsg returns belongs to the frame that its last byte is in.

Everything is nonblocking and bounded. A peer that sends nonsense, or does not read, is dropped.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from podd.errors import BY_KIND, Internal, PoddError
from podd.shim.plan import MAX_MESSAGE

# Plain numbers: the enumerations of `socket` and `select` run a lot of code for an "or", in every shim.
_SOL_SOCKET = int(socket.SOL_SOCKET)
_SCM_RIGHTS = int(socket.SCM_RIGHTS)
_CTRUNC = int(socket.MSG_CTRUNC)
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_NOSIGNAL = int(socket.MSG_NOSIGNAL)

_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(separators=(",", ":")).encode

HEADER_BYTES = 4
READ_BYTES = 64 * 1024
MAX_DESCRIPTORS = 16
"""In one frame. A peer that sends more loses them, and the connection: the kernel closes what does not fit."""

_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)

MAX_OUTPUT = 2 * MAX_MESSAGE
"""Bytes that may wait for a peer that does not read."""


class WireError(Exception):
    """The peer broke the protocol, or does not read what it asked for. The connection is of no use any more."""


class Descriptors:
    """Descriptors that came with one frame. Who handles the frame takes them; `close` ends the ones nobody took."""

    __slots__ = ("_fds",)

    def __init__(self, fds: Iterable[int] = ()) -> None:
        self._fds = list(fds)

    def __len__(self) -> int:
        return len(self._fds)

    def __iter__(self) -> Iterator[int]:
        """Borrowed."""
        return iter(self._fds)

    def take(self) -> list[int]:
        """All of them; the caller owns them from now on."""
        fds, self._fds = self._fds, []
        return fds

    def add(self, fds: Iterable[int]) -> None:
        self._fds.extend(fds)

    def close(self) -> None:
        for fd in self.take():
            os.close(fd)


Frame = tuple[dict[str, Any], Descriptors]


def encode(message: Mapping[str, Any]) -> bytes:
    """One frame. Raises WireError: longer than MAX_MESSAGE."""
    body = _encode(message).encode()
    if len(body) > MAX_MESSAGE:
        raise WireError(f"message: {len(body)} bytes: more than {MAX_MESSAGE}")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class Decoder:
    """Bytes and descriptors in, whole frames out. Owns the descriptors of the frame that is still incomplete."""

    __slots__ = ("_buffer", "_fds")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds = Descriptors()

    def feed(self, data: bytes, fds: Iterable[int] = ()) -> list[Frame]:
        """data, fds: of one recvmsg(2); fds are owned by the decoder, then by the frames.

        Raises WireError: not the protocol. Descriptors of frames that were complete in the same data are closed.
        """
        self._buffer += data
        bodies: list[bytes] = []
        while (body := self._next_body()) is not None:
            bodies.append(body)
        # What recvmsg(2) gave belongs to the frame of its last byte; what came before, to the frame begun before.
        earlier, self._fds = self._fds, Descriptors()
        owners = [Descriptors() for _ in bodies]
        if bodies:
            owners[0].add(earlier.take())
            (self._fds if self._buffer else owners[-1]).add(fds)
        else:
            self._fds.add([*earlier.take(), *fds])
        try:
            return [(decode(body), owned) for body, owned in zip(bodies, owners, strict=True)]
        except WireError:
            for owned in owners:
                owned.close()
            raise

    @property
    def is_empty(self) -> bool:
        """No part of a frame waits for the rest."""
        return not self._buffer

    def _next_body(self) -> bytes | None:
        if len(self._buffer) < HEADER_BYTES:
            return None
        size = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
        if size > MAX_MESSAGE:
            raise WireError(f"message: {size} bytes announced: more than {MAX_MESSAGE}")
        if len(self._buffer) < HEADER_BYTES + size:
            return None
        body = bytes(self._buffer[HEADER_BYTES : HEADER_BYTES + size])
        del self._buffer[: HEADER_BYTES + size]
        return body

    def close(self) -> None:
        self._buffer.clear()
        self._fds.close()


def decode(body: bytes) -> dict[str, Any]:
    """What a frame says. Raises WireError: not an object in JSON."""
    try:
        message = _decode(body.decode())
    except (ValueError, RecursionError) as exc:
        raise WireError(f"message: not JSON: {exc}") from exc
    if not isinstance(message, dict):
        raise WireError(f"message: not an object: {type(message).__name__}")
    return message


def send_once(sock: socket.socket, message: Mapping[str, Any], fd: int = -1) -> None:
    """One frame in one sendmsg(2), so that several processes may answer on the same socket. Blocks. fd: borrowed."""
    ancillary = [(_SOL_SOCKET, _SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
    sock.sendmsg([encode(message)], ancillary, _NOSIGNAL)


class Connection:
    """One peer. The owner watches `fileno()`, calls `receive` when it is readable and `flush` when it is writable.

    on_blocked is called with whether output waits, each time that changes, so that the owner watches for writability
    exactly then. Any method may raise WireError or OSError; the connection must then be closed.
    """

    __slots__ = ("_decoder", "_is_blocked", "_output", "_output_bytes", "_socket", "on_blocked")

    def __init__(self, sock: socket.socket, on_blocked: Callable[[bool], None] = lambda _: None) -> None:
        """sock: connected, owned by the connection from now on."""
        sock.setblocking(False)
        self._socket = sock
        self._decoder = Decoder()
        self._output: deque[tuple[memoryview, list[int]]] = deque()
        self._output_bytes = 0
        self._is_blocked = False
        self.on_blocked = on_blocked

    def fileno(self) -> int:
        """-1 after close."""
        return self._socket.fileno()

    @property
    def is_idle(self) -> bool:
        """No frame is half received or half sent."""
        return not self._output and self._decoder.is_empty

    def receive(self) -> list[Frame] | None:
        """What one read gives; [] when that completes no frame, None when the peer has closed."""
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(READ_BYTES, _ANCILLARY_BYTES, _CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return []
        except ConnectionResetError:
            return None
        fds = _descriptors(ancillary)
        if flags & _CTRUNC:
            Descriptors(fds).close()
            raise WireError(f"message: more than {MAX_DESCRIPTORS} descriptors")
        if not data:
            Descriptors(fds).close()
            return None
        return self._decoder.feed(data, fds)

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Queue one frame and write what can be written now. fds are borrowed: they are duplicated where they wait."""
        frame = encode(message)
        if self._output_bytes + len(frame) > MAX_OUTPUT:
            raise WireError(f"peer: {self._output_bytes} bytes wait for it: it does not read")
        self._output.append((memoryview(frame), [os.dup(fd) for fd in fds]))
        self._output_bytes += len(frame)
        if len(self._output) == 1:
            self.flush()

    def flush(self) -> None:
        """Write as much as the socket takes."""
        while self._output:
            view, fds = self._output[0]
            try:
                sent = self._write(view, fds)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                break
            self._output_bytes -= sent
            Descriptors(fds).close()
            if sent < len(view):
                self._output[0] = (view[sent:], [])
            else:
                self._output.popleft()
        if self._is_blocked != bool(self._output):
            self._is_blocked = bool(self._output)
            self.on_blocked(self._is_blocked)

    def drain(self, timeout_s: float) -> None:
        """Wait until the peer has taken everything, or the time is over. Blocks."""
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        deadline = time.monotonic() + timeout_s
        while self._output and (left_s := deadline - time.monotonic()) > 0:
            poll.poll(left_s * 1000)
            self.flush()

    def _write(self, view: memoryview, fds: list[int]) -> int:
        ancillary = [(_SOL_SOCKET, _SCM_RIGHTS, array.array("i", fds))] if fds else []
        return self._socket.sendmsg([view], ancillary, _NOSIGNAL)

    def close(self) -> None:
        self._socket.close()
        self._decoder.close()
        for _, fds in self._output:
            Descriptors(fds).close()
        self._output.clear()
        self._output_bytes = 0


def error_of(exc: Exception) -> dict[str, str]:
    """What a request that failed with exc is answered."""
    if isinstance(exc, PoddError):
        return {"kind": exc.kind.value, "message": exc.message, "remedy": exc.remedy}
    if isinstance(exc, OSError):
        kind = _KIND_OF_ERRNO.get(exc.errno or 0, "Internal")
        file = f"{exc.filename}: " if exc.filename else ""
        return {"kind": kind, "message": f"{file}{exc.strerror or exc}", "remedy": "; ".join(_notes(exc))}
    return {"kind": "Internal", "message": f"{type(exc).__name__}: {exc}", "remedy": ""}


def error_from(answer: Mapping[str, str]) -> PoddError:
    """The error that an answer tells of; Internal where its kind is not known."""
    kind, message, remedy = answer.get("kind"), answer.get("message", ""), answer.get("remedy", "")
    cls = next((cls for cls in BY_KIND.values() if cls.kind.value == kind), Internal)
    return cls(message, remedy=remedy)


_KIND_OF_ERRNO = {
    errno.EPERM: "Denied",
    errno.EACCES: "Denied",
    errno.ENOSPC: "Unavailable",
    errno.EDQUOT: "Unavailable",
    errno.EMFILE: "Unavailable",
    errno.ENFILE: "Unavailable",
    errno.ENOMEM: "Unavailable",
    errno.EAGAIN: "Unavailable",
    errno.EBUSY: "Unavailable",
    errno.EROFS: "Unavailable",
}


def _notes(exc: BaseException) -> list[str]:
    return getattr(exc, "__notes__", [])


def connect(run_dir: str, name: str = "shim.sock") -> socket.socket:
    """A connection to the shim whose directory is run_dir. Raises OSError: there is none, or nobody listens."""
    return _at(run_dir, name, lambda sock, address: sock.connect(address))


def listener(run_dir: str, name: str = "shim.sock") -> socket.socket:
    """A listening socket in run_dir, mode 0600, in place of one that a predecessor left."""

    def bind(sock: socket.socket, address: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)
        before = os.umask(0o177)
        try:
            sock.bind(address)
        finally:
            os.umask(before)
        sock.listen()

    return _at(run_dir, name, bind)


def _at(run_dir: str, name: str, use: Callable[[socket.socket, str], None]) -> socket.socket:
    """A socket by a path of any length: an address holds 108 bytes, so the directory is named by its descriptor."""
    directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        use(sock, f"/proc/self/fd/{directory}/{name}")
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(directory)
    return sock


def _descriptors(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == _SOL_SOCKET and kind == _SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()
