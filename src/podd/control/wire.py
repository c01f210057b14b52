"""The Varlink wire on a Unix stream socket: JSON objects, each ended by a NUL byte, with descriptors beside them.

Runs on any event loop of anyio. Nothing here is kept longer than one message, and no message is larger than its limit.
Source: https://varlink.org/Documentation/Protocol; unix(7), SCM_RIGHTS.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import msgspec

from podd.errors import Invalid

_PEEK_FIRST = 4096
_PEEK_MORE = 256 * 1024
_INT_SIZE = array.array("i").itemsize


class Disconnected(Exception):
    """The peer has gone or does not read: nothing more can be said to it."""


class Malformed(Invalid):
    """What came is not a Varlink call. The stream cannot be trusted after it."""


class Peer(NamedTuple):
    """Who connected, as the kernel knows it (SO_PEERCRED, taken at connect). pid 0: of a foreign pid namespace."""

    pid: int
    uid: int
    gid: int


def peer_of(sock: socket.socket) -> Peer:
    return Peer(*struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


class Descriptors:
    """Descriptors that came with a message. Whoever holds this owns them and closes it; closing twice is harmless."""

    def __init__(self, fds: Iterable[int] = ()) -> None:
        self._fds = list(fds)

    def __len__(self) -> int:
        return len(self._fds)

    def extend(self, fds: Iterable[int]) -> None:
        self._fds.extend(fds)

    def lend(self, index: int) -> int:
        """One of them, open until close. Raises Invalid: there is none of that index."""
        if not 0 <= index < len(self._fds):
            raise Invalid(f"descriptor {index}: {len(self._fds)} came with the call")
        return self._fds[index]

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


class Message(NamedTuple):
    """A message without its NUL, and what came with it; the receiver owns the descriptors."""

    data: bytes
    fds: Descriptors


class Call(msgspec.Struct):
    """The envelope of a request. Unknown members are ignored, as the protocol asks; a repeated one counts last."""

    method: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    oneway: bool | None = None
    more: bool | None = None
    upgrade: bool | None = None


_decode_call = msgspec.json.Decoder(Call).decode
_encoder = msgspec.json.Encoder()


def decode_call(data: bytes) -> Call:
    """Raises Malformed."""
    try:
        return _decode_call(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        why = "nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise Malformed(f"message: not a Varlink call: {why}", remedy="see docs/varlink.md") from None


def encode_reply(parameters: Any, *, continues: bool = False) -> bytes:
    reply = {"parameters": parameters, "continues": True} if continues else {"parameters": parameters}
    return _encoder.encode(reply)


def encode_error(name: str, parameters: Any) -> bytes:
    return _encoder.encode({"error": name, "parameters": parameters})


class Channel:
    """One connection's socket. One task receives; any may send.

    max_bytes: of one message. max_fds: of one message."""

    def __init__(self, sock: socket.socket, *, max_bytes: int, max_fds: int) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._max_bytes = max_bytes
        self._ancillary_bytes = socket.CMSG_SPACE(max_fds * _INT_SIZE)
        self._max_fds = max_fds
        self._send_lock = anyio.Lock(fast_acquire=True)
        self._torn = False  # a message was sent in part: nothing may follow it

    async def receive(self, *, within_s: float) -> Message | None:
        """The next message; None when the peer has sent its last. within_s: from its first byte to its end.

        Raises Malformed: too large, too slow, cut off, or with too many descriptors. Disconnected.
        """
        await anyio.lowlevel.checkpoint()  # a peer that always has more must not keep the loop for itself
        if not await self._readable():
            return None
        data = bytearray()
        fds = Descriptors()
        whole = False
        try:
            with anyio.move_on_after(within_s):
                while not data.endswith(b"\0"):
                    await self._receive_some(data, fds)
                whole = True
        finally:
            if not whole:
                fds.close()
        if not whole:
            raise Malformed(f"message: no end within {within_s:g} s: messages end with a NUL byte")
        return Message(bytes(data[:-1]), fds)

    async def _readable(self) -> bool:
        """Wait for a byte. False: the peer has shut down its side."""
        return bool(await self._peek(1))

    async def _peek(self, size: int) -> bytes:
        while True:
            try:
                return self.sock.recv(size, socket.MSG_PEEK)
            except BlockingIOError:
                await anyio.wait_readable(self.sock)
            except OSError as exc:
                raise Disconnected from exc

    async def _receive_some(self, data: bytearray, fds: Descriptors) -> None:
        """Append what is there of one message, and never a byte of the next.

        The kernel joins what was sent apart, so that descriptors could be taken for another message's. Looking first
        where the message ends keeps them with the bytes that they were sent with.
        """
        seen = await self._peek(_PEEK_MORE if data else _PEEK_FIRST)
        if not seen:
            raise Malformed("message: cut off by the end of the stream")
        end = seen.find(b"\0") + 1
        size = end or len(seen)
        if len(data) + size - bool(end) > self._max_bytes:
            raise Malformed(f"message: larger than {self._max_bytes} bytes")
        flags = socket.MSG_CMSG_CLOEXEC
        try:
            got, ancillary, status, _ = self.sock.recvmsg(size, self._ancillary_bytes, flags)
        except OSError as exc:
            raise Disconnected from exc
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.extend(array.array("i", payload[: len(payload) - len(payload) % _INT_SIZE]))
        if status & socket.MSG_CTRUNC or len(fds) > self._max_fds:
            raise Malformed(f"message: more than {self._max_fds} descriptors")
        data += got

    async def send(self, data: bytes, fds: Iterable[int] = (), *, stall_s: float | None) -> None:
        """Send one message; the descriptors stay the caller's. stall_s None: wait as long as the peer stays.

        Raises Disconnected: the peer has gone, or took nothing for stall_s. Cancelled half-way it tears the channel:
        every later send is Disconnected.
        """
        async with self._send_lock:
            if self._torn:
                raise Disconnected
            rest = memoryview(data + b"\0")
            rights: list[tuple[int, int, array.array[int]]] = []
            if passed := array.array("i", fds):
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)]
            while rest:
                sent = self._send_some(rest, rights)
                if sent:
                    rest, rights = rest[sent:], []
                    self._torn = bool(rest)
                else:
                    await self._writable(stall_s)

    def farewell(self, data: bytes) -> None:
        """Send one last message if that can be done at once; else leave it."""
        if not self._torn and not self._send_lock.locked():
            with contextlib.suppress(Disconnected):
                self._send_some(memoryview(data + b"\0"), [])

    def _send_some(self, data: memoryview, rights: list[tuple[int, int, array.array[int]]]) -> int:
        try:
            return self.sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise Disconnected from exc

    async def _writable(self, stall_s: float | None) -> None:
        with anyio.move_on_after(stall_s):
            await anyio.wait_writable(self.sock)
            return
        raise Disconnected

    async def drain(self, *, within_s: float) -> None:
        """Read and forget until the peer closes, so that it can finish sending and read our last message."""
        with anyio.move_on_after(within_s):
            try:
                while await self._peek(1) and self.sock.recv(_PEEK_MORE):
                    await anyio.lowlevel.checkpoint()
            except (Disconnected, OSError):
                return
