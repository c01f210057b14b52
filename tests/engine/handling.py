"""A place for handlers to act in: the network of the test itself, and servers that answer as they are told."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream, SocketAttribute

from podd.driver.contract import Handle
from podd.engine.handlers import Place
from podd.errors import Unavailable
from podd.model.pod import Container, ContainerPort

HANDLE = Handle(id="0" * 16, driver="local", version=1)

Serve = Callable[[ByteStream], Awaitable[None]]


class Local:
    """A driver whose pods have this process's network. refuses: with what it opens no socket."""

    name = "local"

    def __init__(self) -> None:
        self.refuses: Exception | None = None

    async def open_socket(self, sandbox: Handle, family: int, kind: int) -> int:
        await anyio.lowlevel.checkpoint()
        if self.refuses is not None:
            raise self.refuses
        return socket.socket(family, kind | socket.SOCK_NONBLOCK).detach()


def place(driver: Any, **ports: int) -> Place:
    named = tuple(ContainerPort(name=name, container_port=port) for name, port in ports.items())
    return Place(driver, HANDLE, HANDLE, Container(name="web", ports=named))


@asynccontextmanager
async def listening(serve: Serve, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A port on which each connection is served so."""

    async def one(stream: ByteStream) -> None:
        async with stream:
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream):  # the probe has heard enough
                await serve(stream)

    async with await anyio.create_tcp_listener(local_host=host) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, one)
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def unused_port() -> int:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        return listener.extra(SocketAttribute.local_port)


async def silent(_: ByteStream) -> None:
    await anyio.sleep_forever()


async def hangs_up(stream: ByteStream) -> None:
    await stream.receive()


NO_SOCKETS = Unavailable("sandbox: cannot open a socket: too many open files")
