"""exec: real commands, run by the daemon of canned answers on this host, with real pipes and terminals."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cli.fake_daemon import NOW, Answer, Call, FakeDaemon, Json, Refusal
from cli.pty_user import PODD_CLI, person

CONTROLLED = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
IN_TERMINAL = {False: [], True: [sys.executable, "-c", CONTROLLED]}


class Commands:
    """Answers Exec as the daemon does: started, then the exit code. kinds: what the command was given."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.kinds: list[str] = []
        self.ended = threading.Event()
        daemon.answers["Exec"] = self

    def __call__(self, call: Call) -> Iterator[Answer | Json]:
        if call.parameters["tty"]:
            master, slave = os.openpty()
            stdio, started = [slave] * 3, Answer({"exec_id": "1", "master_fd": 0}, (master,))
        else:
            stdio = [call.fds[call.parameters[f"{name}_fd"]] for name in ("stdin", "stdout", "stderr")]
            self.kinds = [kind(descriptor) for descriptor in stdio]
            master, started = -1, Answer({"exec_id": "1"})
        process = subprocess.Popen(
            [*IN_TERMINAL[master >= 0], *call.parameters["argv"]], stdin=stdio[0], stdout=stdio[1], stderr=stdio[2],
            start_new_session=True, env={**os.environ, **(call.parameters.get("env") or {})},
        )  # fmt: skip
        for descriptor in {*stdio, *call.fds}:
            os.close(descriptor)
        call.fds.clear()
        yield started
        yield NOW
        threading.Thread(target=self._watch, args=(call, process), daemon=True).start()
        code = process.wait()
        self.ended.set()
        yield {"exec_id": "1", "exit_code": code if code >= 0 else 128 - code, "signal": max(-code, 0)}

    def _watch(self, call: Call, process: subprocess.Popen[bytes]) -> None:
        """A client that leaves ends its command."""
        with suppress(OSError):
            call.connection.recv(1)
        process.kill()


def kind(descriptor: int) -> str:
    mode = os.fstat(descriptor).st_mode
    return "pipe" if stat.S_ISFIFO(mode) else "other"


@pytest.fixture
def commands(daemon: FakeDaemon) -> Commands:
    return Commands(daemon)


