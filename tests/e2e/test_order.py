"""Who runs before whom, and who ends after whom, on the real kernel: by what the members write as they run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from real import MOUNT, Podd, alive, manifest, sh, shared, sleeper, until

pytestmark = pytest.mark.root

NOTE = "echo {word} >> /shared/order"


def notes(name: str, then: str = "", word: str = "", **more: Any) -> dict[str, Any]:
    """Writes down that it ran, as its first act."""
    return sh(name, f"{NOTE.format(word=word or name)}; {then}", **MOUNT, **more)


def stays(name: str, **more: Any) -> dict[str, Any]:
    """Writes down that it ran and, when it is told to end, that it ends."""
    return notes(name, f"trap '{NOTE.format(word='-' + name)}; exit 0' TERM; sleep infinity & wait", **more)


def sidecar(name: str, **more: Any) -> dict[str, Any]:
    return stays(name, restartPolicy="Always", **more)


def init(*containers: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"image": "rootfs:/", **one} for one in containers]


def annotated(text: str, **annotations: str) -> str:
    """Keys without podd.io/, with _ for -."""
    pod = json.loads(text)
    pod["metadata"]["annotations"] = {f"podd.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return json.dumps(pod)


def order(podd: Podd) -> list[str]:
    path = podd.shared / "order"
    return path.read_text().split() if path.exists() else []


def test_init_containers_then_sidecars_then_members_and_back(podd: Podd) -> None:
    before = init(notes("fetch"), sidecar("proxy"), notes("migrate"), sidecar("shipper"))
    podd.apply(manifest("p", stays("web"), stays("worker"), initContainers=before, **shared(podd)))
    assert order(podd)[:4] == ["fetch", "proxy", "migrate", "shipper"]
    until(lambda: set(order(podd)[4:]) == {"web", "worker"}, "the members have run")
    shown = podd.cli("get", "pods")
    assert "4/4" in shown
    assert "Running" in shown
    podd.cli("delete", "pod", "p")
    assert set(order(podd)[6:8]) == {"-web", "-worker"}
    assert order(podd)[8:] == ["-shipper", "-proxy"]


def test_an_init_container_that_fails_keeps_the_members_from_running(podd: Podd) -> None:
    before = init(notes("ok"), notes("fails", "exit 3"))
    spec = {"initContainers": before, "restartPolicy": "Never", **shared(podd)}
    podd.cli("apply", "-f", "-", stdin=manifest("p", stays("web"), **spec))
    until(lambda: podd.status("p")["phase"] == "Failed", "the pod has failed")
    assert order(podd) == ["ok", "fails"]
    assert "Init:Error" in podd.cli("get", "pods")
    (_, failed) = podd.status("p")["initContainerStatuses"]
    assert failed["state"]["terminated"]["exitCode"] == 3


def test_podd_is_killed_while_an_init_container_runs(podd: Podd) -> None:
    """It runs on, once, and what waits for it follows."""
    before = init(notes("slow", "while [ ! -e /shared/go ]; do sleep 0.05; done"))
    podd.cli("apply", "-f", "-", stdin=manifest("p", stays("web"), initContainers=before, **shared(podd)))
    until(lambda: order(podd) == ["slow"], "the init container runs")
    podd.kill()
    podd.start()
    (podd.shared / "go").touch()
    until(lambda: order(podd) == ["slow", "web"], "the member runs")
    assert podd.status("p")["initContainerStatuses"][0]["restartCount"] == 0


def test_a_command_of_a_member_may_come_from_an_init_container(podd: Podd) -> None:
    mount = {"volumeMounts": [{"name": "tools", "mountPath": "/tools"}]}
    make = sh("make", "printf '#!/bin/sh\\nexec sleep infinity\\n' > /tools/run; chmod +x /tools/run", **mount)
    uses = {"name": "main", "command": ["/tools/run"], **mount}
    podd.apply(manifest("p", uses, initContainers=init(make), volumes=[{"name": "tools", "emptyDir": {}}]))
    assert podd.status("p")["phase"] == "Running"


def test_members_wait_for_what_they_depend_on(podd: Podd) -> None:
    probe = {"exec": {"command": ["test", "-e", "/shared/well"]}, "periodSeconds": 1}
    text = manifest("p", stays("web"), stays("db", readinessProbe=probe), **shared(podd))
    podd.cli("apply", "-f", "-", stdin=annotated(text, depends_on="web=db:ready"))
    until(lambda: order(podd) == ["db"], "the first runs")
    waiting = podd.status("p")["containerStatuses"][0]["state"]["waiting"]
    assert waiting == {"reason": "WaitingForDependency", "message": "db: ready"}
    (podd.shared / "well").touch()
    until(lambda: order(podd) == ["db", "web"], "the second runs")


def test_the_end_of_the_keystone_ends_the_pod(podd: Podd) -> None:
    job = notes("job", "while [ ! -e /shared/go ]; do sleep 0.05; done; exit 0")
    text = manifest("p", job, stays("helper"), restartPolicy="Never", **shared(podd))
    podd.apply(annotated(text, keystone="job"))
    helper = podd.pids("p")["helper"]
    until(lambda: "helper" in order(podd), "it listens to its signal")
    (podd.shared / "go").touch()
    until(lambda: podd.status("p")["phase"] == "Succeeded", "the pod has ended")
    assert not alive(helper)
    assert order(podd)[-1] == "-helper"


def test_a_pod_ends_at_its_deadline(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("main"), activeDeadlineSeconds=1))
    until(lambda: podd.status("p")["phase"] == "Failed", "the deadline has passed")
    assert podd.status("p")["reason"] == "DeadlineExceeded"
    assert "DeadlineExceeded" in podd.cli("events", "p")


def test_a_container_is_told_to_end_by_the_signal_that_it_wants(podd: Podd) -> None:
    hears = sh(
        "main", f"trap '{NOTE.format(word='usr1')}; exit 0' USR1; touch /shared/up; sleep infinity & wait", **MOUNT
    )
    spec = {"os": {"name": "linux"}, **shared(podd)}
    podd.apply(manifest("p", {**hears, "lifecycle": {"stopSignal": "SIGUSR1"}}, **spec))
    until((podd.shared / "up").exists, "it listens")
    podd.cli("stop", "p")
    assert order(podd) == ["usr1"]


def test_one_container_may_be_restarted_by_rules_of_its_own(podd: Podd) -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    flaky = notes("flaky", "[ $(grep -c flaky /shared/order) -lt 2 ] && exit 42; exit 7")
    spec = {"restartPolicy": "Never", **shared(podd)}
    flaky |= {"restartPolicy": "Never", "restartPolicyRules": rules}
    podd.cli("apply", "-f", "-", stdin=manifest("p", flaky, **spec))
    until(lambda: podd.status("p")["phase"] == "Failed", "it has ended for good")
    assert order(podd) == ["flaky", "flaky"]
    (shown,) = podd.status("p")["containerStatuses"]
    assert (shown["restartCount"], shown["state"]["terminated"]["exitCode"]) == (1, 7)
