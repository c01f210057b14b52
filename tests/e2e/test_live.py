"""Changing pods that run: their limits, and containers added to look into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from real import MOUNT, Podd, alive, kill, manifest, namespaces, sh, shared, sleeper, until

from podd.linux import capabilities

pytestmark = pytest.mark.root

MIB = 1 << 20


def limits(podd: Podd, name: str) -> dict[str, tuple[int | None, int | None]]:
    """Processor quota and memory limit as the kernel has them, by container; the pod's own under ""."""
    nodes = json.loads(podd.cli("tree", name, "-o", "json"))
    nodes = nodes["nodes"] if isinstance(nodes, dict) else nodes
    return {
        node["name"] if node["depth"] else "": (node["limits"]["cpu_quota_us"], node["limits"]["memory_bytes"])
        for node in nodes
    }


def limited(name: str, cpu: str, memory: str, script: str = "") -> dict[str, Any]:
    resources = {"resources": {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": "10m"}}}
    return sh(name, script, **MOUNT, **resources) if script else sleeper(name, **resources)


# ---- resize ----------------------------------------------------------------------------------------------------------


def test_what_runs_is_resized_and_goes_on(podd: Podd) -> None:
    podd.apply(manifest("p", limited("a", "200m", "64Mi"), limited("b", "200m", "64Mi")))
    before = podd.pids("p")
    assert podd.cli("resize", "p", "-c", "a", "--cpu", "500m", "--memory", "128Mi") == "pod/p resized\n"
    assert limits(podd, "p") == {"": (70_000, 192 * MIB), "a": (50_000, 128 * MIB), "b": (20_000, 64 * MIB)}
    podd.cli("resize", "p", "-c", "a", "--cpu", "100m", "--memory", "32Mi")
    assert limits(podd, "p") == {"": (30_000, 96 * MIB), "a": (10_000, 32 * MIB), "b": (20_000, 64 * MIB)}
    assert podd.pids("p") == before
    (a, _) = podd.status("p")["containerStatuses"]
    assert a["resources"]["limits"] == {"cpu": "100m", "memory": "32Mi"}
    assert a["allocatedResources"] == {"cpu": "10m", "memory": "32Mi"}
    assert "32Mi" in podd.cli("describe", "pod", "p")


def test_the_new_limits_outlive_a_crash_and_a_restart(podd: Podd) -> None:
    podd.apply(manifest("p", limited("a", "200m", "64Mi")))
    podd.cli("resize", "p", "--memory", "128Mi")
    podd.kill()
    podd.start()
    until(lambda: podd.pids("p"), "it is taken up")
    kill(podd.pids("p")["a"])
    until(lambda: podd.status("p")["containerStatuses"][0]["restartCount"] == 1 and podd.pids("p"), "it runs again")
    assert limits(podd, "p") == {"": (20_000, 128 * MIB), "a": (20_000, 128 * MIB)}


def test_memory_below_what_is_in_use_is_refused(podd: Podd) -> None:
    hold = "head -c 48M /dev/zero > /dev/shm/held; touch /shared/held; trap 'exit 0' TERM; sleep infinity & wait"
    podd.apply(manifest("p", limited("a", "200m", "128Mi", hold), **shared(podd)))
    until((podd.shared / "held").exists, "the memory is in use")
    before = podd.pids("p")
    assert "more is in use" in podd.cli("resize", "p", "--memory", "16Mi", "--cpu", "100m", status=1)
    assert limits(podd, "p") == {"": (20_000, 128 * MIB), "a": (20_000, 128 * MIB)}
    assert podd.pids("p") == before
    conditions = {c["type"]: c for c in podd.status("p")["conditions"]}
    assert "more is in use" in conditions["PodResizePending"]["message"]
    podd.cli("resize", "p", "--memory", "96Mi")
    assert limits(podd, "p")["a"] == (10_000, 96 * MIB)
    assert "PodResizePending" not in {c["type"] for c in podd.status("p")["conditions"]}


def test_a_container_whose_policy_wants_a_restart_gets_one_and_the_others_do_not(podd: Podd) -> None:
    wants = {"resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}
    podd.apply(manifest("p", {**limited("a", "200m", "64Mi"), **wants}, limited("b", "200m", "64Mi")))
    before = podd.pids("p")
    podd.cli("resize", "p", "-c", "a", "--cpu", "300m")
    assert podd.pids("p") == before
    podd.cli("resize", "p", "-c", "a", "--memory", "96Mi")
    until(lambda: podd.pids("p").get("a", before["a"]) != before["a"], "it runs again")
    assert podd.pids("p")["b"] == before["b"]
    assert limits(podd, "p") == {"": (50_000, 160 * MIB), "a": (30_000, 96 * MIB), "b": (20_000, 64 * MIB)}


def test_a_changed_manifest_resizes_what_runs(podd: Podd) -> None:
    podd.apply(manifest("p", limited("a", "200m", "64Mi")))
    before = podd.pids("p")
    assert "resized" in podd.apply(manifest("p", limited("a", "400m", "96Mi")))
    assert limits(podd, "p") == {"": (40_000, 96 * MIB), "a": (40_000, 96 * MIB)}
    assert podd.pids("p") == before


def test_another_qos_class_is_refused(podd: Podd) -> None:
    podd.apply(manifest("p", limited("a", "200m", "64Mi")))
    refusal = podd.cli("resize", "p", "--cpu", "10m", status=1)
    assert "makes the pod Guaranteed, which is Burstable" in refusal


# ---- debug -----------------------------------------------------------------------------------------------------------


def added(podd: Podd, name: str) -> dict[str, Any]:
    statuses = podd.status("p")["ephemeralContainerStatuses"]
    return next(status for status in statuses if status["name"] == name)


def test_a_container_that_is_added_sees_the_processes_of_its_target(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a"), sleeper("b")))
    script = "tr '\\0' ' ' < /proc/1/cmdline; echo; sleep infinity"
    name = podd.cli("debug", "p", "--target", "a", "--", "sh", "-c", script).strip()
    assert name.startswith("debugger-")
    pid = added(podd, name)["pid"]
    its, target, other = namespaces(pid), namespaces(podd.pids("p")["a"]), namespaces(podd.pids("p")["b"])
    assert its["pid"] == target["pid"] != other["pid"]
    assert its["net"] == target["net"]
    assert its["mnt"] != target["mnt"]
    until(lambda: "sleep infinity & wait" in podd.cli("logs", "p", "-c", name), "it has seen the first process")
    assert podd.cli("exec", "p", "-c", name, "--", "echo", "inside") == "inside\n"
    assert name in podd.cli("describe", "pod", "p")
    granted = Path(f"/proc/{pid}/status").read_text()
    assert f"CapEff:\t{capabilities.DEFAULT:016x}\n" in granted
    assert "Seccomp:\t2\n" in granted

    kill(podd.pids("p")["a"])  # with it ends whatever is in its pid namespace
    until(lambda: added(podd, name)["state"].get("terminated"), "its end is told")
    assert added(podd, name)["state"]["terminated"]["exitCode"] == 137
    assert added(podd, name)["restartCount"] == 0
    assert not alive(pid)
    until(lambda: podd.pids("p").get("a"), "the target runs again")


def test_a_shell_is_added_and_typed_into(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a")))
    said = podd.cli("debug", "p", "-i", "--name", "look", stdin="echo $((6 * 7)); exit 3\n", status=3)
    assert "container look" in said
    assert "42" in podd.cli("logs", "p", "-c", "look")
    assert added(podd, "look")["state"]["terminated"]["exitCode"] == 3
    assert podd.status("p")["phase"] == "Running"
    assert "has one of this name" in podd.cli("debug", "p", "--name", "look", "--", "true", status=1)
    podd.cli("restart", "p", "--grace-period", "0")
    assert podd.status("p").get("ephemeralContainerStatuses", []) == []


def test_what_cannot_be_added_leaves_the_pod_alone(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a")))
    assert "no-such-command" in podd.cli("debug", "p", "--", "no-such-command", status=1)
    assert "none such" in podd.cli("debug", "p", "--target", "b", "--", "true", status=1)
    assert "/no/such/root" in podd.cli("debug", "p", "--image", "rootfs:/no/such/root", "--", "true", status=1)
    assert podd.status("p")["phase"] == "Running"
    assert not podd.status("p")["containerStatuses"][0]["restartCount"]


def test_it_goes_on_over_a_crash_of_podd(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a")))
    name = podd.cli("debug", "p", "--target", "a", "--", "sleep", "infinity").strip()
    pid = added(podd, name)["pid"]
    podd.kill()
    podd.start()
    assert added(podd, name)["pid"] == pid
    assert podd.cli("exec", "p", "-c", name, "--", "cat", "/proc/1/comm") == "sh\n"
