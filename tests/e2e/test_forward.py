"""Ports of a pod, reached from the host without any network between the two."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from real import BIN, MOUNT, Podd, manifest, sh, shared, sleeper, until

pytestmark = [pytest.mark.root, pytest.mark.parametrize("driver", ["setns", "runc"])]

SERVER = "exec python3 -m http.server 8000 --bind {} --directory /shared"


def web(podd: Podd, bind: str = "127.0.0.1") -> str:
    return manifest(
        "p", sh("web", SERVER.format(bind), **MOUNT), sleeper("b"), terminationGracePeriodSeconds=0, **shared(podd)
    )


@contextlib.contextmanager
def forwarding(podd: Podd, *words: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The port here, of a podd-cli that runs meanwhile."""
    process = subprocess.Popen(
        [BIN / "podd-cli", "port-forward", "p", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PODD_SOCKET": str(podd.socket)},
    )
    try:
        assert process.stdout is not None
        found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> 8000", process.stdout.readline())
        assert found
        yield int(found[1]), process
    finally:
        process.kill()
        process.communicate()


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read()


def served(port: int, path: str) -> bytes:
    """Also by a server that has only just been started."""

    def tried() -> bytes:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return get(port, path)
        return b""

    return until(tried, "the server answers")


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1"])
def test_a_server_that_nothing_else_can_reach(podd: Podd, bind: str) -> None:
    much = os.urandom(1 << 20) * 8
    (podd.shared / "much").write_bytes(much)
    podd.apply(web(podd, bind))
    with forwarding(podd, ":8000") as (port, process):
        assert served(port, "/much") == much
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 8000), 1):
            pytest.fail("the server is on the host's loopback")
        podd.kill()
        podd.start()
        assert served(port, "/much") == much
        podd.cli("delete", "pod", "p")
        assert process.wait(20) == 1
        assert process.stderr is not None
        assert process.stderr.read().endswith("podd-cli: pod p: has ended; there is nothing to forward to\n")


def test_a_connection_goes_on_without_podd(podd: Podd) -> None:
    script = (
        "import socket;s=socket.create_server(('',8000))\nwhile True:\n c,_=s.accept()\n while d:=c.recv(99): c.send(d)"
    )
    (podd.shared / "echo.py").write_text(script)
    podd.apply(manifest("p", sh("a", "exec python3 /shared/echo.py", **MOUNT), **shared(podd)))
    until(lambda: _listens(podd), "the server listens")
    with forwarding(podd, ":8000") as (port, process), socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.sendall(b"before")
        assert sock.recv(99) == b"before"
        podd.kill()
        sock.sendall(b"meanwhile")
        assert sock.recv(99) == b"meanwhile"
        podd.start()
        sock.shutdown(socket.SHUT_WR)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def _listens(podd: Podd) -> bool:
    (pid,) = podd.pids("p").values()
    return ":1F40 " in Path(f"/proc/{pid}/net/tcp").read_text()


def test_nobody_listens(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a")))
    with forwarding(podd, ":8000") as (port, process):
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            assert sock.recv(1) == b""
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert "podd-cli: pod p: port 8000: dial tcp 127.0.0.1:8000: connect: connection refused" in err
