"""Pods of three drivers on one podd: beside each other, and moved from one to another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest
from real import MOUNT, Podd, alive, manifest, sh, sleeper, until
from running import running_on_all

from dockerd import IMAGE, Dockerd
from images.layouts import busybox, layout, needs_images, store
from podd.driver.hookspecs import ImagePlaces

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(180)]

DRIVERS = ("setns", "runc", "docker")
COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"
UNTIL_TOLD = "trap 'exit 0' TERM; sleep 1000000 & wait"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> ImagePlaces:
    """A store with an image of the same name as dockerd has one."""
    needs_images()
    folder = tmp_path_factory.mktemp("store")
    places = ImagePlaces(root=str(folder / "root"), run_root=str(folder / "run"))
    store(places, layout(folder / "image", [busybox()]), f"docker.io/{IMAGE}")
    return places


@pytest.fixture
def on_all(dockerd: Dockerd, stored: ImagePlaces) -> Iterator[Podd]:
    """With pods of podd's own driver, of runc and of a dockerd side by side."""
    images = f"[images]\nroot = {json.dumps(stored.root)}\nrun_root = {json.dumps(stored.run_root)}\n"
    yield from running_on_all(dockerd, images)


def image_of(driver: str) -> str:
    return IMAGE if driver == "docker" else "rootfs:/"


def pod_on(driver: str, name: str, *containers: dict[str, Any], image: str = "", **spec: Any) -> str:
    of_driver = {"image": image or image_of(driver)}
    return manifest(name, *({**c, **of_driver} for c in containers), runtimeClassName=driver, **spec)


def test_pods_of_all_drivers_do_not_notice_that_podd_is_killed(on_all: Podd) -> None:
    podd = on_all
    for driver in DRIVERS:
        podd.apply(pod_on(driver, driver, sh("counts", COUNT), sleeper("other")))
    before = {driver: podd.pids(driver) for driver in DRIVERS}
    seen = {driver: len(podd.cli("logs", driver, "-c", "counts").split()) for driver in DRIVERS}
    podd.kill()
    assert all(alive(pid) for pids in before.values() for pid in pids.values())
    podd.start()
    for driver in DRIVERS:
        assert podd.cli("exec", driver, "-c", "other", "--", "echo", driver) == f"{driver}\n"
        until(lambda: _goes_on(podd, driver, seen), f"the log of {driver} goes on")  # noqa: B023
    assert {driver: podd.pids(driver) for driver in DRIVERS} == before
    assert {c["restartCount"] for pod in podd.pods() for c in pod["status"]["containerStatuses"]} == {0}


def _goes_on(podd: Podd, driver: str, seen: dict[str, int]) -> bool:
    lines = podd.cli("logs", driver, "-c", "counts").split()
    assert lines == [str(n) for n in range(1, len(lines) + 1)], "no gap, and nothing twice"
    return len(lines) > seen[driver] + 20


def test_what_ends_on_one_driver_concerns_no_other(on_all: Podd) -> None:
    podd = on_all
    for driver in DRIVERS:
        podd.apply(pod_on(driver, driver, sleeper("a")))
    for n, driver in enumerate(DRIVERS, 1):
        others = {name: podd.pids(name) for name in DRIVERS[n:]}
        podd.cli("delete", "pod", driver)
        assert {name: podd.pids(name) for name in others} == others
    assert podd.pods() == []


@pytest.mark.parametrize(("source", "target"), [*permutations(DRIVERS, 2)])
def test_a_pod_moves_from_each_driver_to_each(on_all: Podd, source: str, target: str) -> None:
    podd = on_all
    kept = {"name": "shared", "hostPath": {"path": str(podd.shared)}}
    mounts = {"volumeMounts": [*MOUNT["volumeMounts"], {"name": "scratch", "mountPath": "/scratch"}]}
    writes = sh(
        "a", "echo x >> /shared/kept; echo x >> /scratch/lost; trap 'exit 0' TERM; sleep 1000000 & wait", **mounts
    )
    spec: dict[str, Any] = {"volumes": [kept, {"name": "scratch", "emptyDir": {}}]}
    if {source, target} == {"setns", "docker"}:
        spec["image"] = IMAGE  # both have it; runc is told to run a directory, which docker cannot
    podd.apply(pod_on(source, "web", writes, sleeper("b"), **spec))
    first, uid = podd.pids("web"), podd.pod("web")["metadata"]["uid"]

    _move(podd, target, pod_on(target, "web", writes, sleeper("b"), **spec))
    assert not any(map(alive, first.values()))
    assert podd.pod("web")["metadata"]["uid"] != uid
    assert podd.pod("web")["spec"]["runtimeClassName"] == target
    until(lambda: (podd.shared / "kept").read_text() == "x\nx\n", "it has begun anew")
    assert podd.cli("exec", "web", "-c", "a", "--", "cat", "/shared/kept", "/scratch/lost") == "x\nx\nx\n"

    moved = podd.pids("web")
    wrong = {"name": "a", "command": ["/no/such/program"], **mounts}
    podd.apply(pod_on(source, "web", wrong, sleeper("b"), **spec), "--timeout", "20", status=1)
    until(lambda: "FailedRecreate" in podd.cli("events"), "it is told why")
    assert podd.pids("web") == moved, "what cannot be made elsewhere goes on where it is"


def _move(podd: Podd, target: str, manifest: str) -> None:
    """By `recreate`, where the other driver takes the pod as it is; with another image where it does not."""
    images = {container["image"] for container in json.loads(manifest)["spec"]["containers"]}
    if images == {container["image"] for container in podd.pod("web")["spec"]["containers"]}:
        assert podd.cli("recreate", "web", "--driver", target) == "pod/web recreated: Running\n"
        return
    if target == "docker":
        before, told = podd.pids("web"), podd.cli("events", "-o", "json")
        said = podd.cli("recreate", "web", "--driver", target, status=1)
        assert "spec.containers[0].image: needs capability rootfs-directory; driver docker lacks it" in said
        assert (podd.pids("web"), podd.cli("events", "-o", "json")) == (before, told), "nothing was touched"
    assert "pod/web recreated: Running" in podd.apply(manifest)


@pytest.mark.parametrize("driver", ["setns", "runc"])
def test_twenty_pods_of_three_at_once(podd: Podd) -> None:
    podd.apply("\n---\n".join(manifest(f"p{n}", *map(sleeper, "abc")) for n in range(20)))
    statuses = [pod["status"] for pod in podd.pods()]
    assert [status["phase"] for status in statuses] == ["Running"] * 20
    assert [c["restartCount"] for status in statuses for c in status["containerStatuses"]] == [0] * 60
    warnings = [line for line in podd.cli("events").splitlines() if "Warning" in line]
    assert [line for line in warnings if "NetworkNotReady" not in line] == []
    podd.cli("delete", "pods", "--all", "--now")
