"""The real daemon under a parent that plays systemd's part: sockets handed down, notifications, signals."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from real import BIN, LIMIT_S, Podd, alive, manifest, sh, sleeper, until

from podd.control.client import Client
from podd.linux.cgroup import Layout

pytestmark = pytest.mark.root

WATCHDOG_S = 0.4

# Between fork and exec systemd gives the sockets their numbers, and says for which process they are.
EXEC = """
import os, sys
for number, fd in enumerate(map(int, sys.argv[1].split(",")), 3):
    os.dup2(fd, number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Managed(Podd):
    """A podd.service. The listening sockets and the notification socket are this object's, as they are systemd's."""

    def __init__(self, folder: Path) -> None:
        self.sockets = [socket.socket(socket.AF_UNIX)]
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notifications.settimeout(LIMIT_S)
        self.notifications.bind(str(folder / "notify"))
        super().__init__(folder)
        self.sockets[0].bind(str(self.socket))
        self.sockets[0].listen()
        self.before = self.snapshot(daemon=False)

    def begin(self) -> subprocess.Popen[bytes]:
        """Start podd, as the first connection does; it is not ready yet."""
        fds = [sock.fileno() for sock in self.sockets]
        listed = ",".join(str(fd + 100) for fd in fds)  # out of the way of 3, 4, ...
        for fd in fds:
            os.dup2(fd, fd + 100)
        environment = {
            **os.environ,
            "LISTEN_FDS": str(len(fds)),
            "LISTEN_FDNAMES": ":".join(["podd.socket"] * len(fds)),
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
        }
        with (self.folder / "d.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", EXEC, listed, BIN / "podd", "--config", self.folder / "podd.toml"],
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[fd + 100 for fd in fds],
            )
        for fd in fds:
            os.close(fd + 100)
        return self._process

    def start(self, **environment: str) -> None:
        self.begin()
        self.told("READY=1")

    def told(self, line: str) -> list[str]:
        """Wait for a notification with this line; it."""
        while True:
            lines = self.notifications.recv(4096).decode().splitlines()
            if line in lines:
                return lines

    def close(self) -> None:
        for sock in (*self.sockets, self.notifications):
            sock.close()


@pytest.fixture
def service() -> Iterator[Managed]:
    """Not started. Afterwards nothing of any pod may be left."""
    folder = Path(tempfile.mkdtemp(prefix="podd-sd-", dir="/var/tmp"))
    one = Managed(folder)
    try:
        yield one
        one.ensure_running()
        for pod in one.pods():
            one.cli("delete", "pod", pod["metadata"]["name"], "--now")
        one.stop()
        one.assert_clean(one.before, daemon=False)
    finally:
        one.stop()
        one.close()
        Layout.detect().group(folder.name).remove()
        shutil.rmtree(folder)


def test_who_connects_before_podd_is_there_is_answered_by_it(service: Managed) -> None:
    with Client(str(service.socket), timeout_s=LIMIT_S) as early:
        service.begin()
        assert early.call("Info")["pid"] == service.pid
    service.told("READY=1")


def test_ready_is_told_when_calls_are_answered_and_not_before(service: Managed) -> None:
    service.begin()
    first = service.notifications.recv(4096).decode().splitlines()
    assert first == ["READY=1", f"STATUS=listening on {service.socket}"]
    with Client(str(service.socket), timeout_s=LIMIT_S) as client:
        assert client.call("Info")["problems"] == []


def test_the_watchdog_is_fed_for_as_long_as_podd_turns(service: Managed) -> None:
    service.start()
    for _ in range(3):
        assert service.notifications.recv(100) == b"WATCHDOG=1"
    os.kill(service.pid, signal.SIGSTOP)
    service.notifications.settimeout(WATCHDOG_S)
    with pytest.raises(TimeoutError):
        _read_for_ever(service.notifications)  # first what it had sent before it stopped
    os.kill(service.pid, signal.SIGCONT)
    service.notifications.settimeout(LIMIT_S)
    assert service.notifications.recv(100) == b"WATCHDOG=1"


