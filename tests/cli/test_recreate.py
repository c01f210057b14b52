"""recreate: the pod's own manifest, applied with another driver."""

from __future__ import annotations

import json

from cli.conftest import Run
from cli.fake_daemon import FakeDaemon, Refusal

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "uid": "0e6f", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"containers": [{"name": "a", "image": "rootfs:/"}], "runtimeClassName": "setns"},
    "status": {"phase": "Running"},
}
RESULT = {"kind": "Pod", "name": "web", "namespace": "shop", "uid": "u", "reason": "", "message": ""}


def test_a_pod_is_applied_as_it_is_with_another_driver(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Get"] = lambda _: {"pod": POD}
    result = {**RESULT, "action": "recreated", "phase": "Running", "warnings": [], "changes": []}
    daemon.answers["Apply"] = lambda _: iter([{"results": [result]}])
    assert run("recreate", "web", "-n", "shop", "--driver", "runc") == (0, "pod/web recreated: Running\n", "")
    (asked,) = daemon.asked("Apply")
    assert (asked["source"], asked["wait"], asked["strict"]) == ("pod/web", True, True)
    assert json.loads(asked["manifest"]) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"containers": [{"name": "a", "image": "rootfs:/"}], "runtimeClassName": "runc"},
    }


def test_one_that_is_not_there_keeps_nobody_else(run: Run, daemon: FakeDaemon) -> None:
    def get(call: object) -> dict[str, object]:
        if call.parameters["name"] == "gone":  # type: ignore[attr-defined]
            raise Refusal("NotFound", "pod default/gone: there is none")
        return {"pod": POD}

    daemon.answers["Get"] = get
    result = {**RESULT, "action": "kept", "phase": "Running", "reason": "SandboxFailed", "message": "no room"}
    daemon.answers["Apply"] = lambda _: iter([{"results": [{**result, "warnings": [], "changes": []}]}])
    shown = run("recreate", "gone", "web", "--driver", "runc", "--no-wait")
    assert shown.status == 1
    assert "gone: there is none" in shown.err
    assert "kept as it is, because another could not take its place: SandboxFailed: no room" in shown.err


def test_the_driver_must_be_named(run: Run) -> None:
    assert run("recreate", "web").status == 2
    assert run("recreate", "--driver", "runc").status == 2
