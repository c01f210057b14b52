"""resize and debug: what is asked of the daemon, and what is said."""

from __future__ import annotations

import socket

import pytest

from cli.conftest import Run
from cli.fake_daemon import Answer, FakeDaemon, Json, Refusal
from cli.samples import ended, pod, running

RESIZES: dict[tuple[str, ...], Json] = {
    ("--cpu", "1500m"): {"limits": {"cpu": "1500m"}, "requests": {}},
    ("-c", "web", "--memory", "1Gi"): {"container": "web", "limits": {"memory": "1Gi"}, "requests": {}},
    ("--cpu=2", "--memory-request=64Mi", "--cpu-request=1"): {
        "limits": {"cpu": "2"},
        "requests": {"memory": "64Mi", "cpu": "1"},
    },
}


@pytest.mark.parametrize("words", RESIZES)
def test_resize(words: tuple[str, ...], run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Resize"] = lambda _: {"pod": pod("p")}
    assert run("resize", "pod/p", *words) == (0, "pod/p resized\n", "")
    assert daemon.asked("Resize") == [{"name": "p", **RESIZES[words]}]


def test_resize_that_is_refused(run: Run, daemon: FakeDaemon) -> None:
    def refuse(_: object) -> Json:
        raise Refusal("Conflict", "cgroup x: memory.max: more is in use than the limit allows", "give it more")

    daemon.answers["Resize"] = refuse
    result = run("resize", "p", "--memory", "1Mi")
    assert (result.status, result.out) == (1, "")
    assert "more is in use than the limit allows; give it more" in result.err


def test_resize_without_an_amount_asks_nothing(run: Run, daemon: FakeDaemon) -> None:
    result = run("resize", "p")
    assert result.status == 2
    assert "an amount is missing" in result.err
    assert daemon.calls == []


# ---- debug -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def debugged(daemon: FakeDaemon) -> FakeDaemon:
    def attach(_: object) -> list[Answer | Json]:
        ours, theirs = socket.socketpair()
        ours.close()
        return [Answer({"fd": 0, "container": "debugger-1", "tty": False}, (theirs.detach(),))]

    after = pod("p", running("web"))
    after["status"]["ephemeralContainerStatuses"] = [
        {**running("debugger-1"), "state": ended(7, instance="debugger-10")}
    ]
    before = pod("p", running("web"))
    before["status"]["ephemeralContainerStatuses"] = [running("debugger-1")]
    daemon.answers |= {
        "Debug": lambda _: {"container": "debugger-1", "pod": before},
        "Get": lambda _: {"pod": before},
        "Attach": attach,
        "Watch": lambda _: [{"type": "ADDED", "pod": after}],
    }
    return daemon


def test_debug_with_a_command_prints_the_name(run: Run, debugged: FakeDaemon) -> None:
    assert run("debug", "p", "--target", "web", "--", "ps", "-ef") == (0, "debugger-1\n", "")
    (asked,) = debugged.asked("Debug")
    assert asked == {
        "name": "p",
        "target": "web",
        "image": "rootfs:/",
        "command": ["ps", "-ef"],
        "env": {},
        "stdin": False,
        "tty": False,
    }
    assert debugged.asked("Attach") == []


def test_debug_attaches_and_ends_as_the_container_does(run: Run, debugged: FakeDaemon) -> None:
    result = run("debug", "p", "-it", "--name", "look", "--image", "rootfs:/srv/tools")
    assert (result.status, result.err) == (7, "container debugger-1. If there is no prompt, press enter.\n")
    (asked,) = debugged.asked("Debug")
    assert (asked["command"], asked["container"], asked["image"]) == (["/bin/sh"], "look", "rootfs:/srv/tools")
    assert asked["env"].keys() == {"TERM"}
    (attached,) = debugged.asked("Attach")
    assert (attached["container"], attached["stdin"]) == ("debugger-1", True)


@pytest.mark.parametrize(
    ("words", "said"), [(("p",), "give -it, or a command after --"), (("p", "ps"), "write -- before the command")]
)
def test_debug_that_would_do_nothing(words: tuple[str, ...], said: str, run: Run, daemon: FakeDaemon) -> None:
    result = run("debug", *words)
    assert result.status == 2
    assert said in result.err
    assert daemon.calls == []
