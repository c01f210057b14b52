"""What a command says when podd is not there, is not podd, or does not let it in."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from control.harness import Running, open_descriptors, settled, start_child
from control.test_listener import GROUP
from podd.control.client import Client
from podd.control.listener import listen
from podd.errors import PoddError, Unavailable


def refusal(path: str) -> PoddError:
    before = open_descriptors()
    with pytest.raises(PoddError) as caught:
        Client(path)
    assert open_descriptors() == before
    assert "\n" not in str(caught.value)
    return caught.value


def test_no_socket(tmp_path: Path) -> None:
    error = refusal(f"{tmp_path}/podd.sock")
    assert isinstance(error, Unavailable)
    assert error.message == f"{tmp_path}/podd.sock: no such socket"
    assert error.remedy.startswith("start podd")


def test_a_stale_socket(tmp_path: Path) -> None:
    path = f"{tmp_path}/podd.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert refusal(path).message == f"{path}: nobody listens: podd has ended and left its socket"


def test_not_a_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(f"{tmp_path}/file").message == f"{tmp_path}/file: not a socket"


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    assert "too long" in refusal(f"{tmp_path}/{'x' * 200}").message


AS_NOBODY = """
import os, sys
from podd.control.client import Client
os.setgroups([]), os.setgid(4711), os.setuid(4711)
Client(sys.argv[1])
"""


@pytest.mark.root
@pytest.mark.parametrize("closed", ["the socket", "its directory"])
def test_without_the_right_the_group_is_named(tmp_path: Path, closed: str) -> None:
    for directory in tmp_path.parents:
        if not directory.stat().st_mode & 0o001:  # pytest's own are private
            directory.chmod(0o755)
    directory = tmp_path / "run"
    path = f"{directory}/podd.sock"
    with listen(path, group=GROUP.gr_name):
        tmp_path.chmod(0o755)
        if closed == "the socket":
            directory.chmod(0o755)
        command = [sys.executable, "-c", AS_NOBODY, path]
        done = subprocess.run(command, capture_output=True, check=False)
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith(f"podd.errors.Denied: {path}: permission denied; run as root, or as a member of group ")
    assert last.endswith(GROUP.gr_name)


Peer = Callable[[socket.socket], object]


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Callable[[Peer], str]]:
    """stranger(behaviour): a path where someone listens, takes one connection and behaves so."""
    path = f"{tmp_path}/stranger.sock"
    with contextlib.ExitStack() as stack:

        def begin(behave: Peer) -> str:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen()

            def main() -> None:
                with listener.accept()[0] as sock:
                    behave(sock)

            thread = threading.Thread(target=main)
            thread.start()
            stack.callback(thread.join)
            return path

        yield begin


def answer(data: bytes) -> Peer:
    def behave(sock: socket.socket) -> None:
        sock.recv(10_000)
        sock.sendall(data)

    return behave


NOT_PODD = {
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "garbage": b"\xff\0",
    "not an object": b"[]\0",
    "parameters that are none": b'{"parameters":[1]}\0',
    "error that is none": b'{"error":"io.podd.Invalid","parameters":5}\0',
    "deep": b"[" * 100_000 + b"\0",
}


@pytest.mark.parametrize("data", NOT_PODD.values(), ids=NOT_PODD)
def test_one_who_does_not_speak_varlink(stranger: Callable[[Peer], str], data: bytes) -> None:
    with Client(stranger(answer(data))) as client, pytest.raises(Unavailable, match="does not speak Varlink"):
        client.call("List")


def test_one_who_says_nothing(stranger: Callable[[Peer], str]) -> None:
    with Client(stranger(lambda sock: sock.recv(10_000) and sock.recv(1)), timeout_s=0.05) as client:
        with pytest.raises(Unavailable, match=r"no answer within 0\.05 s"):
            client.call("List")
        client.close()


def test_one_who_hangs_up(stranger: Callable[[Peer], str]) -> None:
    with (
        Client(stranger(lambda sock: sock.recv(10_000))) as client,
        pytest.raises(Unavailable, match="podd closed the connection"),
    ):
        client.call("List")


def test_podd_that_is_killed(tmp_path: Path) -> None:
    with start_child(f"{tmp_path}/podd.sock") as server, Client(f"{tmp_path}/podd.sock") as client:
        replies = client.call_more("Watch")
        assert [next(replies).parameters["type"] for _ in range(2)] == ["ADDED", "SYNCED"]
        server.kill()
        with pytest.raises(Unavailable, match="podd closed the connection"):
            next(replies)


def test_descriptors_that_the_caller_did_not_ask_for_are_closed(podd: Running) -> None:
    with podd.client() as client:
        client.call("List")
        before = open_descriptors()
        client.call("Attach", {"name": "web"})
        assert settled(before)


def test_it_imports_little() -> None:
    script = "import sys; import podd.control.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"msgspec", "anyio", "asyncio", "structlog", "pluggy", "rich", "yaml", "inspect", "logging", "subprocess"}
    assert not heavy & set(done.stdout.split())
