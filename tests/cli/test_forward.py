"""port-forward: real sockets on both sides, and a daemon of canned answers between them that sees no byte."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.conftest import Run
from cli.fake_daemon import NOW, Answer, Call, FakeDaemon, Json, Refusal, fake_daemon
from cli.pty_user import PODD_CLI
from cli.samples import pod

SPEC = {
    "containers": [{"name": "web", "image": "x", "ports": [{"name": "http", "containerPort": 80}]}],
    "initContainers": [{"name": "proxy", "image": "x", "ports": [{"name": "admin", "containerPort": 81}]}],
}
POD = pod("p", spec=SPEC)
AWAY: Json = {}
"""What a watch ends with that does not end with the pod."""

Talk = Callable[[socket.socket], None]


def echo(sock: socket.socket) -> None:
    """Until the other side has ended, and then say so."""
    while data := sock.recv(1 << 16):
        sock.sendall(data)
    sock.sendall(b" over")


class Server:
    """What listens in the pod: each connection has a thread, in which it talks."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.talk: Talk = echo
        self.ended = threading.Event()
        self.last: Json = {"type": "DELETED", "pod": POD}
        self.attach(daemon)

    def attach(self, daemon: FakeDaemon) -> None:
        daemon.answers |= {"Get": lambda _: {"pod": POD}, "Watch": self._watch, "Forward": self._forward}

    def _watch(self, _: Call) -> Iterator[Answer | Json]:
        yield {"type": "ADDED", "pod": POD}
        yield {"type": "SYNCED", "pod": None}
        yield NOW
        self.ended.wait(30)
        if self.last is AWAY:
            raise Refusal("Unavailable", "podd: is stopping")
        yield self.last

    def _forward(self, _: Call) -> Iterator[Answer | Json]:
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._run, args=(ours,), daemon=True).start()
        yield Answer({"fd": 0}, (theirs.detach(),))

    def _run(self, ours: socket.socket) -> None:
        with ours, contextlib.suppress(OSError):
            self.talk(ours)


@pytest.fixture
def server(daemon: FakeDaemon) -> Iterator[Server]:
    one = Server(daemon)
    yield one
    one.ended.set()


