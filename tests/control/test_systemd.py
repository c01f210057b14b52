"""A parent that plays systemd's part: sockets handed down, readiness, the watchdog."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from podd.control import systemd
from podd.control.client import Client

SERVICE = """
import os
import anyio
from control.fakes import FakeEngine
from podd.control import systemd
from podd.control.listener import inherit
from podd.control.server import serve
from podd.control.service import make_service

async def main():
    (name, sock), = systemd.inherited_sockets()
    assert not systemd.inherited_sockets() and "LISTEN_FDS" not in os.environ
    assert not os.get_inheritable(sock.fileno())
    with inherit(sock):
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve, [sock], make_service(FakeEngine(name)))
            tasks.start_soon(systemd.feed_watchdog)
            systemd.notify("READY=1", "STATUS=serving")

anyio.run(main)
"""


def test_a_service_is_handed_its_socket_and_tells_of_itself(tmp_path: Path) -> None:
    control, told = str(tmp_path / "podd.sock"), str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.settimeout(10)
        manager.bind(told)
        listener.bind(control)
        listener.listen()
        with Client(control, timeout_s=10) as early:  # before the service exists: it waits in the backlog
            env = {
                **os.environ,
                "LISTEN_FDS": "1",
                "LISTEN_FDNAMES": "podd.socket",
                "NOTIFY_SOCKET": told,
                "WATCHDOG_USEC": "100000",
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path]),
            }
            with start_with_fd_3(listener, env) as service:
                messages = {manager.recv(1000) for _ in range(4)}
                assert messages == {b"READY=1\nSTATUS=serving", b"WATCHDOG=1"}
                assert early.call("List")["pods"][0]["metadata"]["name"] == "podd.socket"
                service.terminate()
        assert os.path.exists(control)


# What systemd does between fork and exec: the socket becomes descriptor 3, and the service is told that it is meant.
EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""


def start_with_fd_3(sock: socket.socket, env: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", EXEC, str(sock.fileno()), SERVICE]
    return subprocess.Popen(command, env=env, pass_fds=[sock.fileno()])


NOT_FOR_US = [
    {},
    {"LISTEN_FDS": "1"},
    {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
    {"LISTEN_PID": str(os.getpid())},
    {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
]


@pytest.mark.parametrize("env", NOT_FOR_US)
def test_sockets_of_another_process_are_not_taken(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert systemd.inherited_sockets() == []
    assert not {name for name in os.environ if name.startswith("LISTEN_")}


def test_notify_without_a_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not systemd.notify("READY=1")


def test_notify_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0podd-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@podd-test-{os.getpid()}")
        assert systemd.notify("STOPPING=1")
        assert manager.recv(100) == b"STOPPING=1"


WATCHDOGS: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"WATCHDOG_USEC": "30000000"}, 30.0),
    ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
    ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ({"WATCHDOG_USEC": "0"}, None),
    ({"WATCHDOG_USEC": "soon"}, None),
]


@pytest.mark.parametrize(("env", "expected"), WATCHDOGS)
def test_the_watchdogs_time(env: dict[str, str], expected: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert systemd.watchdog_s() == expected


def test_no_watchdog_is_fed_where_none_is(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    anyio.run(systemd.feed_watchdog, backend=backend)  # returns
