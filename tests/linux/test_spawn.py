"""Scripts of system calls, executed by the program made for them and by a forked interpreter."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from podd.errors import Invalid
from podd.linux import spawn
from podd.linux.script import ANY, Script

CLOCK_MONOTONIC = 1


@pytest.fixture(params=["program", "interpreter"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "interpreter":
        monkeypatch.setattr(spawn, "_program", lambda _: None)
    elif os.uname().machine != "x86_64":
        pytest.skip("there is no program for this machine")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def run(script: Script, ends: tuple[socket.socket, socket.socket], *keep: int) -> tuple[list[bytes], int]:
    """Every message, and the exit status."""
    ours, theirs = ends
    pid = spawn.spawn(script, [theirs.fileno(), *keep])
    theirs.close()
    messages = list(iter(lambda: ours.recv(4096), b""))
    return messages, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_ends_as_the_program_that_it_executes(ends: tuple[socket.socket, socket.socket]) -> None:
    script = Script(ends[1].fileno())
    words: list[int | bytes] = [b"sh", b"-c", b'test "$A$#" = "a b2" && exit 7', b"sh", b"", b"x" * 10_000, 0]
    script.call("execve", b"/bin/sh", [*words], [b"A=a b", 0])
    assert run(script, ends) == ([], 7)


def test_result_becomes_an_argument_and_a_part_of_a_message(ends: tuple[socket.socket, socket.socket]) -> None:
    sync = ends[1].fileno()
    script = Script(sync)
    opened = script.call("openat", -100, b"/proc/self/status", os.O_RDONLY)
    text = bytes(64)
    count = script.call("read", opened, text, 5)
    script.call("write", sync, text, 5)
    script.call("write", sync, [1, count, -1], 24)
    script.call("execve", b"/bin/true", [b"true", 0], [0])
    messages, status = run(script, ends)
    assert (messages, status) == ([b"Name:", struct.pack("=qqq", 1, 5, -1)], 0)


def test_what_one_call_writes_another_reads(ends: tuple[socket.socket, socket.socket]) -> None:
    sync = ends[1].fileno()
    script, time = Script(sync), [0, 0, 77]
    script.call("clock_gettime", CLOCK_MONOTONIC, [*time])  # another object: in another place
    script.call("clock_gettime", CLOCK_MONOTONIC, time)
    script.call("write", sync, time, 24)
    script.call("execve", b"/bin/true", [b"true", 0], [0])
    (message,), _ = run(script, ends)
    seconds, _, mark = struct.unpack("=qqq", message)
    assert seconds > 0
    assert mark == 77


def test_failure_says_where_and_why(ends: tuple[socket.socket, socket.socket]) -> None:
    script = Script(ends[1].fileno())
    script.doing("session", Invalid)
    script.call("setsid")
    script.doing("command")
    script.call("execve", b"/no/such/program", [0], [0], status=126)
    (message,), status = run(script, ends)
    subject, error, kind = script.failed(message)
    assert (subject, error.errno, status) == ("command", errno.ENOENT, 126)
    assert kind is not Invalid
    assert "execve: " in str(error)


def test_failure_is_what_returns_less_than_the_least(ends: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    script = Script(ends[1].fileno())
    script.call("fchdir", 4000, least=ANY)
    empty = os.open(tmp_path / "empty", os.O_RDONLY | os.O_CREAT)
    script.doing("wait")
    script.call("read", empty, bytes(2), 2, least=2)
    (message,), status = run(script, ends, empty)
    os.close(empty)
    assert (script.failed(message)[0], status) == ("wait", 127)


def test_descriptors_stay_closed_on_exec_in_the_parent(ends: tuple[socket.socket, socket.socket]) -> None:
    sync = ends[1].fileno()
    script = Script(sync)
    script.call("close_range", 0, 2, 0)
    script.call("execve", b"/bin/true", [b"true", 0], [0])
    pid = spawn.spawn(script, [sync])
    assert not os.get_inheritable(sync)
    os.waitpid(pid, 0)


def test_group_that_cannot_be_entered(ends: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="clone3: ") as info:
        spawn.spawn(Script(ends[1].fileno()), [], directory)
    assert info.value.errno in (errno.EBADF, errno.EINVAL)
    os.close(directory)