class Forwarding:
    """A running podd-cli, and the addresses that it told."""

    def __init__(self, *words: str) -> None:
        command = [*PODD_CLI, "port-forward", "p", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.doors: list[tuple[str, int]] = []

    def next_door(self) -> tuple[str, int]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Forwarding from "), line
        host, _, port = line.split()[2].rpartition(":")
        self.doors.append((host.strip("[]"), int(port)))
        return self.doors[-1]

    def connect(self, number: int = 0) -> socket.socket:
        while len(self.doors) <= number:
            self.next_door()
        return socket.create_connection(self.doors[number], timeout=20)

    def end(self) -> tuple[int, str]:
        """Its exit status, and what it complained of."""
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err


@pytest.fixture
def forward(server: Server) -> Iterator[Callable[..., Forwarding]]:
    with contextlib.ExitStack() as stack:

        def start(*words: str) -> Forwarding:
            one = Forwarding(*words)
            stack.callback(one.process.communicate)
            stack.callback(one.process.kill)
            return one

        yield start


def everything(sock: socket.socket) -> bytes:
    got = b""
    while data := sock.recv(1 << 16):
        got += data
    return got


def test_bytes_go_both_ways_and_each_side_ends_by_itself(
    daemon: FakeDaemon, forward: Callable[..., Forwarding]
) -> None:
    one = forward(":80")
    with one.connect() as sock:
        assert one.doors[0][0] == "127.0.0.1"
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
        sock.shutdown(socket.SHUT_WR)
        assert everything(sock) == b" over"
    assert daemon.asked("Forward") == [{"name": POD["metadata"]["uid"], "port": 80}]


def test_the_pod_may_end_its_side_first(server: Server, forward: Callable[..., Forwarding]) -> None:
    heard: list[bytes] = []

    def says_and_listens(sock: socket.socket) -> None:
        sock.sendall(b"done")
        sock.shutdown(socket.SHUT_WR)
        heard.append(everything(sock))
        server.ended.set()

    server.talk = says_and_listens
    with forward(":80").connect() as sock:
        assert everything(sock) == b"done"
        sock.sendall(b"thanks")
    assert server.ended.wait(20)
    assert heard == [b"thanks"]


def test_much_is_passed_on_and_a_slow_reader_slows_its_own_writer_alone(forward: Callable[..., Forwarding]) -> None:
    one, much = forward(":80"), os.urandom(1 << 20) * 8
    with one.connect() as stuck, one.connect() as sock:
        stuck.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                stuck.send(much)  # and never read what comes back
        sender = threading.Thread(target=lambda: (sock.sendall(much), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        assert everything(sock) == much + b" over"
        sender.join()


def test_many_at_once(forward: Callable[..., Forwarding]) -> None:
    one = forward(":80")
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(one.connect()) for _ in range(50)]
        for number, sock in enumerate(socks):
            sock.sendall(b"%d" % number)
        assert [sock.recv(10) for sock in socks] == [b"%d" % number for number in range(50)]


def test_several_ports_by_number_and_by_name(daemon: FakeDaemon, forward: Callable[..., Forwarding]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    one = forward(f"{free}:http", "0:admin", "--address", "127.0.0.1")
    for number in range(2):
        with one.connect(number) as sock:
            sock.shutdown(socket.SHUT_WR)
            assert everything(sock) == b" over"
    assert one.doors[0] == ("127.0.0.1", free)
    assert [asked["port"] for asked in daemon.asked("Forward")] == [80, 81]


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_localhost_is_ipv6_too(forward: Callable[..., Forwarding]) -> None:
    one = forward(":80")
    with one.connect(1) as sock:
        assert one.doors[1] == ("::1", one.doors[0][1])
        sock.sendall(b"six")
        assert sock.recv(10) == b"six"


def test_a_port_on_which_nobody_listens_costs_one_connection(
    daemon: FakeDaemon, server: Server, forward: Callable[..., Forwarding]
) -> None:
    def refuse(_: Call) -> Json:
        server.attach(daemon)
        raise Refusal("Unavailable", "pod p: port 80: connection refused")

    daemon.answers["Forward"] = refuse
    one = forward(":80")
    with one.connect() as sock:
        assert everything(sock) == b""
    with one.connect() as sock:
        sock.sendall(b"hello")
        assert sock.recv(10) == b"hello"
    server.ended.set()
    assert "podd-cli: pod p: port 80: connection refused" in one.end()[1]


@pytest.mark.parametrize(
    "last",
    [
        {"type": "DELETED", "pod": POD},
        {"type": "MODIFIED", "pod": pod("p", phase="Succeeded", podd={"sandboxId": ""})},
        {"type": "MODIFIED", "pod": pod("p", podd={"sandboxId": "", "wanted": "Stopped"})},
    ],
)
def test_it_ends_with_the_pod(server: Server, forward: Callable[..., Forwarding], last: Json) -> None:
    server.last = last
    one = forward(":80")
    one.next_door()
    server.ended.set()
    status, err = one.end()
    assert (status, err) == (1, "podd-cli: pod p: has ended; there is nothing to forward to\n")


def test_a_pod_that_goes_before_it_is_watched(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers |= {"Get": lambda _: {"pod": POD}, "Watch": lambda _: [{"type": "SYNCED", "pod": None}]}
    assert run("port-forward", "p", ":80").err == "podd-cli: pod p: has ended; there is nothing to forward to\n"


def test_connections_outlive_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODD_SOCKET", str(tmp_path / "other.sock"))
    with fake_daemon(tmp_path / "other.sock") as daemon:
        server = Server(daemon)
        server.last = AWAY
        one = Forwarding(":80")
        sock = one.connect()
        sock.sendall(b"before")
        assert sock.recv(10) == b"before"
        server.ended.set()  # the watch ends
    (tmp_path / "other.sock").unlink()
    sock.sendall(b"meanwhile")
    assert sock.recv(10) == b"meanwhile"
    with fake_daemon(tmp_path / "other.sock") as daemon:
        server = Server(daemon)
        with one.connect() as again:
            again.sendall(b"after")
            again.settimeout(20)
            assert again.recv(10) == b"after"
        assert one.process.stderr is not None
        while "podd is back" not in one.process.stderr.readline():
            pass
        server.ended.set()
        assert one.end()[0] == 1
    sock.close()


def test_an_interrupt_ends_it(forward: Callable[..., Forwarding]) -> None:
    one = forward(":80")
    one.next_door()
    one.process.send_signal(signal.SIGINT)
    assert one.end() == (130, "")


WRONG = {
    "no port": (["p"], 2, "required"),
    "not a pair": (["p", "a:80"], 2, "'a:80': write LOCAL:REMOTE as in 8080:80, or REMOTE"),
    "nothing behind": (["p", "80:"], 2, "'80:': write LOCAL:REMOTE"),
    "too large here": (["p", "65536:80"], 2, "'65536:80': write LOCAL:REMOTE"),
    "too large there": (["p", "1:65536"], 2, "'65536': not a port"),
    "none such": (["p", ":smtp"], 2, "'smtp': no container of pod p has a port of this name"),
    "no address": (["p", ":80", "--address", "nowhere.invalid"], 1, "nowhere.invalid port 0: "),
    "no pod": (["service/p", ":80"], 2, "service/p: podd has pods only"),
}


@pytest.mark.parametrize(("words", "status", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_forwarded(server: Server, run: Run, words: list[str], status: int, said: str) -> None:
    server.ended.set()
    got = run("port-forward", *words)
    assert (got.status, said in got.err, got.out) == (status, True, "")


def test_a_port_here_that_is_taken(server: Server, run: Run) -> None:
    server.ended.set()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        got = run("port-forward", "p", f"{port}:80")
    assert (got.status, got.out) == (1, "")
    assert got.err.startswith(f"podd-cli: 127.0.0.1 port {port}: Address already in use")
