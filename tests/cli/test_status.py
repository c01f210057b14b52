from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cli.samples import ago, container, ended, pod, running, terminated, waiting
from podd.cli import status

STATUS = {
    "Running": pod("p", running("a"), running("b")),
    "CrashLoopBackOff": pod("p", running("a"), waiting("b", "CrashLoopBackOff")),
    "ContainerCreating": pod("p", waiting("a", "ContainerCreating"), running("b"), phase="Pending"),
    "CreateContainerError": pod(
        "p", waiting("a", "ContainerCreating"), waiting("b", "CreateContainerError"), reason="CreateContainerError"
    ),
    "Completed": pod("p", terminated("a", 0, "Completed"), phase="Succeeded"),
    "Error": pod("p", terminated("a", 1, "Error"), terminated("b", 0, "Completed"), phase="Failed"),
    "OOMKilled": pod("p", terminated("a", 137, "OOMKilled", 9), phase="Failed"),
    "ExitCode:3": pod("p", terminated("a", 3, ""), phase="Failed"),
    "Signal:15": pod("p", terminated("a", 143, "", 15), phase="Failed"),
    "Pending": pod("p", container("a", {}), phase="Pending"),
    "Unknown": {"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {}},
    "Terminating": pod("p", running("a"), reason="Terminating"),
    "Stopping": pod("p", running("a"), terminated("b", 143, "Error"), reason="Stopping"),
    "Stopped": pod("p", terminated("a", 0, "Completed"), phase="Succeeded", reason="Stopped"),
    "Paused": pod("p", running("a"), reason="Paused"),
}


@pytest.mark.parametrize(("word", "shown"), STATUS.items(), ids=STATUS)
def test_status_word(word: str, shown: dict[str, Any]) -> None:
    assert status.status(shown) == word


def with_init(*init: dict[str, Any], sidecars: tuple[str, ...] = (), phase: str = "Pending") -> dict[str, Any]:
    """A pod of one member, and these before it."""
    member = running("a") if phase == "Running" else waiting("a", "PodInitializing")
    shown = pod("p", member, phase=phase)
    shown["spec"]["initContainers"] = [
        {"name": c["name"], **({"restartPolicy": "Always"} if c["name"] in sidecars else {})} for c in init
    ]
    shown["status"]["initContainerStatuses"] = list(init)
    return shown


DONE = terminated("one", 0, "Completed")
INIT: dict[str, tuple[dict[str, Any], str, str]] = {
    "the first runs": (with_init(running("one"), waiting("two", "PodInitializing")), "Init:0/2", "0/1"),
    "the second runs": (with_init(DONE, running("two")), "Init:1/2", "0/1"),
    "one failed": (with_init(terminated("one", 1, "Error"), phase="Failed"), "Init:Error", "0/1"),
    "one fails again and again": (with_init(waiting("one", "CrashLoopBackOff")), "Init:CrashLoopBackOff", "0/1"),
    "all are done": (with_init(DONE, phase="Running"), "Running", "1/1"),
    "beside a sidecar": (with_init(running("side"), running("two"), sidecars=("side",)), "Init:1/2", "1/2"),
    "with a sidecar": (with_init(running("side"), DONE, sidecars=("side",), phase="Running"), "Running", "2/2"),
}


@pytest.mark.parametrize("name", INIT)
def test_init_containers_and_sidecars(name: str) -> None:
    shown, word, ready = INIT[name]
    assert (status.status(shown), status.ready(shown)) == (word, ready)


def test_restarts_of_init_containers_count_while_they_run() -> None:
    failing = with_init(waiting("one", "CrashLoopBackOff", restarts=3))
    assert status.restarts(failing, datetime.now(UTC)) == "3"
    done = with_init({**DONE, "restartCount": 3}, phase="Running")
    assert status.restarts(done, datetime.now(UTC)) == "0"


def test_a_completed_member_does_not_hide_that_others_run() -> None:
    members = (terminated("a", 0, "Completed"), running("b"))
    assert status.status(pod("p", *members)) == "NotReady"
    shown = pod("p", *members)
    shown["status"]["conditions"][0]["status"] = "True"
    assert status.status(shown) == "Running"


def test_first_member_that_is_not_well_gives_the_reason() -> None:
    assert status.status(pod("p", waiting("a", "CrashLoopBackOff"), terminated("b", 1, "Error"))) == "CrashLoopBackOff"


def test_ready_counts_members_that_run_and_are_ready() -> None:
    assert status.ready(pod("p", running("a"), running("b", ready=False), waiting("c", "CrashLoopBackOff"))) == "1/3"
    assert status.ready({"metadata": {}, "spec": {"containers": [{"name": "a"}]}, "status": {}}) == "0/1"


def test_restarts_tell_when_the_last_one_was() -> None:
    now = datetime.now(UTC)
    last = [ended(1, at=ago(days=12, hours=1)), ended(1, at=ago(hours=20, minutes=9))]
    shown = pod("p", running("a", restarts=2, last=last[0]), running("b", restarts=1, last=last[1]), running("c"))
    assert status.restarts(shown, now) == "3 (20h ago)"
    assert status.restarts(pod("p", running("a")), now) == "0"
    assert status.restarts(pod("p", running("a", restarts=4)), now) == "4"


@pytest.mark.parametrize(
    ("value", "colour"), [("Running", "green"), ("Stopping", "yellow"), ("CrashLoopBackOff", "red"), ("Stopped", "dim")]
)
def test_only_the_status_is_painted(value: str, colour: str) -> None:
    assert status.colour("STATUS", value) == colour
    assert status.colour("NAME", value) == ""
