"""podd is killed, its supervisors are killed, its records are damaged; the pods' users notice as little as can be."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess

import pytest
from real import BIN, MOUNT, Podd, alive, kill, manifest, sh, shared, sleeper, until

pytestmark = [pytest.mark.root, pytest.mark.parametrize("driver", ["setns", "runc"])]

COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"


def test_a_pod_does_not_notice_that_podd_is_killed(podd: Podd) -> None:
    os.mkfifo(podd.shared / "go", 0o666)
    ends = sh("ends", "read x < /shared/go; exit 7", **MOUNT)
    podd.apply(manifest("p", sh("counts", COUNT), sleeper("stays"), ends, restartPolicy="Never", **shared(podd)))
    pids = podd.pids("p")
    podd.kill()
    with (podd.shared / "go").open("w") as fifo:
        fifo.write("go\n")
    until(lambda: not alive(pids["ends"]), "a member ends while nobody watches")
    podd.start()
    now = podd.pids("p")
    assert (now["counts"], now["stays"]) == (pids["counts"], pids["stays"])
    status = podd.status("p")
    ended = status["containerStatuses"][2]
    until(lambda: "terminated" in podd.status("p")["containerStatuses"][2]["state"], "its end is known")
    ended = podd.status("p")["containerStatuses"][2]
    assert ended["state"]["terminated"]["exitCode"] == 7
    assert [c["restartCount"] for c in podd.status("p")["containerStatuses"]] == [0, 0, 0]
    lines = podd.cli("logs", "p", "-c", "counts").split()
    assert lines == [str(n) for n in range(1, len(lines) + 1)], "the log has no gap"
    assert podd.cli("exec", "p", "-c", "stays", "--", "echo", "hello") == "hello\n"


def test_a_killed_supervisor_takes_its_pod_along_and_the_policy_brings_it_back(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a"), sh("b", "setsid sleep 1000 & trap 'exit 0' TERM; sleep infinity & wait")))
    pids, shim = podd.pids("p"), podd.shim("p")
    kill(shim)
    until(lambda: not any(map(alive, pids.values())), "its members die with it")
    until(lambda: podd.pids("p") not in ({}, pids) and podd.status("p")["phase"] == "Running", "it is back")
    status = podd.status("p")
    assert [c["restartCount"] for c in status["containerStatuses"]] == [1, 1]
    assert status["podd"]["restarts"] == 1


def test_a_supervisor_killed_while_podd_is_away(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a"), restartPolicy="Never"))
    shim, member = podd.shim("p"), podd.pids("p")["a"]
    podd.kill()
    kill(shim)
    until(lambda: not alive(member), "its member dies with it")
    podd.start()
    until(lambda: podd.status("p")["phase"] == "Failed", "it is seen")


def test_a_damaged_record_is_put_aside_and_the_rest_served(podd: Podd) -> None:
    podd.apply(manifest("good", sleeper("a")))
    podd.apply(manifest("bad", sleeper("a")))
    pids, lost = podd.pids("good"), podd.pids("bad")["a"]
    podd.kill()
    with sqlite3.connect(podd.folder / "state/podd.db") as db:
        db.execute("UPDATE pods SET record = '{\"uid\": 3}' WHERE name = 'bad'")
    db.close()
    podd.start()
    assert podd.pids("good") == pids
    assert "default/bad: its record is damaged" in podd.cli("info")
    assert "RecordDamaged" in podd.cli("get", "pods")
    assert alive(lost), "what runs of it is left alone until a person decides"
    podd.cli("delete", "pod", "bad")
    assert not alive(lost)
    assert "RecordDamaged" not in podd.cli("get", "pods")


def failpoints(podd: Podd) -> int:
    """How many writes and calls a life of a pod has, roughly: where the samples are taken from."""
    return 60


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_at_any_write_or_call_is_made_good(podd: Podd, seed: int) -> None:
    dice = random.Random(seed)
    points = sorted(dice.sample(range(1, failpoints(podd)), 3))
    for n, point in enumerate(points):
        name = f"p{n}"
        podd.stop()
        podd.start(PODD_FAILPOINT=f"any:{point}")
        podd.cli("apply", "-f", "-", "--wait", status=None, stdin=manifest(name, sleeper("a"), sleeper("b")))
        podd.cli("restart", name, "--grace-period", "1", status=None)
        podd.cli("delete", "pod", name, "--grace-period", "1", status=None)
        podd.ensure_running()

        def rests(name: str = name) -> bool:
            found = [p for p in podd.pods() if p["metadata"]["name"] == name]
            return not found or (found[0]["status"]["phase"] == "Running" and len(podd.pids(name)) == 2)

        until(rests, f"{name}, after a kill at point {point}, is running or gone")


def test_podd_stops_and_starts_without_touching_pods(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a")))
    pids = podd.pids("p")
    for _ in range(3):
        podd.stop()
        assert all(map(alive, pids.values()))
        podd.start()
        assert podd.pids("p") == pids


def test_two_podds_do_not_share_directories(podd: Podd) -> None:
    done = subprocess.run(
        [BIN / "podd", "--config", podd.folder / "podd.toml"], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
