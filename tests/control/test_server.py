"""What a peer may do, on purpose or not: others stay served, nothing leaks, no bug shows in the log."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.harness import Running, Start, call, open_descriptors, replies, settled, start_child, talk
from podd.control.client import Client
from podd.control.server import Limits
from podd.errors import Internal, NotFound, Unavailable

FAST = Limits(message_s=0.2, stall_s=0.2, drain_s=0.2)


def error_of(reply: dict[str, object]) -> object:
    return reply.get("error")


def assert_served(server: Running) -> None:
    with server.client() as client:
        assert client.call("List")["pods"]


# ---- what is not Varlink
BAD_STREAMS = {
    "garbage": b"garbage\0",
    "an empty message": b"\0",
    "a flood of NULs": b"\0" * 1_000_000,
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a message": call("io.podd.List")[:-5],
    "half a message after a whole one": call("io.podd.Reload", oneway=True) + b"{",
    "invalid UTF-8": b'{"method":"\xff"}\0',
    "deep nesting": b'{"method":"io.podd.Get","parameters":' + b"[" * 100_000 + b"\0",
    "an array": b"[]\0",
    "random": bytes(range(1, 256)) * 100 + b"\0",
}


@pytest.mark.parametrize("data", BAD_STREAMS.values(), ids=BAD_STREAMS)
def test_a_stream_that_is_not_varlink_gets_one_error_and_ends(start: Start, data: bytes) -> None:
    server = start("web", limits=FAST)
    with server.connect() as sock:
        assert [error_of(reply) for reply in talk(sock, data)] == ["io.podd.Invalid"]
    assert_served(server)


BAD_CALLS = {
    "no such method": (call("io.podd.Nope"), "org.varlink.service.MethodNotFound"),
    "no such interface": (call("io.nope.List"), "org.varlink.service.InterfaceNotFound"),
    "no interface": (call("List"), "org.varlink.service.InterfaceNotFound"),
    "an empty name": (call(""), "org.varlink.service.InterfaceNotFound"),
    "a long name": (call("x" * 100_000), "org.varlink.service.InterfaceNotFound"),
    "parameters are an array": (call("io.podd.Get", [1]), "org.varlink.service.InvalidParameter"),
    "parameters are a string": (call("io.podd.Get", "x"), "org.varlink.service.InvalidParameter"),
    "a number for a name": (call("io.podd.Get", {"name": 1}), "org.varlink.service.InvalidParameter"),
    "null for a name": (call("io.podd.Get", {"name": None}), "org.varlink.service.InvalidParameter"),
    "deep parameters": (
        b'{"method":"io.podd.Get","parameters":' + b'{"name":' * 900 + b"1" + b"}" * 901 + b"\0",
        "org.varlink.service.InvalidParameter",
    ),
    "invalid UTF-8 in a parameter": (
        b'{"method":"io.podd.Get","parameters":{"name":"\xff"}}\0',
        "org.varlink.service.InvalidParameter",
    ),
    "a huge number": (
        call("io.podd.Stop", {"name": "web", "grace_period_s": 10**400}),
        "org.varlink.service.InvalidParameter",
    ),
    "a float too large": (
        b'{"method":"io.podd.Stop","parameters":{"name":"web","grace_period_s":1e999}}\0',
        "org.varlink.service.InvalidParameter",
    ),
    "upgrade": (call("io.podd.List", upgrade=True), "io.podd.Unsupported"),
    "a watch without more": (call("io.podd.Watch"), "org.varlink.service.ExpectedMore"),
    "no such description": (
        call("org.varlink.service.GetInterfaceDescription", {"interface": "a.b"}),
        "org.varlink.service.InterfaceNotFound",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "error"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_a_call_that_cannot_be_answered_gets_an_error_and_the_next_is_answered(
    podd: Running, data: bytes, error: str
) -> None:
    with podd.connect() as sock:
        first, second = talk(sock, data + call("org.varlink.service.GetInfo"))
    assert first["error"] == error
    assert second["parameters"]["product"] == "podd"


def test_a_bug_in_the_engine_is_internal_and_shows_nothing_of_itself(podd: Running) -> None:
    podd.engine.error = KeyError("secret")
    with podd.client() as client, pytest.raises(Internal) as caught:
        client.call("List")
    assert caught.value.message == "podd: unexpected KeyError"
    (entry,) = [entry for entry in podd.logs if entry["event"] == "call.failed"]
    assert entry["exc_info"]


def test_the_only_refusal_in_a_group_is_the_refusal(podd: Running) -> None:
    podd.engine.error = ExceptionGroup("tasks", [ExceptionGroup("more", [NotFound("pod x: gone")])])
    with podd.client() as client, pytest.raises(NotFound, match="pod x: gone"):
        client.call("List")
    podd.engine.error = None


def test_a_hundred_megabytes_are_refused_and_not_kept(start: Start) -> None:
    podd = start("web", limits=Limits(drain_s=0.5))
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = memory_peak()
    with podd.connect() as sock:
        sock.sendall(b'{"method":"io.podd.Apply","parameters":{"manifest":"')
        chunk = b"x" * (1 << 20)
        with contextlib.suppress(BrokenPipeError):
            for _ in range(100):
                sock.sendall(chunk)
        (reply,) = replies(sock)
    assert reply["parameters"]["message"] == "message: larger than 4194304 bytes"
    assert memory_peak() - before < 24 << 20
    assert_served(podd)


def memory_peak() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


# ---- order
def test_calls_sent_ahead_are_answered_in_order(podd: Running) -> None:
    calls = [call("io.podd.Get", {"name": name}) for name in ["web", "nope", "db"] * 100]
    silent = call("io.podd.Reload", oneway=True) + call("io.podd.Nope", oneway=True)
    with podd.connect() as sock:
        answers = talk(sock, silent.join(calls))
    names = [answer.get("error") or answer["parameters"]["pod"]["metadata"]["name"] for answer in answers]
    assert names == ["web", "io.podd.NotFound", "db"] * 100
    assert podd.engine.was_asked("reload", times=299)


def test_one_who_calls_without_end_does_not_keep_the_others_waiting(podd: Running) -> None:
    stop = threading.Event()

    def flood() -> None:
        with podd.connect() as sock, contextlib.suppress(OSError):
            while not stop.is_set():
                sock.sendall(call("io.podd.Reload", oneway=True) * 1000)

    thread = threading.Thread(target=flood)
    thread.start()
    assert podd.engine.was_asked("reload", times=2000)
    for _ in range(20):
        assert_served(podd)
    stop.set()
    thread.join()


# ---- the log
def test_the_log_tells_who_changed_what_and_how_it_ended(podd: Running) -> None:
    podd.engine.exec_ends = False
    with podd.connect() as sock:
        talk(sock, call("io.podd.Pause", {"name": "web"}) + call("io.podd.Delete", {"name": 1}) + call("io.podd.List"))
    with podd.connect() as sock:
        sock.sendall(call("io.podd.Exec", {"name": "web", "argv": ["sh"], "tty": True}, more=True))
        assert b"exec_id" in sock.recv(1000)
    assert podd.engine.mark.left.wait(5)
    assert_served(podd)
    us = {"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid()}
    ended = [entry for entry in podd.logs if entry["event"] == "call.ended"]
    assert all({**entry, **us} == entry for entry in ended)
    assert [(entry["log_level"], entry["method"], entry["outcome"]) for entry in ended] == [
        ("info", "io.podd.Pause", "done"),
        ("debug", "io.podd.Delete", "org.varlink.service.InvalidParameter"),  # nothing was tried
        ("debug", "io.podd.List", "done"),
        ("info", "io.podd.Exec", "cancelled"),
        ("debug", "io.podd.List", "done"),
    ]


# ---- peers that leave
WAITING = {
    "a call": call("io.podd.Get", {"name": "hang"}),
    "a watch between changes": call("io.podd.Watch", more=True),
    "logs that are followed": call("io.podd.Logs", {"name": "web", "follow": True}, more=True),
    "events that are followed": call("io.podd.Events", {"follow": True}, more=True),
    "a call with more behind it": call("io.podd.Get", {"name": "hang"}) + call("io.podd.Get", {"name": "web"}) * 1000,
}


@pytest.mark.parametrize("data", WAITING.values(), ids=WAITING)
def test_a_client_that_closes_ends_what_it_waited_for(podd: Running, data: bytes) -> None:
    with podd.connect() as sock:
        sock.sendall(data)
        assert podd.engine.mark.entered.wait(5)
        assert not podd.engine.mark.left.is_set()
    assert podd.engine.mark.left.wait(2)
    assert_served(podd)


def test_a_client_that_closes_ends_logs_that_it_did_not_read(podd: Running) -> None:
    podd.engine.chatter, podd.engine.payload = 10**9, "x" * 10_000
    with podd.connect() as sock:
        sock.sendall(call("io.podd.Logs", {"name": "web"}, more=True))
        assert podd.engine.mark.entered.wait(5)
        assert not podd.engine.mark.left.wait(0.1), "it waits for its reader"
    assert podd.engine.mark.left.wait(2)


def test_a_client_that_is_killed_ends_what_it_waited_for(podd: Running) -> None:
    script = "import sys; from podd.control.client import Client; Client(sys.argv[1]).call('Get', {'name': 'hang'})"
    with subprocess.Popen([sys.executable, "-c", script, podd.path]) as process:
        assert podd.engine.mark.entered.wait(10)
        process.kill()
    assert podd.engine.mark.left.wait(2)


def test_a_client_that_has_said_all_still_gets_its_replies(podd: Running) -> None:
    with podd.connect() as sock:
        (reply,) = talk(sock, call("io.podd.Get", {"name": "web"}))
    assert reply["parameters"]["pod"]["metadata"]["name"] == "web"
    with podd.connect() as sock:
        sock.sendall(call("io.podd.Get", {"name": "hang"}))
        sock.shutdown(socket.SHUT_WR)
        assert podd.engine.mark.entered.wait(5)
        assert not podd.engine.mark.left.wait(0.1), "it still waits"
    assert podd.engine.mark.left.wait(2)


def test_what_was_sent_oneway_is_done_though_the_client_has_left(podd: Running) -> None:
    with podd.connect() as sock:
        sock.sendall(call("io.podd.Reload", oneway=True) * 3 + call("io.podd.Stop", {"name": "web"}, oneway=True))
    assert podd.engine.was_asked("stop")
    assert podd.engine.was_asked("reload", times=3)


def test_a_call_that_nobody_waits_for_any_more_is_not_begun(podd: Running) -> None:
    with podd.connect() as sock:
        sock.sendall(call("io.podd.Get", {"name": "hang"}))
        assert podd.engine.mark.entered.wait(5)
        sock.sendall(call("io.podd.Pause", {"name": "web"}) + call("io.podd.Reload", oneway=True))
    assert podd.engine.was_asked("reload")
    assert "pause" not in [name for name, _ in podd.engine.asked]


def test_podd_that_stops_tells_those_who_wait(podd: Running) -> None:
    with podd.client() as client:
        waiting = client.call_more("Watch")
        seen = [next(waiting).parameters["type"] for _ in range(3)]
        podd.stop()
        with pytest.raises(Unavailable, match="podd: is stopping"):
            next(waiting)
    assert seen == ["ADDED", "ADDED", "SYNCED"]


# ---- peers that are slow
def test_a_watcher_that_does_not_read_is_disconnected(start: Start) -> None:
    server = start("web", limits=FAST)
    server.engine.chatter, server.engine.payload = 10**9, "x" * 10_000
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_peak()
    with server.connect() as sock:
        sock.sendall(call("io.podd.Watch", more=True))
        assert server.engine.mark.entered.wait(5)
        assert_served(server)
        assert server.engine.mark.left.wait(5)
    assert memory_peak() - before < 8 << 20
    assert_served(server)


def test_a_reader_of_logs_may_pause(start: Start) -> None:
    server = start("web", limits=FAST)
    server.engine.chatter, server.engine.payload = 100, "x" * 10_000
    with server.connect() as sock:
        sock.sendall(call("io.podd.Logs", {"name": "web"}, more=True))
        sock.shutdown(socket.SHUT_WR)
        assert not server.engine.mark.left.wait(5 * FAST.stall_s), "longer than a watcher may"
        assert len(replies(sock)) == 102


# ---- descriptors
def send_fds(sock: socket.socket, data: bytes, count: int) -> None:
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * count))])


EXEC = {"name": "web", "argv": ["x"]}
WITH_FDS = {
    "nobody asked for them": (call("io.podd.List"), 3),
    "no such method": (call("io.podd.Nope"), 3),
    "not a call": (b"garbage\0", 3),
    "too many": (call("io.podd.List"), 17),
    "far too many": (call("io.podd.List"), 253),
    "half a message": (b"{", 3),
    "a call that fails": (call("io.podd.Exec", EXEC, more=True), 3),
    "an exec": (call("io.podd.Exec", {**EXEC, "stdin_fd": 0, "stdout_fd": 1, "stderr_fd": 2}, more=True), 3),
    "a terminal": (call("io.podd.Exec", {**EXEC, "tty": True}, more=True), 3),
    "forward": (call("io.podd.Forward", {"name": "web", "port": 80}), 3),
    "forward for nobody": (call("io.podd.Forward", {"name": "web", "port": 80}, oneway=True), 3),
    "attach": (call("io.podd.Attach", {"name": "web"}), 3),
    "attach for nobody": (call("io.podd.Attach", {"name": "web"}, oneway=True), 3),
}


@pytest.mark.parametrize(("data", "count"), WITH_FDS.values(), ids=WITH_FDS)
@pytest.mark.parametrize("leave", ["after the reply", "at once"])
def test_no_descriptor_is_left(start: Start, data: bytes, count: int, leave: str) -> None:
    server = start("web", limits=FAST)
    assert_served(server)
    before = open_descriptors()
    for _ in range(3):
        with server.connect() as sock:
            send_fds(sock, data, count)
            if leave == "after the reply":
                sock.shutdown(socket.SHUT_WR)
                replies(sock)
    assert settled(before)


# ---- many peers
@pytest.fixture
def crowd() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


def list_from_another_process(path: str) -> int:
    script = "import sys; from podd.control.client import Client; print(len(Client(sys.argv[1]).call('List')['pods']))"
    done = subprocess.run([sys.executable, "-c", script, path], check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_ten_thousand_idle_connections(podd: Running, crowd: list[socket.socket]) -> None:
    before = open_descriptors()
    for n in range(10_000):
        crowd.append(podd.connect())
        if n % 1000 == 0:
            assert_served(podd)
    assert_served(podd)
    assert list_from_another_process(podd.path) == 2
    assert open_descriptors() - before <= 10_000 + 256 + 1
    (told,) = replies(crowd[0])
    assert told["error"] == "io.podd.Unavailable"
    assert 1 <= len([entry for entry in podd.logs if entry["event"] == "connection.sent_away"]) < 60


@pytest.mark.slow
def test_ten_thousand_watchers_of_one_process(podd: Running, crowd: list[socket.socket]) -> None:
    for _ in range(10_000):
        crowd.append(podd.connect())
        with contextlib.suppress(BrokenPipeError):
            crowd[-1].sendall(call("io.podd.Watch", more=True))
    for sock in crowd[:150]:
        assert b'"type":"ADDED"' in sock.recv(1000), "a newcomer does not cost its own process a call"
    told = [sock for sock in crowd[5000:5100] if b'"error":"io.podd.Unavailable"' in sock.recv(1000)]
    assert len(told) >= 99  # one of them may have been the last to be let in
    assert list_from_another_process(podd.path) == 2


def test_a_server_with_few_descriptors_serves(tmp_path: Path) -> None:
    """EMFILE at accept costs idle connections, not the service."""
    path = str(tmp_path / "podd.sock")
    with start_child(path, "40") as server, contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        with Client(path, timeout_s=10) as client:
            assert client.call("List")["pods"]
        assert len(os.listdir(f"/proc/{server.pid}/fd")) <= 40
        server.terminate()
