"""Manifests as people bring them, on the real podd: each that can run here does what it would do in a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from real import Podd, until

pytestmark = [pytest.mark.root, pytest.mark.slow]

FOLDER = Path(__file__).parents[1] / "manifests"


@dataclass(frozen=True)
class Expected:
    """phase: that it comes to; ready: with all its members ready. logs: of containers, the lines that they say.

    more: what else is to be seen, by its status.
    """

    phase: str
    ready: bool = False
    logs: dict[str, list[str]] = field(default_factory=dict)
    more: Callable[[dict[str, Any]], object] = lambda _status: True


def ended(status: dict[str, Any], name: str) -> dict[str, Any]:
    every = status.get("initContainerStatuses", []) + status["containerStatuses"]
    found: dict[str, Any] = next(c["state"].get("terminated", {}) for c in every if c["name"] == name)
    return found


def restarts(status: dict[str, Any]) -> int:
    return sum(c["restartCount"] for c in status["containerStatuses"])


RUN: dict[str, Expected] = {
    "init-containers": Expected("Running", logs={"site": ["waited", "fetched", "<p>hello</p>"]}),
    "init-that-fails": Expected(
        "Failed", logs={"check": ["no database"]}, more=lambda s: ended(s, "check")["exitCode"] == 3
    ),
    "sidecar": Expected("Succeeded", logs={"shipper": ["shipped", "shipper ends"]}),
    "lifecycle-hooks": Expected("Running", ready=True),
    "probe-exec": Expected("Running", more=lambda s: restarts(s) > 0),
    "probe-http": Expected("Running", ready=True),
    "probe-tcp": Expected("Running", ready=True),
    "projected-volume": Expected("Succeeded", logs={"reader": ["admincolor=blue", 'app="demo"500400']}),
    "security-context": Expected(
        "Succeeded", logs={"writer": ["1000", "3000 2000 4000", "1000:2000", "NoNewPrivs:\t1"], "other": ["2000"]}
    ),
    "security-capabilities": Expected("Succeeded", logs={"network": ["CapEff:\t0000000002001000"]}),
    "security-restricted": Expected(
        "Succeeded", logs={"app": ["CapBnd:\t0000000000000000", "Seccomp:\t2", "read-only"]}
    ),
    "shared-process-namespace": Expected("Running", ready=True),
    "pod-level-resources": Expected("Running", more=lambda s: s["qosClass"] == "Burstable"),
    "qos-guaranteed": Expected("Running", more=lambda s: s["qosClass"] == "Guaranteed"),
    "downward-env": Expected(
        "Succeeded", logs={"teller": ["downward-env in default, east, 64 MiB, hello downward-env"]}
    ),
    "configmap-env": Expected("Succeeded", logs={"game": ["easy 3 secret none"]}),
    "secret-files": Expected("Succeeded", logs={"reader": ["400", "very secret", "listen 80", "whole"]}),
    "restart-rules": Expected("Succeeded", more=lambda s: restarts(s) == 1),
    "active-deadline": Expected("Failed", more=lambda s: s["reason"] == "DeadlineExceeded"),
    "termination-message": Expected(
        "Failed",
        more=lambda s: (
            (ended(s, "writer")["message"], ended(s, "logger")["message"].strip()) == ("all done", "it broke")
        ),
    ),
    "memory-volume": Expected("Succeeded", logs={"filler": ["        8", "full"]}),
    "sysctls": Expected("Succeeded", logs={"reader": ["1", "1024"]}),
    "node-agent": Expected("Running", logs={"agent": ["sees"]}),
    "compose-shop": Expected("Succeeded", logs={"web": ["db", "migrated", "web"]}),
}
"""By the name of the manifest and of its pod."""


def test_all_that_could_run_do() -> None:
    """Those that are accepted, but for those whose images are a registry's."""
    accepted = {path.stem for path in FOLDER.glob("*.txt") if path.read_text().startswith("accepted")}
    elsewhere = ("image: docker.io", 'image: "docker.io', "image: registry")
    here = {name for name in accepted if not any(word in (FOLDER / f"{name}.yaml").read_text() for word in elsewhere)}
    assert here == set(RUN)


@pytest.mark.parametrize("name", RUN)
def test_a_manifest(podd: Podd, name: str) -> None:
    expected = RUN[name]
    podd.cli("apply", "-f", FOLDER / f"{name}.yaml")

    def is_so() -> bool:
        status = podd.status(name)
        ready = not expected.ready or all(c["ready"] for c in status["containerStatuses"])
        return status["phase"] == expected.phase and ready and bool(expected.more(status))

    def logs() -> dict[str, list[str]]:
        return {container: podd.cli("logs", name, "-c", container).splitlines() for container in expected.logs}

    try:
        until(lambda: is_so() and logs() == expected.logs, f"{name} is as expected")
    except AssertionError as exc:
        exc.add_note(f"{logs()}\n{json.dumps(podd.status(name), indent=1)}")
        raise


EXAMPLES = sorted((FOLDER.parents[1] / "config" / "pods").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(podd: Podd, path: Path) -> None:
    podd.cli("apply", "-f", path, "--wait")

    def is_well(container: dict[str, Any]) -> bool:
        return container["ready"] or container["state"].get("terminated", {}).get("reason") == "Completed"

    until(lambda: all(is_well(c) for pod in podd.pods() for c in pod["status"]["containerStatuses"]), "all are ready")
    assert [pod["status"]["phase"] for pod in podd.pods()] == ["Running"]
