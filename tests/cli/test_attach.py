"""attach: frames on a real socket, keys on a real terminal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.fake_daemon import Answer, Call, FakeDaemon, Json, Refusal
from cli.pty_user import PODD_CLI, person
from cli.samples import ended, pod, running, waiting
from podd.cli.attach import HEADER, INPUT, SIZE, STDERR, STDOUT, Demultiplexer, frame
from podd.cli.streams import Outlet


def talk(_: socket.socket) -> None:
    """A main process that says nothing."""


class Container:
    """A container that can be attached to: `main` talks on the socket as the shim does, then the process has ended."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.main: Callable[[socket.socket], None] = talk
        self.tty = False
        self.afterwards = [pod("p", waiting("web", "CrashLoopBackOff", last=ended(7, instance="web0")))]
        self.left = threading.Event()
        daemon.answers |= {
            "Get": lambda _: {"pod": pod("p", running("web"))},
            "Attach": self._attach,
            "Watch": self._watch,
        }

    def _attach(self, _: Call) -> Iterator[Answer | Json]:
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._run, args=(ours,), daemon=True).start()
        yield Answer({"fd": 0, "container": "web", "tty": self.tty}, (theirs.detach(),))

    def _run(self, ours: socket.socket) -> None:
        with ours, suppress(ConnectionError):  # a client that has detached does not read the echo of its last keys
            self.main(ours)
        self.left.set()

    def _watch(self, _: Call) -> Iterator[Answer | Json]:
        yield {"type": "ADDED", "pod": pod("p", running("web"))}
        yield {"type": "ADDED", "pod": pod("other", waiting("web", "Error", last=ended(99, instance="web0")))}
        yield {"type": "SYNCED", "pod": None}
        yield from ({"type": "MODIFIED", "pod": each} for each in self.afterwards)


@pytest.fixture
def container(daemon: FakeDaemon) -> Container:
    return Container(daemon)


