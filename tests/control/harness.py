"""A real server on a real socket, in a thread of this process, on either event loop."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import start_blocking_portal

from control.fakes import FakeEngine
from podd.control.client import Client
from podd.control.server import Limits, serve
from podd.control.service import make_service

Start = Callable[..., "Running"]


class Running:
    """engine: what answers. path: of the socket."""

    def __init__(self, engine: FakeEngine, path: str) -> None:
        self.engine = engine
        self.path = path

    def client(self, timeout_s: float = 10) -> Client:
        return Client(self.path, timeout_s=timeout_s)

    def connect(self) -> socket.socket:
        """A bare connection, for what no client would send."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(10)
        sock.connect(self.path)
        return sock


@contextmanager
def running(engine: FakeEngine, path: str, backend: str, limits: Limits | None = None) -> Iterator[Running]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener, start_blocking_portal(backend) as portal:
        listener.bind(path)
        listener.listen(4096)
        service = make_service(engine)

        async def main(*, task_status: Any) -> None:
            await serve([listener], service, limits=limits, task_status=task_status)

        server, _ = portal.start_task(main)
        try:
            yield Running(engine, path)
        finally:
            server.cancel()


def open_descriptors() -> int:
    """Of this process: of the server and of its client."""
    return len(os.listdir("/proc/self/fd"))
