from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cli.conftest import Run
from cli.fake_daemon import NOW, Answer, Call, FakeDaemon, Json, Refusal
from cli.samples import pod, running

AT = "2026-11-23T12:00:00.000000001Z"


def line(text: str, container: str = "web", stream: str = "stdout", *, partial: bool = False) -> Json:
    return {"time": AT, "stream": stream, "text": text, "partial": partial, "container": container}


def test_what_is_asked(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Logs"] = lambda _: [{"lines": []}]
    commands = {
        ("logs", "pod/p"): {"name": "p", "follow": False, "previous": False},
        ("logs", "p", "-c", "web", "-f", "--tail", "5", "-p"): {
            "name": "p", "container": "web", "follow": True, "tail": 5, "previous": True,
        },
        ("logs", "p", "--tail=-1", "--since=2m", "-n", "w"): {
            "name": "p", "namespace": "w", "since": "120s", "follow": False, "previous": False,
        },
        ("logs", "p", "--since", AT): {"name": "p", "since": AT, "follow": False, "previous": False},
    }  # fmt: skip
    for argv in commands:
        assert run(*argv) == (0, "", "")
    assert daemon.asked("Logs") == list(commands.values())


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ((), "one\nerr\nlong line\ncut off\nlast"),
        (("--timestamps",), f"{AT} one\n{AT} err\n{AT} long line\n{AT} cut off\n{AT} last"),
        (
            ("--prefix",),
            "[pod/p/web] one\n[pod/p/web] err\n[pod/p/web] long line\n[pod/p/web] cut off\n[pod/p/web] last",
        ),
    ],
)
def test_lines(options: tuple[str, ...], shown: str, run: Run, daemon: FakeDaemon) -> None:
    """Parts of a long line are joined; what comes between them from the other stream begins a line of its own."""
    daemon.answers["Logs"] = lambda _: [
        {"lines": [line("one"), line("err", stream="stderr")]},
        {"lines": [line("long ", partial=True)]},
        {"lines": [line("line"), line("cut off", partial=True), line("last", stream="stderr", partial=True)]},
        {"lines": []},
    ]
    assert run("logs", "p", *options) == (0, shown, "")


def test_bytes_of_the_container_go_out_as_they_are(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Logs"] = lambda _: [{"lines": [line("\x1b[31mred\x1b[0m ünï \ufffd")]}]
    assert run("logs", "p").out == "\x1b[31mred\x1b[0m ünï \ufffd\n"


def test_which_container_must_be_said(run: Run, daemon: FakeDaemon) -> None:
    def refuse(_: Call) -> Json:
        raise Refusal("Invalid", "pod p: container: it has several: web, db", "name one of them")

    daemon.answers["Logs"] = refuse
    assert run("logs", "p") == (1, "", "podd-cli: pod p: container: it has several: web, db; name one of them\n")


@pytest.fixture
def of_two(daemon: FakeDaemon) -> FakeDaemon:
    daemon.answers["Get"] = lambda _: {"pod": pod("p", running("web"), running("db"))}
    return daemon


def test_all_containers(run: Run, of_two: FakeDaemon) -> None:
    of_two.answers["Logs"] = lambda call: [{"lines": [line("x", call.parameters["container"])]}]
    assert run("logs", "p", "--all-containers", "--prefix").out == "[pod/p/web] x\n[pod/p/db] x\n"


def test_of_pods_by_label(run: Run, daemon: FakeDaemon) -> None:
    two = [pod("p", running("web"), running("db")), pod("q", running("web"))]
    daemon.answers["List"] = lambda call: {"pods": two if call.parameters["selector"] == "app=x" else []}
    daemon.answers["Logs"] = lambda call: [{"lines": [line("x", call.parameters["container"])]}]
    assert run("logs", "-l", "app=x", "--prefix").out == "[pod/p/web] x\n[pod/p/db] x\n[pod/q/web] x\n"
    assert {call["tail"] for call in daemon.asked("Logs")} == {10}
    assert run("logs", "-l", "app=x", "-c", "db", "--tail=-1", "--prefix").out == "[pod/p/db] x\n"
    assert "tail" not in daemon.asked("Logs")[-1]
    assert sorted(run("logs", "-l", "app=x", "-f", "-c", "web", "--prefix").lines) == ["[pod/p/web] x", "[pod/q/web] x"]
    assert run("logs", "-l", "app=x", "-c", "no") == (0, "", "no container no in 2 pods\n")
    assert run("logs", "-l", "app=y") == (0, "", "no pods\n")


@pytest.mark.parametrize("argv", [(), ("p", "-l", "app=x")])
def test_pods_are_named_or_chosen(argv: tuple[str, ...], run: Run, daemon: FakeDaemon) -> None:
    assert run("logs", *argv).status == 2


def test_all_containers_as_they_write(run: Run, of_two: FakeDaemon) -> None:
    """web writes, then db, then web again: each waits until the one before is shown to have been sent."""
    turns = [threading.Event() for _ in range(3)]

    def logs(call: Call) -> Iterator[Answer | Json]:
        name = call.parameters["container"]
        for turn in (0, 2) if name == "web" else (1,):
            if turn:
                assert turns[turn - 1].wait(20)
            yield {"lines": [line(f"{name} {turn}", name)]}
            yield NOW
            turns[turn].set()
        yield {"lines": []}

    of_two.answers["Logs"] = logs
    result = run("logs", "p", "--all-containers", "-f")
    assert result.status == 0
    assert sorted(result.lines) == ["db 1", "web 0", "web 2"]
    assert result.lines.index("web 0") < result.lines.index("web 2")


def test_one_container_that_fails_ends_the_command(run: Run, of_two: FakeDaemon) -> None:
    def logs(call: Call) -> Iterator[Answer | Json]:
        if call.parameters["container"] == "db":
            raise Refusal("Unavailable", "db: log cannot be read")
        yield {"lines": [line("x")]}

    of_two.answers["Logs"] = logs
    result = run("logs", "p", "--all-containers", "-f")
    assert (result.status, result.err) == (1, "podd-cli: db: log cannot be read\n")
