"""What a pod may have of the disk, as the kubelet counts it."""

from __future__ import annotations

from typing import Any

import pytest

from podd.core import disk
from podd.core.disk import Used
from podd.model.pod import EmptyDirVolumeSource, PodSpec, ResourceRequirements, Volume
from world import make_container

KIB = 1024


def limited(name: str, amount: str = "", **more: Any) -> Any:
    limits = {"ephemeral-storage": amount} if amount else {"memory": "1Gi"}
    return make_container(name, resources=ResourceRequirements(limits=limits), **more)


def empty(name: str, size: str | None, medium: str = "") -> Volume:
    return Volume(name=name, empty_dir=EmptyDirVolumeSource(size_limit=size, medium=medium))


A, B, FREE = limited("a", "1Ki"), limited("b", "2Ki"), limited("free")
OF_VOLUME = 'Usage of EmptyDir volume "v" exceeds the limit "1Ki"'
OF_A = 'Container a exceeded its local ephemeral storage limit "1Ki"'

CASES: dict[str, tuple[dict[str, Any], dict[str, int], dict[str, int], str]] = {
    "as much as it may": ({"containers": (A,)}, {"a": KIB}, {}, ""),
    "more than it may": ({"containers": (A,)}, {"a": KIB + 1}, {}, OF_A),
    "one of two": ({"containers": (B, A)}, {"a": KIB + 1, "b": 0}, {}, OF_A),
    "together with its volumes": (
        {"containers": (A,), "volumes": (empty("v", None),)},
        {"a": KIB},
        {"v": 1},
        "Pod ephemeral local storage usage exceeds the total limit of containers 1024",
    ),
    "what one does not need another may have": ({"containers": (A, B)}, {"a": KIB, "b": 2 * KIB}, {}, ""),
    "who has no limit counts for all, too": (
        {"containers": (A, FREE)},
        {"a": 0, "free": KIB + 1},
        {},
        "Pod ephemeral local storage usage exceeds the total limit of containers 1024",
    ),
    "init containers are over when the others run": (
        {"init_containers": (limited("i", "9Ki"),), "containers": (A,)},
        {"i": 8 * KIB, "a": KIB},
        {},
        "",
    ),
    "the pod's own limit": (
        {"containers": (FREE,), "resources": ResourceRequirements(limits={"ephemeral-storage": "1Ki"})},
        {"free": KIB + 1},
        {},
        "Pod ephemeral local storage usage exceeds the total limit of containers 1024",
    ),
    "a volume": ({"containers": (FREE,), "volumes": (empty("v", "1Ki"),)}, {}, {"v": KIB + 1}, OF_VOLUME),
    "a volume first": ({"containers": (A,), "volumes": (empty("v", "1Ki"),)}, {"a": 5000}, {"v": 5000}, OF_VOLUME),
    "a volume in memory is bounded by itself": (
        {"containers": (FREE,), "volumes": (empty("v", "1Ki", "Memory"),)},
        {},
        {"v": KIB + 1},
        "",
    ),
    "a size of nothing is none": ({"containers": (FREE,), "volumes": (empty("v", "0"),)}, {}, {"v": KIB}, ""),
}


@pytest.mark.parametrize(("spec", "containers", "volumes", "message"), CASES.values(), ids=CASES)
def test_excess(spec: dict[str, Any], containers: dict[str, int], volumes: dict[str, int], message: str) -> None:
    assert disk.excess(PodSpec(**spec), Used(containers=containers, volumes=volumes)) == message


def test_only_pods_with_a_limit_are_looked_at() -> None:
    assert not disk.is_bounded(PodSpec(containers=(FREE,), volumes=(empty("v", None), empty("m", "1Ki", "Memory"))))
    assert disk.is_bounded(PodSpec(containers=(FREE, A)))
    assert disk.is_bounded(PodSpec(containers=(FREE,), init_containers=(A,)))
    assert disk.is_bounded(PodSpec(containers=(FREE,), volumes=(empty("v", "1Ki"),)))
