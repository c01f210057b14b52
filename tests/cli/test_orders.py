"""stop, start, restart, pause, resume and delete."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cli.conftest import Run
from cli.fake_daemon import Call, FakeDaemon, Json, Refusal
from cli.samples import pod, terminated

UID = {name: pod(name)["metadata"]["uid"] for name in ("a", "bb", "ccc")}


def named(call: Call) -> Json:
    """The pod asked for, by name or uid; one called missing is not there."""
    asked = call.parameters["name"]
    if asked == "missing":
        raise Refusal("NotFound", "pod missing: not found", "see podd-cli get pods -A")
    return {"pod": pod(next((name for name, uid in UID.items() if uid == asked), asked))}


@pytest.fixture
def orders(daemon: FakeDaemon) -> FakeDaemon:
    daemon.answers |= dict.fromkeys(("Stop", "Start", "Restart", "Pause", "Resume", "Delete"), named)
    daemon.answers["List"] = lambda _: {"pods": [pod(name) for name in UID]}
    return daemon


@pytest.mark.parametrize(
    ("argv", "method", "asked", "said"),
    [
        (("stop", "a"), "Stop", {"wait": True}, "stopped"),
        (("stop", "pod/a", "--no-wait"), "Stop", {"wait": False}, "stopping"),
        (("stop", "a", "--now"), "Stop", {"wait": True, "now": True}, "stopped"),
        (("stop", "a", "--grace-period", "3"), "Stop", {"wait": True, "grace_period_s": 3}, "stopped"),
        (("start", "a", "-n", "web"), "Start", {"wait": True, "namespace": "web"}, "started"),
        (("start", "a", "--no-wait"), "Start", {"wait": False}, "starting"),
        (("restart", "a", "--grace-period=0"), "Restart", {"wait": True, "grace_period_s": 0}, "restarted"),
        (("restart", "a", "--no-wait"), "Restart", {"wait": False}, "restarting"),
        (("pause", "a"), "Pause", {}, "paused"),
        (("resume", "a"), "Resume", {}, "resumed"),
        (("delete", "pod", "a", "--now"), "Delete", {"wait": True, "now": True}, "deleted"),
        (("delete", "pod/a", "--no-wait"), "Delete", {"wait": False}, "deleting"),
    ],
)
def test_one_pod(argv: tuple[str, ...], method: str, asked: Json, said: str, run: Run, orders: FakeDaemon) -> None:
    assert run(*argv) == (0, f"pod/a {said}\n", "")
    assert orders.asked(method) == [{"name": "a", **asked}]


@pytest.mark.parametrize(
    ("argv", "method"), [(("stop",), "Stop"), (("start",), "Start"), (("delete", "pod"), "Delete")]
)
def test_all_have_their_order_before_one_is_waited_for(
    argv: tuple[str, ...], method: str, run: Run, orders: FakeDaemon
) -> None:
    result = run(*argv, "a", "missing", "bb")
    assert result.status == 1
    assert [line.split()[0] for line in result.lines] == ["pod/a", "pod/bb"]
    assert result.err == "podd-cli: pod missing: not found; see podd-cli get pods -A\n"
    assert orders.asked(method) == [
        {"name": "a", "wait": False},
        {"name": "missing", "wait": False},
        {"name": "bb", "wait": False},
        {"name": UID["a"], "wait": True},
        {"name": UID["bb"], "wait": True},
    ]


def test_pods_are_restarted_at_the_same_time(run: Run, daemon: FakeDaemon) -> None:
    all_are_asked = threading.Barrier(3, timeout=10)

    def restart(call: Call) -> Json:
        all_are_asked.wait()
        return named(call)

    daemon.answers["Restart"] = restart
    result = run("restart", "a", "missing", "bb")
    assert (result.status, result.out) == (1, "pod/a restarted\npod/bb restarted\n")
    assert result.err == "podd-cli: pod missing: not found; see podd-cli get pods -A\n"
    asked = sorted(daemon.asked("Restart"), key=lambda call: str(call["name"]))
    assert asked == [{"name": name, "wait": True} for name in ("a", "bb", "missing")]


@pytest.mark.parametrize("word", ["start", "restart"])
def test_a_pod_that_cannot_start(word: str, run: Run, daemon: FakeDaemon) -> None:
    why = {"reason": "CreateContainerError", "message": "web: no such command"}
    failed = pod("p", terminated("web", 128, "CreateContainerError"), phase="Failed", **why)
    daemon.answers |= {"Start": lambda _: {"pod": failed}, "Restart": lambda _: {"pod": failed}}
    message = "pod/p: not running: CreateContainerError: web: no such command; see 'podd-cli describe pod/p -n default'"
    assert run(word, "p") == (1, "", f"podd-cli: {message}\n")


def test_delete_of_a_pod_that_went_while_it_was_waited_for(run: Run, daemon: FakeDaemon) -> None:
    def delete(call: Call) -> Json:
        if call.parameters["wait"]:
            raise Refusal("NotFound", "pod: not found")
        return named(call)

    daemon.answers["Delete"] = delete
    assert run("delete", "pod", "a", "bb") == (0, "pod/a deleted\npod/bb deleted\n", "")


def test_delete_all(run: Run, orders: FakeDaemon) -> None:
    assert (
        run("delete", "pods", "--all", "-n", "web", "--no-wait").out
        == "pod/a deleting\npod/bb deleting\npod/ccc deleting\n"
    )
    assert orders.asked("List") == [{"namespace": "web"}]
    assert orders.asked("Delete") == [{"name": uid, "wait": False} for uid in UID.values()]


def test_delete_all_of_none(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["List"] = lambda _: {"pods": []}
    assert run("delete", "pods", "--all", "-A") == (0, "", "no pods\n")


def test_delete_what_manifests_name(run: Run, orders: FakeDaemon, tmp_path: Path) -> None:
    def dry(call: Call) -> Json:
        return {"results": [{"name": name, "namespace": "web", "action": "unchanged"} for name in ("a", "bb")]}

    orders.answers["Apply"] = dry
    (tmp_path / "pods.yaml").write_text("text")
    assert run("delete", "-f", f"{tmp_path}/pods.yaml").out == "pod/a deleted\npod/bb deleted\n"
    asked = {"manifest": "text", "source": f"{tmp_path}/pods.yaml"}
    assert orders.asked("Apply") == [{**asked, "dry_run": True, "strict": False}]
    assert orders.asked("Delete")[0] == {"name": "a", "namespace": "web", "wait": False}


def test_what_is_not_there_may_be_no_failure(run: Run, orders: FakeDaemon) -> None:
    assert run("delete", "pod", "missing").status == 1
    assert run("delete", "pod", "missing", "--ignore-not-found") == (0, "", "")
    assert run("delete", "pod", "a", "missing", "bb", "--ignore-not-found").lines == ["pod/a deleted", "pod/bb deleted"]


@pytest.mark.parametrize(
    ("argv", "method"),
    [
        (("delete", "pods"), "Delete"),
        (("stop",), "Stop"),
        (("start",), "Start"),
        (("restart",), "Restart"),
        (("pause",), "Pause"),
        (("resume",), "Resume"),
    ],
)
def test_pods_are_chosen_by_their_labels(argv: tuple[str, ...], method: str, run: Run, orders: FakeDaemon) -> None:
    assert run(*argv, "-l", "app=web,!debug", "-A").status == 0
    assert orders.asked("List") == [{"selector": "app=web,!debug"}]
    assert {each["name"] for each in orders.asked(method)} == set(UID.values())


@pytest.mark.parametrize(
    ("word", "field", "done"), [("label", "labels", "labeled"), ("annotate", "annotations", "annotated")]
)
def test_labels_and_annotations(word: str, field: str, done: str, run: Run, orders: FakeDaemon) -> None:
    orders.answers["Amend"] = named
    assert run(word, "pod", "a", "app=web", "x.io/y=a=b", "old-", "--overwrite") == (0, f"pod/a {done}\n", "")
    assert run(word, "pods", "-l", "app", "tier=", "-n", "web").lines == [f"pod/{name} {done}" for name in UID]
    first, *others = orders.asked("Amend")
    assert first == {"name": "a", field: {"app": "web", "x.io/y": "a=b", "old": None}, "overwrite": True}
    assert others == [{"name": uid, field: {"tier": ""}, "overwrite": False} for uid in UID.values()]


def test_reload(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Reload"] = lambda _: {"changed": ["daemon.log_level"], "needs_restart": ["daemon.socket"]}
    assert run("reload").lines == ["daemon.log_level changed", "daemon.socket changes when podd is restarted"]
    daemon.answers["Reload"] = lambda _: {"changed": [], "needs_restart": []}
    assert run("reload").out == "no key changed\n"
