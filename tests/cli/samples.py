"""Pods as the daemon shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]


def ago(**span: float) -> str:
    """An RFC 3339 time so long before now."""
    return (datetime.now(UTC) - timedelta(**span)).isoformat().replace("+00:00", "Z")


def running(name: str, *, restarts: int = 0, last: Json | None = None, ready: bool = True) -> Json:
    return container(name, {"running": {"startedAt": ago(minutes=5)}}, restarts=restarts, last=last, ready=ready)


def waiting(name: str, reason: str, message: str = "", *, restarts: int = 0, last: Json | None = None) -> Json:
    return container(name, {"waiting": {"reason": reason, "message": message}}, restarts=restarts, last=last)


def terminated(name: str, exit_code: int, reason: str, signal: int = 0) -> Json:
    return container(name, ended(exit_code, reason, signal))


def ended(exit_code: int, reason: str = "Error", signal: int = 0, at: str | None = None, instance: str = "") -> Json:
    return {
        "terminated": {
            "exitCode": exit_code,
            "reason": reason,
            "signal": signal,
            "startedAt": ago(minutes=6),
            "finishedAt": at or ago(minutes=5),
            "message": "",
            "containerID": instance,
        }
    }


def container(name: str, state: Json, *, restarts: int = 0, last: Json | None = None, ready: bool = False) -> Json:
    return {
        "name": name,
        "state": state,
        "ready": ready,
        "started": "running" in state,
        "restartCount": restarts,
        "image": "rootfs:/",
        "lastState": last or {},
        "containerID": f"setns://{name}0",
        "imageID": "",
        "pid": 4711 if "running" in state else None,
    }


def pod(
    name: str = "hello",
    *containers: Json,
    namespace: str = "default",
    phase: str = "Running",
    reason: str = "",
    message: str = "",
    created: str | None = None,
    podd: Json | None = None,
    spec: Json | None = None,
    labels: dict[str, str] | None = None,
) -> Json:
    statuses = containers or (running("web"),)
    is_ready = phase == "Running" and all(c["ready"] for c in statuses)
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"{sum(map(ord, name)):08x}-0000-4000-8000-{len(name):012x}",
            "creationTimestamp": created or ago(minutes=5),
            **({"labels": labels} if labels else {}),
        },
        "spec": {"containers": specs(statuses), **(spec or {})},
        "status": {
            "phase": phase,
            **({"reason": reason} if reason else {}),
            **({"message": message} if message else {}),
            "conditions": [
                {
                    "type": "Ready",
                    "status": str(is_ready),
                    "lastTransitionTime": ago(minutes=5),
                    "reason": "",
                    "message": "",
                }
            ],
            "containerStatuses": list(statuses),
            "podd": {"driver": "setns", "sandboxId": "00112233aabbccdd", "sandboxState": "Ready", **(podd or {})},
        },
        "apiVersion": "v1",
        "kind": "Pod",
    }


def specs(statuses: Sequence[Json]) -> list[Json]:
    return [{"name": status["name"], "image": status["image"]} for status in statuses]