def _read_for_ever(sock: socket.socket) -> NoReturn:
    while True:
        sock.recv(100)


def test_sigterm_ends_podd_and_neither_its_pods_nor_its_socket(service: Managed) -> None:
    service.start()
    service.apply(manifest("p", sleeper("a"), sh("b", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done")))
    pids = service.pids("p")
    os.kill(service.pid, signal.SIGTERM)
    assert service.told("STOPPING=1") == ["STOPPING=1"]
    assert service.wait_dead() == 0
    assert all(map(alive, pids.values()))
    with Client(str(service.socket), timeout_s=LIMIT_S) as waiting:  # the socket is there, and systemd listens
        service.begin()
        assert waiting.call("Info")["pods"] == {"Running": 1}
    service.told("READY=1")
    assert service.pids("p") == pids
    assert [c["restartCount"] for c in service.status("p")["containerStatuses"]] == [0, 0]
    lines = service.cli("logs", "p", "-c", "b").split()
    assert lines == [str(n) for n in range(1, len(lines) + 1)], "the log has no gap"


def test_sighup_has_the_configuration_read_again(service: Managed) -> None:
    service.start()
    file = service.folder / "podd.toml"
    for old, new in (("debug", "info"), ("info", "debug")):
        file.write_text(file.read_text().replace(f'log_level = "{old}"', f'log_level = "{new}"'))
        os.kill(service.pid, signal.SIGHUP)
        told = until(lambda: [line for line in service.log() if line["event"] == "config.reloaded"], "it says so")
        assert told[-1]["changed"] == ["daemon.log_level"]
        service.pods()
        (service.folder / "d.log").write_text("")
    service.pods()
    until(lambda: [line for line in service.log() if line["level"] == "debug"], "it says more again")
    file.write_text(file.read_text() + "nonsense")
    os.kill(service.pid, signal.SIGHUP)
    until(lambda: [line for line in service.log() if line["event"] == "config.refused"], "it says what is wrong")
    assert service.pods() == []


def test_a_signal_right_after_the_start_is_heard(service: Managed) -> None:
    for number, status in ((signal.SIGHUP, None), (signal.SIGTERM, 0)):
        service.start()
        os.kill(service.pid, number)
        if status is None:
            until(lambda: [line for line in service.log() if line["event"] == "config.reloaded"], "it says so")
            service.stop()
        assert service.wait_dead() == 0


def test_every_socket_that_is_handed_down_is_served(service: Managed) -> None:
    second = service.folder / "second.sock"
    service.sockets.append(socket.socket(socket.AF_UNIX))
    service.sockets[1].bind(str(second))
    service.sockets[1].listen()
    service.start()
    for path in (service.socket, second):
        with Client(str(path), timeout_s=LIMIT_S) as client:
            assert client.call("Info")["pid"] == service.pid
    service.stop()
    second.unlink()


def test_pods_have_nothing_of_what_systemd_gave_to_podd(service: Managed) -> None:
    service.start()
    service.apply(manifest("p", sleeper("a")))
    pid = service.pids("p")["a"]
    shim = service.shim("p")
    for each in (pid, shim):
        environment = Path(f"/proc/{each}/environ").read_bytes()
        assert not [name for name in (b"LISTEN_", b"NOTIFY_", b"WATCHDOG_") if name in environment]
        assert not _sockets_of(each) & {os.fstat(sock.fileno()).st_ino for sock in service.sockets}


def _sockets_of(pid: int) -> set[int]:
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.stat(f"/proc/{pid}/fd/{name}").st_ino)
    return found


def test_a_descriptor_that_is_no_listening_socket_is_refused_in_one_line(service: Managed) -> None:
    good = service.sockets[0]
    for wrong in (socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)):
        service.sockets[0] = wrong
        with wrong:
            assert service.begin().wait(LIMIT_S) == 1
    service.sockets[0] = good
    said = (service.folder / "d.log").read_text().splitlines()
    expected = "podd: inherited socket: not a listening Unix stream socket"
    assert [line for line in said if line.startswith("podd:")] == said
    assert len(said) == 2
    assert all(line.startswith(expected) for line in said), said
