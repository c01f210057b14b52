"""What is told of the end of a container: its own last words, and that the kernel killed it for want of memory."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from real import Podd, kill, manifest, sh, sleeper, until

from podd.linux.cgroup import Layout

pytestmark = pytest.mark.root

HOG = "awk 'BEGIN { s = \"x\"; while (1) s = s s }'"
NEVER: dict[str, Any] = {"restartPolicy": "Never"}


def ended(podd: Podd, name: str) -> dict[str, Any]:
    def of_it() -> dict[str, Any] | None:
        found = next(c for c in podd.status("p")["containerStatuses"] if c["name"] == name)
        return found["state"].get("terminated")  # type: ignore[no-any-return]

    return until(of_it, f"{name} has ended") or {}


# ---- last words ------------------------------------------------------------------------------------------------------

SPEAKERS: dict[str, tuple[dict[str, Any], str]] = {
    "default": (sh("a", "printf 'no more disk' > /dev/termination-log; exit 3"), "no more disk"),
    "user": (
        sh("a", "printf mine > /dev/termination-log; exit 3", securityContext={"runAsUser": 4711}),
        "mine",
    ),
    "own path": (
        sh("a", "printf here > /var/lib/own/words; exit 3", terminationMessagePath="/var/lib/own/words"),
        "here",
    ),
    "read-only root": (
        sh(
            "a",
            "touch /x 2>/dev/null || printf sealed > /words; exit 3",
            terminationMessagePath="/words",
            securityContext={"readOnlyRootFilesystem": True},
        ),
        "sealed",
    ),
    "in a volume": (
        sh(
            "a",
            "printf inside > /data/deep/words; exit 3",
            terminationMessagePath="/data/deep/words",
            volumeMounts=[{"name": "data", "mountPath": "/data"}],
        ),
        "inside",
    ),
    "privileged": (
        sh(
            "a",
            "printf mighty > /tmp/words; exit 3",
            terminationMessagePath="/tmp/words",
            securityContext={"privileged": True},
        ),
        "mighty",
    ),
    "log": (sh("a", "echo why; exit 3", terminationMessagePolicy="FallbackToLogsOnError"), "why\n"),
    "too much": (sh("a", "head -c 9000 /dev/zero | tr '\\0' x > /dev/termination-log; exit 3"), "x" * 4096),
}


@pytest.mark.parametrize(("member", "said"), SPEAKERS.values(), ids=list(SPEAKERS))
def test_last_words_are_in_the_status(podd: Podd, member: dict[str, Any], said: str) -> None:
    volumes = [{"name": "data", "emptyDir": {}}]
    podd.apply(manifest("p", member, sleeper("b"), volumes=volumes, **NEVER))
    assert (ended(podd, "a")["exitCode"], ended(podd, "a")["message"]) == (3, said)
    assert not Path("/dev/termination-log").exists()


def test_last_words_in_a_volume_that_is_read_only_are_refused(podd: Podd) -> None:
    """There is no place for them: better told at the start than found out at the end."""
    mounts = [{"name": "data", "mountPath": "/data", "readOnly": True}]
    member = sh("a", "exit 3", terminationMessagePath="/data/words", volumeMounts=mounts)
    said = podd.apply(manifest("p", member, volumes=[{"name": "data", "emptyDir": {}}], **NEVER), status=1)
    assert "/data/words" in said
    assert "read-only" in said.lower()


def test_last_words_while_podd_was_away(podd: Podd) -> None:
    podd.apply(
        manifest("p", sh("a", "trap 'printf bye > /dev/termination-log; exit 3' TERM; sleep infinity & wait"), **NEVER)
    )
    pid = podd.pids("p")["a"]
    podd.kill()
    os.kill(pid, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended")
    podd.start()
    assert ended(podd, "a")["message"] == "bye"


# ---- want of memory --------------------------------------------------------------------------------------------------


def limited(name: str, script: str) -> dict[str, Any]:
    return sh(name, script, resources={"limits": {"memory": "32Mi"}})


def test_the_member_that_ran_out_of_memory_is_the_one_that_is_told_of(podd: Podd) -> None:
    podd.apply(
        manifest("p", limited("hog", f"exec {HOG}"), limited("b", "trap 'exit 0' TERM; sleep infinity & wait"), **NEVER)
    )
    assert (ended(podd, "hog")["reason"], ended(podd, "hog")["exitCode"]) == ("OOMKilled", 137)
    assert "b" in podd.pids("p")
    assert "OOMKilled" in podd.cli("get", "pod", "p")
    podd.cli("stop", "p", "--grace-period", "0")
    assert (ended(podd, "b")["reason"], ended(podd, "b")["exitCode"]) == ("Error", 137)


def test_a_child_that_ran_out_of_memory_and_took_its_parent_along(podd: Podd) -> None:
    """A shell ends as its last command did: 137. On cgroup v2 the kernel kills both."""
    podd.apply(manifest("p", limited("hog", f"{HOG}; exit $?"), sleeper("b"), **NEVER))
    assert (ended(podd, "hog")["reason"], ended(podd, "hog")["exitCode"]) == ("OOMKilled", 137)


def test_a_member_that_goes_on_without_its_child_and_is_killed_later(podd: Podd) -> None:
    """An old want of memory does not explain a kill of ours. On cgroup v2 it does not go on."""
    podd.apply(manifest("p", limited("hog", f"{HOG} & wait; sleep infinity & wait"), sleeper("b"), **NEVER))
    until(lambda: oom_kills(podd, "hog"), "the child is killed")
    podd.cli("stop", "p", "--grace-period", "0")
    alone = "memory" in {c for h in Layout.detect().hierarchies if h.version == 1 for c in h.controllers}
    assert ended(podd, "hog")["reason"] == ("Error" if alone else "OOMKilled")


def oom_kills(podd: Podd, name: str) -> int:
    nodes = json.loads(podd.cli("tree", "p", "-o", "json"))
    nodes = nodes["nodes"] if isinstance(nodes, dict) else nodes
    return next(int(node["usage"]["oom_kills"] or 0) for node in nodes if node["name"] == name)


def test_a_member_that_the_pods_own_limit_killed(podd: Podd) -> None:
    pod_limit = {"resources": {"limits": {"memory": "48Mi"}}}
    podd.apply(manifest("p", sh("hog", f"exec {HOG}"), sleeper("b"), **pod_limit, **NEVER))
    assert ended(podd, "hog")["reason"] == "OOMKilled"
    assert "b" in podd.pids("p")


def test_a_kill_is_no_want_of_memory(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a"), sleeper("b"), **NEVER))
    kill(podd.pids("p")["a"])
    assert (ended(podd, "a")["reason"], ended(podd, "a")["exitCode"]) == ("Error", 137)