def frames(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Towards the container, until the client leaves."""
    with connection.makefile("rb") as stream:
        while header := stream.read(HEADER.size):
            number, length = HEADER.unpack(header)
            yield number, stream.read(length)


def attach(*argv: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    stdin = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
    return subprocess.run([*PODD_CLI, "attach", *argv], capture_output=True, timeout=20, check=False, **stdin)  # type: ignore[call-overload,no-any-return]


def test_output_and_exit_status_are_the_containers(container: Container, daemon: FakeDaemon) -> None:
    big = os.urandom(300_000)

    def main(socket: socket.socket) -> None:
        socket.sendall(frame(STDOUT, b"out\n") + frame(STDERR, b"err\n") + frame(STDOUT, b""))
        socket.sendall(frame(STDOUT, big))

    container.main = main
    shown = attach("pod/p", "-c", "web")
    assert (shown.returncode, shown.stderr, shown.stdout == b"out\n" + big) == (7, b"err\n", True)
    uid = pod("p")["metadata"]["uid"]
    assert daemon.asked("Attach") == [{"name": uid, "container": "web", "stdin": False}]


def test_input(container: Container) -> None:
    """All of it, then a frame of no length that says so."""
    got: list[tuple[int, bytes]] = []

    def main(socket: socket.socket) -> None:
        for number, data in frames(socket):
            got.append((number, data))
            if not data:
                return

    container.main = main
    data = os.urandom(200_000)
    assert attach("p", "-i", given=data).returncode == 7
    assert {number for number, _ in got} == {INPUT}
    assert b"".join(data for _, data in got) == data
    assert got[-1] == (INPUT, b"")


@pytest.mark.parametrize(
    ("afterwards", "status"),
    [
        ([running("web"), running("web", restarts=1, last=ended(3, instance="web0"))], 3),
        ([waiting("web", "CrashLoopBackOff", last=ended(137, instance="web0"))], 137),
        ([running("web", restarts=1, last=ended(3, instance="another"))], 1),
    ],
    ids=["restarted", "waits", "another instance"],
)
def test_exit_status_is_of_the_instance_that_was_attached_to(
    afterwards: list[Json], status: int, container: Container
) -> None:
    container.afterwards = [pod("p", each) for each in afterwards]
    shown = attach("p")
    assert shown.returncode == status
    assert (b"its end is not known" in shown.stderr) is (status == 1)


def test_interrupt_detaches(container: Container) -> None:
    def main(socket: socket.socket) -> None:
        socket.sendall(frame(STDOUT, b"on\n"))
        assert list(frames(socket)) == []

    container.main = main
    with subprocess.Popen([*PODD_CLI, "attach", "p"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"detached: the container runs on\n")
    assert container.left.wait(20)


def test_reader_that_has_enough(container: Container) -> None:
    def main(socket: socket.socket) -> None:
        try:
            while True:
                socket.sendall(frame(STDOUT, b"y\n"))
        except OSError:
            pass

    container.main = main
    line = f"{' '.join(map(repr, PODD_CLI))} attach p | head -n 1; exit ${{PIPESTATUS[0]}}"
    shown = subprocess.run(["bash", "-c", line], capture_output=True, timeout=20, check=False)
    assert (shown.returncode, shown.stdout, shown.stderr) == (128 + signal.SIGPIPE, b"y\n", b"")


def test_refusal(container: Container, daemon: FakeDaemon) -> None:
    def refuse(_: Call) -> Json:
        raise Refusal("Conflict", "container web: it does not run")

    daemon.answers["Attach"] = refuse
    shown = attach("p")
    assert (shown.returncode, shown.stderr) == (1, b"podd-cli: container web: it does not run\n")


# ---- terminals -------------------------------------------------------------------------------------------------------


class Terminal(Container):
    """Its main process shows what comes, byte by byte, and ends at "." """

    def __init__(self, daemon: FakeDaemon) -> None:
        super().__init__(daemon)
        self.tty = True
        self.main = self._echo

    def _echo(self, connection: socket.socket) -> None:
        connection.sendall(frame(STDOUT, b"ready;"))
        for number, data in frames(connection):
            shown = "size" if number == SIZE else "keys"
            connection.sendall(frame(STDOUT, f"{shown}={data.hex()};".encode()))
            if data == b".":
                return


@pytest.fixture
def terminal(daemon: FakeDaemon) -> Terminal:
    return Terminal(daemon)


def test_keys_go_to_the_container(terminal: Terminal) -> None:
    with person(["attach", "-i", "p"]) as user:
        before = user.settings()
        user.sees(b"ready;")
        user.type(b"\x03")
        user.sees(b"keys=03;")
        assert user.is_raw()
        user.type(b".")
        user.sees(b"keys=2e;")
        assert user.ends() == 7
        assert user.settings() == before


def test_size_goes_to_the_container(terminal: Terminal) -> None:
    with person(["attach", "-i", "p"], rows=33, columns=99) as user:
        user.sees(b"size=00210063;")
        user.resize(50, 132)
        user.sees(b"size=00320084;")


@pytest.mark.parametrize("strokes", [[b"\x10\x11"], [b"\x10", b"\x11"], [b"ab\x10", b"\x11cd"], [b"\x10", b"\x10\x11"]])
def test_keys_that_detach(strokes: list[bytes], terminal: Terminal) -> None:
    with person(["attach", "-i", "p"]) as user:
        before = user.settings()
        user.sees(b"ready;")
        user.sees(b"size=")
        for stroke in strokes:
            user.type(stroke)
        user.sees(b"detached: the container runs on")
        assert user.ends() == 0
        assert user.settings() == before
    assert terminal.left.wait(20)


def test_ctrl_p_that_does_not_detach_goes_on_with_the_next_key(terminal: Terminal) -> None:
    with person(["attach", "-i", "p"]) as user:
        user.sees(b"ready;")
        user.sees(b"size=")
        user.type(b"a\x10")
        user.sees(b"keys=61;")
        user.type(b"b")
        user.sees(b"keys=1062;")


# ---- frames ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)), max_size=8),
    st.lists(st.integers(min_value=1, max_value=50), min_size=1),
)
def test_frames_cut_anywhere_are_sorted_whole(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    wire = b"".join(frame(number, data) for number, data in sent)
    demultiplexer = Demultiplexer(Outlet(1), Outlet(2))
    while wire:
        size = cuts[len(wire) % len(cuts)]
        demultiplexer.feed(wire[:size])
        wire = wire[size:]
    shown = [outlet.pending for outlet in demultiplexer.outlets]
    assert shown == [b"".join(data for number, data in sent if number == stream) for stream in (STDOUT, STDERR)]
