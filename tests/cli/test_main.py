"""The command line as a whole: words, ends, exit statuses, and what is imported on the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Run
from cli.fake_daemon import NOW, Answer, Call, FakeDaemon, Json, Refusal, fake_daemon
from cli.samples import pod
from podd.cli import main as entry
from podd.control.client import Client

PODD_CLI = [sys.executable, "-c", "import sys; from podd.cli.main import main; sys.exit(main())"]

USAGE = {
    (): "a command is missing; see 'podd-cli --help'",
    ("gett", "pods"): "'gett': no such command; did you mean 'get'?",
    ("frobnicate",): "'frobnicate': no such command; see 'podd-cli --help'",
    ("--sock", "x", "get", "pods"): "unrecognized arguments: --sock; see 'podd-cli --help'",
    ("get",): "the following arguments are required: pods; see 'podd-cli get --help'",
    ("get", "services"): "'services': not a resource: podd has pods: write 'pods', 'pod NAME' or 'pod/NAME'",
    ("get", "pod/a", "svc/b"): "svc/b: podd has pods only: write NAME or pod/NAME",
    (
        "get",
        "pods",
        "-o",
        "table",
    ): "argument -o/--output: invalid choice: 'table' (choose from 'wide', 'name', 'json', 'y",
    ("get", "pods", "a", "-l", "x=y"): "a pod's name goes with neither --selector nor --all-namespaces",
    ("get", "pods", "--", "x"): "'--': get runs no program; see 'podd-cli get --help'",
    ("logs", "p", "--tail", "some"): "argument --tail: 'some': not a whole number; see 'podd-cli logs --help'",
    ("logs", "p", "--since", "noon"): "argument --since: 'noon': not a duration like 90s, 5m or 1h30m; see",
    ("logs", "p", "-c", "a", "--all-containers"): "argument --all-containers: not allowed with argument -c/--container",
    ("stop",): "name pods, or choose them by --selector, or take all of them with --all",
    ("stop", "a", "--all"): "name pods, or choose them by --selector, or take all of them with --all",
    ("start", "a", "-l", "app=web"): "name pods, or choose them by --selector, or take all of them with --all",
    ("label", "pod", "a", "--all", "x=y"): "name pods, or choose them by --selector, or take all of them with --all",
    ("label", "pod", "a"): "label: KEY=VALUE or KEY- is missing",
    ("annotate", "pod", "a", "x=y", "z"): "'z': neither KEY=VALUE nor KEY-",
    ("label", "pod", "a", "=y"): "'=y': neither KEY=VALUE nor KEY-",
    ("restart", "a", "-A"): "a pod's name does not go with --all-namespaces",
    ("delete", "-f", "x", "--all"): "-f says which pods: it goes with neither --all nor --selector",
    ("events", "a", "-l", "app=web"): "a pod's name does not go with --selector",
    ("stop", "pod/"): "'pod/': a pod's name is missing",
    ("stop", "p", "--now", "--grace-period", "3"): "argument --grace-period: not allowed with argument --now",
    ("pause", "p", "--no-wait"): "unrecognized arguments: --no-wait; see 'podd-cli pause --help'",
    ("delete",): "name pods, or give their manifests with -f",
    ("delete", "pod", "a", "-f", "x"): "name pods, or give their manifests with -f",
    ("delete", "pods"): "name pods, or choose them by --selector, or take all of them with --all",
    ("delete", "pod", "a", "--all"): "name pods, or choose them by --selector, or take all of them with --all",
    ("apply",): "the following arguments are required: -f/--filename; see 'podd-cli apply --help'",
    ("apply", "-f", "x", "--timeout", "5s"): "--timeout: only with --wait",
    ("exec", "p"): "a command is missing: podd-cli exec POD -- COMMAND",
    ("exec", "p", "--"): "a command is missing: podd-cli exec POD -- COMMAND",
    ("exec", "p", "ls"): "'ls': write -- before the command: podd-cli exec POD -- COMMAND",
    ("completion", "tcsh"): "argument shell: invalid choice: 'tcsh' (choose from 'bash', 'zsh', 'fish')",
}


@pytest.mark.parametrize(("argv", "message"), USAGE.items(), ids=map(" ".join, USAGE))
def test_wrong_usage_is_told_in_one_line_without_asking_the_daemon(
    argv: tuple[str, ...], message: str, run: Run
) -> None:
    result = run(*argv)
    assert result.status == 2
    assert result.err.startswith(f"podd-cli: {message}")
    assert result.err.count("\n") == 1
    assert result.out == ""


@pytest.mark.parametrize("word", entry.COMMANDS)
def test_every_command_has_help(word: str, run: Run) -> None:
    result = run(word, "--help")
    assert result.status == 0
    assert result.out.startswith(f"usage: podd-cli {word} ")
    assert entry.COMMANDS[word][1][1:] in result.out
    assert word in run("--help").out


@pytest.mark.parametrize(
    "argv",
    [
        ("-n", "web", "get", "pods"),
        ("get", "-n", "web", "pods"),
        ("get", "pods", "-n", "web"),
        ("get", "pods", "--namespace=web"),
        ("-n", "other", "get", "pods", "-n", "web"),
    ],
)
def test_global_options_stand_anywhere(argv: tuple[str, ...], run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["List"] = lambda _: {"pods": []}
    assert run(*argv).status == 0
    assert daemon.asked("List") == [{"namespace": "web", "selector": ""}]


@pytest.mark.parametrize("where", ["before", "after"])
def test_the_option_names_the_socket_rather_than_the_environment(
    where: str, run: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["List"] = lambda _: {"pods": []}
    monkeypatch.setenv("PODD_SOCKET", "/nonexistent/podd.sock")
    option, command = ("--socket", daemon.path), ("get", "pods")
    assert run(*(option + command if where == "before" else command + option)).status == 0


# ---- no daemon -------------------------------------------------------------------------------------------------------


def test_no_daemon(run: Run, tmp_path: Path) -> None:
    result = run("get", "pods")
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        f"podd-cli: {tmp_path}/podd.sock: no such socket; start podd, or check --socket and PODD_SOCKET\n"
    )


def test_stale_socket(run: Run, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "podd.sock"))
    result = run("get", "pods")
    assert result.status == 1
    assert "nobody listens" in result.err
    assert result.err.count("\n") == 1


def test_not_a_socket(run: Run, tmp_path: Path) -> None:
    (tmp_path / "podd.sock").write_text("")
    assert run("get", "pods").err.count("not a socket") == 1


@pytest.mark.root
def test_socket_that_is_not_ours_to_open(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as directory, fake_daemon(Path(directory) / "podd.sock") as daemon:
        os.chmod(directory, 0o755)
        os.chmod(daemon.path, 0o600)
        monkeypatch.setenv("PODD_SOCKET", daemon.path)
        daemon.answers["List"] = lambda _: {"pods": []}
        assert run("get", "pods").status == 0  # and what it imports is imported
        os.seteuid(65534)
        try:
            result = run("get", "pods")
        finally:
            os.seteuid(0)
    assert result.status == 1
    assert result.err == f"podd-cli: {daemon.path}: permission denied; run as root\n"


def test_refusal_is_told_with_its_remedy(run: Run, daemon: FakeDaemon) -> None:
    def refuse(_: Call) -> Json:
        raise Refusal("NotFound", "pod hello: not found in namespace default", "see podd-cli get pods -A")

    daemon.answers["Get"] = refuse
    result = run("get", "pod", "hello")
    assert result.status == 1
    assert result.err == "podd-cli: pod hello: not found in namespace default; see podd-cli get pods -A\n"


# ---- what must not happen --------------------------------------------------------------------------------------------


def test_a_bug_is_one_line(run: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.answers["List"] = lambda _: {"pods": [{"metadata": None}]}
    result = run("get", "pods")
    assert result.status == 1
    assert result.err.startswith("podd-cli: unexpected TypeError: ")
    assert result.err.endswith("this is a bug in podd-cli; set PODD_DEBUG=1 to see where\n")
    assert result.err.count("\n") == 1
    monkeypatch.setenv("PODD_DEBUG", "1")
    assert "Traceback" in run("get", "pods").err


def test_messages_from_the_daemon_do_not_drive_the_terminal(run: Run, daemon: FakeDaemon) -> None:
    def refuse(_: Call) -> Json:
        raise Refusal("Invalid", "web: \x1b]0;owned\x07: no such file")

    daemon.answers["List"] = refuse
    assert "\x1b" not in run("get", "pods").err


def test_interrupt(daemon: FakeDaemon) -> None:
    ended = threading.Event()

    def until_left(_: Call) -> Iterator[Answer | Json]:
        yield {"type": "SYNCED", "pod": None}
        yield NOW
        ended.wait(20)
        yield {"type": "SYNCED", "pod": None}

    daemon.answers["Watch"] = until_left
    with subprocess.Popen(
        [*PODD_CLI, "get", "pods", "-w"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("NAME ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    ended.set()
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("argv", [("get", "pods"), ("get", "pods", "-o", "json"), ("events",), ("--help",)])
def test_reader_that_has_enough(argv: tuple[str, ...], daemon: FakeDaemon) -> None:
    daemon.answers["List"] = lambda _: {"pods": [pod(f"pod-{number}") for number in range(2000)]}
    event = {
        "time": "", "type": "Normal", "reason": "R", "message": "m" * 80, "pod": "p", "namespace": "default", "count": 1
    }  # fmt: skip
    daemon.answers["Events"] = lambda _: [{"events": [event] * 2000}]
    read, write = os.pipe()
    os.close(read)
    try:
        shown = subprocess.run(
            [*PODD_CLI, *argv], stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=20
        )
    finally:
        os.close(write)
    assert (shown.returncode, shown.stderr) == (0 if argv == ("--help",) else 141, "")


def test_closed_standard_streams(daemon: FakeDaemon) -> None:
    daemon.answers["List"] = lambda _: {"pods": [pod()]}
    shown = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *PODD_CLI, "get", "pods"], check=False, timeout=20)
    assert shown.returncode == 0
    assert len(daemon.asked("List")) == 1


def test_full_disk(daemon: FakeDaemon) -> None:
    daemon.answers["List"] = lambda _: {"pods": [pod()]}
    with open("/dev/full", "w") as full:
        shown = subprocess.run(
            [*PODD_CLI, "get", "pods"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=20
        )
    assert shown.returncode == 1
    assert shown.stderr == "podd-cli: No space left on device\n"


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_any_locale_shows_any_text(locale: dict[str, str], daemon: FakeDaemon) -> None:
    daemon.answers["List"] = lambda _: {"pods": [pod("p", reason="Größe: 日本")]}
    shown = subprocess.run(
        [*PODD_CLI, "get", "pods"], env={**os.environ, **locale}, capture_output=True, check=False, timeout=20
    )
    assert (shown.returncode, shown.stderr) == (0, b"")


# ---- a fast start ----------------------------------------------------------------------------------------------------

HEAVY = {
    "anyio", "asyncio", "concurrent", "dataclasses", "difflib", "importlib.metadata", "inspect", "logging", "msgspec",
    "multiprocessing", "pluggy", "queue", "random", "rich", "shutil", "sqlite3", "ssl", "structlog", "subprocess",
    "tempfile", "threading", "traceback", "trio", "unicodedata", "urllib", "yaml",
}  # fmt: skip
OURS = {
    "podd", "podd.cli", "podd.cli.connect", "podd.cli.durations", "podd.cli.get", "podd.cli.main", "podd.cli.output",
    "podd.cli.status", "podd.cli.text", "podd.cli.words", "podd.control", "podd.control.client", "podd.control.errors",
    "podd.errors",
}  # fmt: skip


def test_a_table_imports_little(daemon: FakeDaemon) -> None:
    daemon.answers["List"] = lambda _: {"pods": [pod()]}
    program = (
        "import sys; before = set(sys.modules); from podd.cli.main import main; main(['get', 'pods']);"
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20)
    imported = set(json.loads(shown.stdout.splitlines()[-1]))
    assert {name for name in imported if name.partition(".")[0] == "podd"} == OURS
    assert not {name for name in imported if name in HEAVY or name.partition(".")[0] in HEAVY}


def test_the_client_that_commands_import_is_the_small_one() -> None:
    assert Client.__module__ == "podd.control.client"
