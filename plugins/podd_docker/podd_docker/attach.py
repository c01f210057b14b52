"""Between an attachment of podd's, a socket that carries frames, and the connection that dockerd gives for one."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import anyio

from podd.shim.attach import HEADER, MAX_BEHIND, RESIZE, STDIN, STDOUT, WINDOW, BadFrame, FrameReader

READ_BYTES = 64 * 1024
_DOCKERS = struct.Struct(">BxxxI")

Resize = Callable[[int, int], Awaitable[None]]


class Bridge:
    """Owns both ends. What the caller does not read in time costs it the attachment: dockerd is never held up."""

    def __init__(
        self,
        ours: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        tty: bool,
        stdin: bool,
        resize: Resize,
    ) -> None:
        self._ours = ours
        self._reader = reader
        self._writer = writer
        self._tty = tty
        self._stdin = stdin
        self._resize = resize
        self._waiting = bytearray()
        self._more = anyio.Event()
        self._ended = False

    async def run(self) -> None:
        """Until either side is gone. What the container has said is handed over before."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._from_docker)
                tasks.start_soon(self._from_caller)
                await self._to_caller()
                tasks.cancel_scope.cancel()
        except* OSError:
            pass  # one side is gone: so is the attachment
        finally:
            self._ours.close()
            self._writer.close()

    # ---- out of the container

    async def _from_docker(self) -> None:
        try:
            while frame := await self._frame():
                stream, payload = frame
                if len(self._waiting) + len(payload) > MAX_BEHIND:
                    self._waiting.clear()
                    break
                self._waiting += HEADER.pack(stream, len(payload)) + payload
                self._more.set()
        finally:
            self._ended = True
            self._more.set()

    async def _frame(self) -> tuple[int, bytes] | None:
        """None at the end."""
        if self._tty:
            data = await self._reader.read(READ_BYTES)
            return (STDOUT, data) if data else None
        try:
            stream, size = _DOCKERS.unpack(await self._reader.readexactly(_DOCKERS.size))
            return stream, await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def _to_caller(self) -> None:
        while self._waiting or not self._ended:
            if not self._waiting:
                await self._more.wait()
                self._more = anyio.Event()
                continue
            try:
                sent = self._ours.send(self._waiting)
            except BlockingIOError:
                await anyio.wait_writable(self._ours)
                continue
            del self._waiting[:sent]

    # ---- into the container

    async def _from_caller(self) -> None:
        frames = FrameReader()
        while True:
            await anyio.wait_readable(self._ours)
            try:
                data = self._ours.recv(READ_BYTES)
            except BlockingIOError:
                continue
            if not data:
                raise ConnectionResetError("the caller has left")
            try:
                for stream, payload in frames.feed(data):
                    await self._take(stream, payload)
            except BadFrame as exc:
                raise ConnectionResetError(str(exc)) from exc

    async def _take(self, stream: int, payload: bytes) -> None:
        if stream == RESIZE:
            rows, columns = WINDOW.unpack(payload)
            await self._resize(rows, columns)
        elif stream == STDIN and self._stdin:
            if payload:
                self._writer.write(payload)
                await self._writer.drain()
            elif not self._tty:
                self._writer.write_eof()
