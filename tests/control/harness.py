"""A real server on a real socket, in a thread of this process, on either event loop."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal
from structlog.testing import capture_logs

from control.fakes import FakeEngine
from podd.control.client import Client
from podd.control.server import Limits, serve
from podd.control.service import make_service

Start = Callable[..., "Running"]


class Running:
    """engine: what answers. path: of the socket. logs: what the server logged."""

    def __init__(
        self, engine: FakeEngine, path: str, logs: list[MutableMapping[str, Any]], stop: Callable[[], object]
    ) -> None:
        self.engine = engine
        self.path = path
        self.logs = logs
        self.stop = stop

    def client(self, timeout_s: float = 10) -> Client:
        return Client(self.path, timeout_s=timeout_s)

    def connect(self) -> socket.socket:
        """A bare connection, for what no client would send."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(self.path)
        sock.settimeout(10)
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

        with capture_logs() as logs:
            server, _ = portal.start_task(main)
            try:
                yield Running(engine, path, logs, server.cancel)
            finally:
                server.cancel()
    bugs = [entry for entry in logs if entry["event"] in ("call.failed", "connection.failed")]
    assert bool(bugs) == bool(engine.error), bugs


def start_child(path: str, *more: str, **popen: Any) -> subprocess.Popen[bytes]:
    """control.child in a process of its own; it serves when this returns."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path]),
        **popen.pop("env", {}),
    }
    command = [sys.executable, "-m", "control.child", path, *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, **popen)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


def talk(sock: socket.socket, data: bytes) -> list[Any]:
    """Send it, say that there is no more, and take every reply up to the end of the stream."""
    with contextlib.suppress(BrokenPipeError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    return replies(sock)


def replies(sock: socket.socket) -> list[Any]:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(1 << 20):
            received += chunk
    *messages, rest = received.split(b"\0")
    assert rest == b"", "every reply ends with a NUL"
    return [json.loads(message) for message in messages]


def call(method: str, parameters: object = None, **flags: bool) -> bytes:
    """One call as it goes over the wire."""
    return json.dumps({"method": method, "parameters": parameters or {}, **flags}).encode() + b"\0"


def open_descriptors() -> int:
    """Of this process: of the server and of its client."""
    return len(os.listdir("/proc/self/fd"))


def settled(expected: int) -> bool:
    """Whether this process comes down to so many descriptors: the server closes in its own time."""
    for _ in range(200):
        if open_descriptors() <= expected:
            return True
        time.sleep(0.01)
    return False