def podd_cli(*argv: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    stdin = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
    return subprocess.run([*PODD_CLI, *argv], capture_output=True, timeout=20, check=False, **stdin)  # type: ignore[call-overload,no-any-return]


# ---- pipes -----------------------------------------------------------------------------------------------------------


def test_output_and_exit_status_are_the_commands(commands: Commands, daemon: FakeDaemon) -> None:
    shown = podd_cli("exec", "-n", "web", "pod/p", "-c", "db", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (shown.returncode, shown.stdout, shown.stderr) == (3, b"out\n", b"err\n")
    asked = daemon.asked("Exec")[0]
    assert asked["argv"] == ["sh", "-c", "echo out; echo err >&2; exit 3"]
    assert (asked["name"], asked["namespace"], asked["container"], asked["tty"]) == ("p", "web", "db", False)


def test_options_after_the_dashes_are_the_commands(commands: Commands, daemon: FakeDaemon) -> None:
    assert podd_cli("exec", "p", "--", "echo", "-n", "--", "-it").stdout == b"-- -it"
    assert daemon.asked("Exec")[0]["argv"] == ["echo", "-n", "--", "-it"]


def test_signal(commands: Commands) -> None:
    assert podd_cli("exec", "p", "--", "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM


def test_input(commands: Commands) -> None:
    data = os.urandom(1 << 20)
    shown = podd_cli("exec", "-i", "p", "--", "cat", given=data)
    assert (shown.returncode, shown.stdout == data) == (0, True)


def test_without_i_the_command_sees_the_end_of_its_input_at_once(commands: Commands) -> None:
    shown = podd_cli("exec", "p", "--", "cat", given=b"not passed on")
    assert (shown.returncode, shown.stdout) == (0, b"")


def test_command_that_does_not_read_its_input(commands: Commands) -> None:
    assert podd_cli("exec", "-i", "p", "--", "true", given=b"x" * (1 << 20)).returncode == 0


def test_process_left_behind_does_not_hold_us(commands: Commands) -> None:
    shown = podd_cli("exec", "p", "--", "sh", "-c", "sleep 30 & echo $!")
    os.kill(int(shown.stdout), signal.SIGKILL)
    assert shown.returncode == 0


def test_reader_that_has_enough_ends_the_command(commands: Commands) -> None:
    line = f"{' '.join(map(repr, PODD_CLI))} exec p -- yes | head -n 1; exit ${{PIPESTATUS[0]}}"
    shown = subprocess.run(["bash", "-c", line], capture_output=True, timeout=20, check=False)
    assert (shown.returncode, shown.stdout, shown.stderr) == (128 + signal.SIGPIPE, b"y\n", b"")


def test_the_command_gets_nothing_of_ours(commands: Commands, tmp_path: Path) -> None:
    """Our standard streams here are files of the host: in its hands it could read what was there, and overwrite it."""
    with open(tmp_path / "file", "w+") as file:
        subprocess.run(
            [*PODD_CLI, "exec", "-i", "p", "--", "true"],
            stdin=file, stdout=file, stderr=file, timeout=20, check=True,
        )  # fmt: skip
    assert commands.kinds == ["pipe"] * 3


def test_interrupt_ends_the_command(commands: Commands) -> None:
    with subprocess.Popen(
        [*PODD_CLI, "exec", "p", "--", "sh", "-c", "echo on; sleep 60"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert commands.ended.wait(20)


@pytest.mark.parametrize("options", [(), ("-it",)])
def test_refusal(options: tuple[str, ...], daemon: FakeDaemon) -> None:
    def refuse(_: Call) -> Json:
        raise Refusal("Conflict", "container web: it does not run", "start the pod")

    daemon.answers["Exec"] = refuse
    with person(["exec", *options, "p", "--", "true"]) as user:
        user.sees(b"podd-cli: container web: it does not run; start the pod\r\n")
        assert user.ends() == 1


def test_daemon_that_dies_meanwhile(daemon: FakeDaemon) -> None:
    def vanish(call: Call) -> Iterator[Answer | Json]:
        os.write(call.fds[1], b"half")
        yield {"exec_id": "1"}
        yield NOW
        raise BrokenPipeError

    daemon.answers["Exec"] = vanish
    shown = podd_cli("exec", "p", "--", "true")
    assert (shown.returncode, shown.stdout) == (1, b"half")
    assert b"podd closed the connection" in shown.stderr


# ---- terminals -------------------------------------------------------------------------------------------------------


def test_terminal(commands: Commands, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "vt220")
    wait_for_size = "until [ \"$(stty size)\" = '33 99' ]; do sleep 0.01; done; echo sized; "
    script = wait_for_size + "echo $TERM; read line; echo got:$line; exit 7"
    with person(["exec", "-it", "p", "--", "sh", "-c", script], rows=33, columns=99) as user:
        user.sees(b"sized\r\n")
        user.sees(b"vt220\r\n")
        user.type(b"some words\r")
        user.sees(b"got:some words\r\n")
        assert user.ends() == 7
    asked = daemon.asked("Exec")[0]
    assert (asked["tty"], asked["rows"], asked["columns"]) == (True, 33, 99)


def test_keys_go_to_the_command_and_the_terminal_is_put_back(commands: Commands) -> None:
    script = "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.1; done"
    with person(["exec", "-ti", "p", "--", "sh", "-c", script]) as user:
        before = user.settings()
        user.sees(b"ready")
        assert user.is_raw()
        user.type(b"\x03")
        user.sees(b"interrupted")
        assert user.ends() == 5
        assert user.settings() == before


def test_size_follows_ours(commands: Commands) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done"
    with person(["exec", "-it", "p", "--", "sh", "-c", script]) as user:
        user.sees(b"ready")
        user.resize(50, 132)
        user.sees(b"50 132")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_terminal_is_put_back_when_we_are_ended(number: signal.Signals, commands: Commands) -> None:
    with person(["exec", "-it", "p", "--", "sh", "-c", "echo ready; sleep 60"]) as user:
        before = user.settings()
        user.sees(b"ready")
        assert user.is_raw()
        user.process.send_signal(number)
        assert user.ends() == 128 + number
        assert user.settings() == before
    assert commands.ended.wait(20)


def test_terminal_is_put_back_when_the_daemon_dies(daemon: FakeDaemon) -> None:
    def vanish(_: Call) -> Iterator[Answer | Json]:
        master, slave = os.openpty()
        os.write(slave, b"ready")
        yield Answer({"exec_id": "1", "master_fd": 0}, (master,))
        yield NOW
        assert raw.wait(20)
        os.close(slave)
        raise BrokenPipeError

    raw = threading.Event()
    daemon.answers["Exec"] = vanish
    with person(["exec", "-it", "p", "--", "true"]) as user:
        before = user.settings()
        user.sees(b"ready")
        assert user.is_raw()
        raw.set()
        user.sees(b"podd closed the connection")
        assert user.ends() == 1
        assert user.settings() == before


def test_without_i_keys_stay_here(commands: Commands) -> None:
    with person(["exec", "-t", "p", "--", "sh", "-c", "echo ready; sleep 60"]) as user:
        user.sees(b"ready")
        assert not user.is_raw()
        user.type(b"\x03")
        assert user.ends() == 130


def test_without_a_terminal_there_is_none_to_give(commands: Commands, daemon: FakeDaemon) -> None:
    shown = podd_cli("exec", "-it", "p", "--", "cat", given=b"text")
    assert (shown.returncode, shown.stdout) == (0, b"text")
    assert shown.stderr == b"podd-cli: warning: standard input is not a terminal: going on without -t\n"
    assert daemon.asked("Exec")[0]["tty"] is False


def test_it_starts_without_much(daemon: FakeDaemon, commands: Commands) -> None:
    program = (
        "import sys; from podd.cli.main import main; main(['exec', 'p', '--', 'true']);"
        "print({'anyio', 'asyncio', 'msgspec', 'threading', 'subprocess', 'yaml', 'rich'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20)
    assert shown.stdout == "set()\n"
