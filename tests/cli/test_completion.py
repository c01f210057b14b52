"""Completion: what podd-cli offers, and what bash, zsh and fish make of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import Run
from cli.fake_daemon import Call, FakeDaemon, Json
from cli.pty_user import person_at
from cli.samples import pod, running
from podd.cli import main

LISTENING: Json = {
    "containers": [
        {"name": "web", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}]},
        {"name": "db", "ports": [{"containerPort": 9090}]},
    ]
}


@pytest.fixture
def pods(daemon: FakeDaemon) -> FakeDaemon:
    def listed(call: Call) -> Json:
        every = [pod("hello"), pod("help"), pod("world"), pod("job-1", namespace="jobs")]
        wanted = call.parameters.get("namespace")
        return {"pods": [each for each in every if wanted in (None, each["metadata"]["namespace"])]}

    def objects(call: Call) -> Json:
        names = ("login", "other") if call.parameters["kind"] == "Secret" else ()
        return {"documents": [{"metadata": {"name": name}} for name in names]}

    daemon.answers["Objects"] = objects
    daemon.answers["List"] = listed
    daemon.answers["Get"] = lambda _: {"pod": pod("hello", running("web"), running("db"), spec=LISTENING)}
    return daemon


LINES = {
    "get ": ["pods", "pod", "configmaps", "configmap", "secrets", "secret", "pod/hello", "pod/help", "pod/world"],
    "get pod/hel": ["pod/hello", "pod/help"],
    "get pod/hello ": ["pod/help", "pod/world"],
    "get secrets ": ["login", "other"],
    "delete secret login ": ["other"],
    "describe cm ": [],
    "create ": ["configmap", "secret"],
    "create secret ": ["generic", "docker-registry"],
    "image p": ["pull", "prune"],
    "create secret generic ": [],
    "create cm x --from-f": ["--from-file"],
    "get pods ": ["hello", "help", "world"],
    "get pods hello w": ["world"],
    "get pods -n jobs ": ["job-1"],
    "-n jobs get pods ": ["job-1"],
    "get pods --namespace=jobs ": ["job-1"],
    "get pods -n ": ["default", "jobs"],
    "get pods -o ": ["wide", "name", "json", "yaml"],
    "get pods --output=": ["--output=wide", "--output=name", "--output=json", "--output=yaml"],
    "get pods --output=j": ["--output=json"],
    "stop hello ": ["help", "world"],
    "logs h": ["hello", "help"],
    "logs hello ": [],
    "port-forward h": ["hello", "help"],
    "port-forward hello ": ["80", "9090"],
    "port-forward hello 8080:80 9": ["9090"],
    "logs hello -c ": ["web", "db"],
    "logs --container d": [],
    "exec -it hello -c d": ["db"],
    "exec hello -- l": [],
    "resize h": ["hello", "help"],
    "debug hello --target w": ["web"],
    "completion ": ["bash", "zsh", "fish"],
    "apply -f ": [":files"],
    "create cm x --from-file ": [":files"],
    "--socket ": [":files"],
    "frobnicate ": [],
    "d": ["diff", "describe", "delete", "debug", "drivers", "docker"],
    "logs --t": ["--tail", "--timestamps"],
}


@pytest.mark.parametrize(("line", "offered"), LINES.items(), ids=LINES)
def test_what_is_offered(line: str, offered: list[str], run: Run, pods: FakeDaemon) -> None:
    result = run("__complete", "--", *line.split(" "))
    candidates = [each.partition("\t")[0] for each in result.lines if each != ":"]
    assert (result.status, candidates, result.err) == (0, offered, "")
    assert result.lines[-1] in (":", ":files")


def test_meanings_are_offered_too(run: Run) -> None:
    assert f"stop\t{main.COMMANDS['stop'][1]}" in run("__complete", "--", "st").lines


@pytest.mark.parametrize("line", ["get pods ", "logs x -c ", "get pods -n "])
def test_without_a_daemon_nothing_is_said(line: str, run: Run) -> None:
    assert run("__complete", "--", *line.split(" ")) == (0, ":\n", "")


# ---- shells ----------------------------------------------------------------------------------------------------------


def needs(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    return path


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """podd-cli in $PATH."""
    script = tmp_path / "bin" / "podd-cli"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom podd.cli.main import main\nsys.exit(main())\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manifest.yaml").touch()


IN_SHELLS = {
    "podd-cli st": {"start", "stats", "stop"},
    "podd-cli get pods hel": {"hello", "help"},
    "podd-cli logs hello -c w": {"web"},
    "podd-cli get pods -o y": {"yaml"},
    "podd-cli apply -f mani": {"manifest.yaml"},
}


@pytest.mark.parametrize(("line", "offered"), [*IN_SHELLS.items(), ("podd-cli get pods --output=y", {"yaml"})])
@pytest.mark.usefixtures("command", "pods")
def test_bash(line: str, offered: set[str]) -> None:
    """bash splits at "=" before it asks."""
    words = line.replace("=", " = ").split(" ")
    script = f"""
        source <(podd-cli completion bash)
        COMP_WORDS=({" ".join(map(repr, words))}) COMP_CWORD={len(words) - 1} COMP_LINE={line!r} COMP_POINT={len(line)}
        compopt() {{ :; }}
        _podd_cli
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    shown = subprocess.run([needs("bash"), "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert (set(shown.stdout.split()), shown.stderr) == (offered, "")


@pytest.mark.parametrize(("line", "offered"), IN_SHELLS.items())
@pytest.mark.usefixtures("command", "pods")
def test_fish(line: str, offered: set[str]) -> None:
    script = f"podd-cli completion fish | source; complete -C {line!r}"
    shown = subprocess.run([needs("fish"), "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert {each.partition("\t")[0] for each in shown.stdout.splitlines()} == offered


@pytest.mark.parametrize(
    ("keys", "done"),
    [
        ("podd-cli get pods wor\t", "podd-cli get pods world"),
        ("podd-cli logs hello -c w\t", "podd-cli logs hello -c web"),
        ("podd-cli att\t", "podd-cli attach"),
        ("podd-cli apply -f mani\t", "podd-cli apply -f manifest.yaml"),
    ],
)
@pytest.mark.usefixtures("command", "pods")
def test_zsh(keys: str, done: str) -> None:
    """zsh completes only at a terminal: a key shows what stands on the line."""
    with person_at([needs("zsh"), "-f", "-i"]) as user:
        user.type(b"PS1='ready> '; unset RPS1; autoload -Uz compinit; compinit -u -D\n")
        user.type(b"show() { print -r -- \"<$BUFFER>\" }; zle -N show; bindkey '^X' show\n")
        user.type(b"source <(podd-cli completion zsh); print loa''ded\n")
        user.sees(b"loaded\r\n")
        user.sees(b"ready> ")
        user.type(keys.encode())
        user.type(b"\x18")
        user.sees(f"<{done}".encode())
