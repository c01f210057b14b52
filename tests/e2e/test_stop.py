"""A pod ends as one: one signal, one grace period, and then nothing of it is alive, whatever its processes do."""

from __future__ import annotations

import json
import os
import time

import pytest
from real import MOUNT, Podd, alive, kill, manifest, sh, shared, sleeper, until

pytestmark = [pytest.mark.root, pytest.mark.parametrize("driver", ["setns", "runc"])]

STUBBORN = "trap '' TERM INT HUP; while :; do sleep 1000; done"
DAEMONIZES = "setsid sh -c 'echo $$ > /shared/daemon; trap \"\" TERM HUP; while :; do sleep 1000; done' & "


def all_pids(podd: Podd, name: str) -> set[int]:
    nodes = json.loads(podd.cli("tree", name, "-o", "json"))
    nodes = nodes["nodes"] if isinstance(nodes, dict) else nodes
    return {p["pid"] for n in nodes for p in n["processes"]}


@pytest.mark.parametrize("pid", ["container", "pod", "node"])
def test_everything_is_gone_within_the_grace_period(podd: Podd, pid: str) -> None:
    scope = {"pod": {"shareProcessNamespace": True}, "node": {"hostPID": True}}.get(pid, {})
    podd.apply(
        manifest(
            "p",
            sleeper("polite"),
            sh("stubborn", STUBBORN),
            sh("forks", DAEMONIZES + "trap 'exit 0' TERM; sleep infinity & wait", **MOUNT),
            terminationGracePeriodSeconds=1,
            **shared(podd),
            **scope,
        )
    )
    until((podd.shared / "daemon").exists, "the daemon runs")
    pids = all_pids(podd, "p")
    assert len(pids) >= 5
    began = time.monotonic()
    podd.cli("stop", "p")
    took_s = time.monotonic() - began
    assert not [p for p in pids if alive(p)]
    assert 0.9 < took_s < 5
    codes = {c["name"]: c["state"]["terminated"]["exitCode"] for c in podd.status("p")["containerStatuses"]}
    assert codes == {"polite": 0, "stubborn": 137, "forks": 0}
    assert podd.status("p")["reason"] == "Stopped"
    podd.cli("start", "p")
    assert podd.status("p")["phase"] == "Running"


def test_delete_now_is_quick_and_leaves_no_volume(podd: Podd) -> None:
    volumes = [
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    mounts = [{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"}]
    podd.apply(
        manifest(
            "p", sh("a", f"echo x > /disk/f; echo y > /memory/f; {STUBBORN}", volumeMounts=mounts), volumes=volumes
        )
    )
    full = podd.cli("exec", "p", "--", "sh", "-c", "head -c 2M /dev/zero > /memory/big", status=1)
    assert "No space left" in full
    podd.cli("restart", "p", "--grace-period", "0")
    until(lambda: podd.cli("exec", "p", "--", "cat", "/disk/f", status=None) == "x\n", "volumes outlive a restart")
    podd.cli("delete", "pod", "p", "--now")
    assert podd.pods() == []
    assert "there is none" in podd.cli("get", "pod", "p", status=1)
    assert not list((podd.folder / "state/volumes").iterdir())


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("OnFailure", 3, True), ("OnFailure", 0, False), ("Never", 3, False)],
)
def test_restart_policy_on_real_exits(podd: Podd, policy: str, code: int, again: bool) -> None:
    script = f"echo run >> /shared/runs; read x < /shared/go; exit {code}"
    os.mkfifo(podd.shared / "go", 0o666)
    podd.apply(manifest("p", sh("a", script, **MOUNT), sleeper("b"), restartPolicy=policy, **shared(podd)))
    with (podd.shared / "go").open("w") as fifo:
        fifo.write("go\n")

    def member() -> dict[str, object]:
        return podd.status("p")["containerStatuses"][0]  # type: ignore[no-any-return]

    if again:
        until(lambda: member()["restartCount"] == 1, "it was restarted")
        assert member()["lastState"]["terminated"]["exitCode"] == code  # type: ignore[index]
        until(lambda: (podd.shared / "runs").read_text() == "run\nrun\n", "it ran twice")
        podd.cli("delete", "pod", "p", "--now")
    else:
        until(lambda: "terminated" in member()["state"], "it has ended")  # type: ignore[operator]
        assert member()["state"]["terminated"]["exitCode"] == code  # type: ignore[index]
        assert member()["restartCount"] == 0


def test_a_member_that_is_killed_says_so(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a"), restartPolicy="Never"))
    kill(podd.pids("p")["a"])
    until(lambda: podd.status("p")["phase"] == "Failed", "it is seen")
    ended = podd.status("p")["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["signal"], ended["reason"]) == (137, 9, "Error")


def test_out_of_memory_is_told(podd: Podd) -> None:
    eat = "import sys; x = bytearray(200 << 20); sys.exit(0)"
    limits = {"resources": {"limits": {"memory": "32Mi"}}}
    podd.apply(
        manifest("p", {"name": "a", "command": ["/usr/bin/python3", "-c", eat], **limits}, restartPolicy="Never")
    )
    until(lambda: podd.status("p")["phase"] == "Failed", "it is killed")
    ended = podd.status("p")["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_pause_freezes_all_and_a_paused_pod_can_be_deleted(podd: Podd) -> None:
    count = "i=0; while :; do i=$((i+1)); echo $i > /shared/n; sleep 0.02; done"
    podd.apply(manifest("p", sh("a", count, **MOUNT), sleeper("b"), **shared(podd)))
    until((podd.shared / "n").exists, "it counts")
    podd.cli("pause", "p")
    first = (podd.shared / "n").read_text()
    assert podd.status("p")["reason"] == "Paused"
    time.sleep(0.2)  # nothing is to happen in this time
    assert (podd.shared / "n").read_text() == first
    assert "paused" in podd.cli("exec", "p", "-c", "a", "--", "true", status=1)
    podd.cli("resume", "p")
    until(lambda: (podd.shared / "n").read_text() not in (first, ""), "it goes on")
    podd.cli("pause", "p")
    podd.cli("delete", "pod", "p", "--grace-period", "0")
