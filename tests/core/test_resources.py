from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.core import resources
from podd.driver.contract import Limits
from podd.model.pod import PodSpec

GIB = 2**30


def spec(
    *members: dict[str, Any],
    pod: dict[str, Any] | None = None,
    init: list[tuple[Literal["init", "sidecar"], dict[str, Any]]] | None = None,
) -> PodSpec:
    """members, init: the resources of each."""
    containers = [{"name": f"c{number}", "resources": member} for number, member in enumerate(members)]
    before = [
        {"name": f"i{number}", "resources": asked, **({"restartPolicy": "Always"} if kind == "sidecar" else {})}
        for number, (kind, asked) in enumerate(init or [])
    ]
    return msgspec.convert({"containers": containers, "initContainers": before, "resources": pod or {}}, PodSpec)


def both(cpu: str, memory: str) -> dict[str, Any]:
    return {"limits": {"cpu": cpu, "memory": memory}}


CONTAINERS: dict[str, tuple[dict[str, Any], Limits]] = {
    "nothing asked": ({}, Limits(cpu_shares=2)),
    "a limit is the request too": ({"limits": {"cpu": "500m"}}, Limits(cpu_quota_us=50_000, cpu_shares=512)),
    "a request of its own": (
        {"limits": {"cpu": "2"}, "requests": {"cpu": "250m"}},
        Limits(cpu_quota_us=200_000, cpu_shares=256),
    ),
    "request alone": ({"requests": {"cpu": "1"}}, Limits(cpu_shares=1024)),
    "the least quota that the kernel takes": ({"limits": {"cpu": "1m"}}, Limits(cpu_quota_us=1000, cpu_shares=2)),
    "rounded up to a millicore": ({"limits": {"cpu": "10.1m"}}, Limits(cpu_quota_us=1100, cpu_shares=11)),
    "the most shares that the kernel takes": ({"requests": {"cpu": "1k"}}, Limits(cpu_shares=262_144)),
    "zero is no limit": ({"limits": {"cpu": "0", "memory": "0"}}, Limits(cpu_shares=2)),
    "memory and pids": (
        {"limits": {"memory": "1.5Gi", "podd.io/pids": "7"}},
        Limits(cpu_shares=2, memory_bytes=3 * GIB // 2, pids=7),
    ),
    "memory is rounded up": ({"limits": {"memory": "0.1Ki"}}, Limits(cpu_shares=2, memory_bytes=103)),
    "a memory request limits nothing": ({"requests": {"memory": "1Gi"}}, Limits(cpu_shares=2)),
}


@pytest.mark.parametrize(("asked", "limits"), CONTAINERS.values(), ids=list(CONTAINERS))
def test_limits_of_a_container(asked: dict[str, Any], limits: Limits) -> None:
    assert resources.container_limits(spec(asked).containers[0]) == limits


PODS: dict[str, tuple[PodSpec, Limits]] = {
    "nothing asked": (spec({}, {}), Limits(cpu_shares=2)),
    "every member limited: the sum": (
        spec(both("100m", "1Gi"), both("200m", "2Gi")),
        Limits(cpu_quota_us=30_000, cpu_shares=307, memory_bytes=3 * GIB),
    ),
    "sums are exact before they are rounded": (
        spec({"limits": {"cpu": "0.5m"}}, {"limits": {"cpu": "0.5m"}}, {"limits": {"cpu": "9m"}}),
        Limits(cpu_quota_us=1000, cpu_shares=10),
    ),
    "one member without a limit: none": (spec(both("1", "1Gi"), {}), Limits(cpu_shares=1024)),
    "one limited in memory alone: memory": (
        spec(both("1", "1Gi"), {"limits": {"memory": "1Gi"}}),
        Limits(cpu_shares=1024, memory_bytes=2 * GIB),
    ),
    "zero is no limit": (spec(both("1", "1Gi"), both("0", "1Gi")), Limits(cpu_shares=1024, memory_bytes=2 * GIB)),
    "the pod's own limit": (
        spec({}, pod={"limits": {"cpu": "1", "memory": "1Gi", "podd.io/pids": "9"}}),
        Limits(cpu_quota_us=100_000, cpu_shares=1024, memory_bytes=GIB, pids=9),
    ),
    "the pod's own counts before the sum": (
        spec(both("100m", "1Gi"), pod={"limits": {"memory": "4Gi"}}),
        Limits(cpu_quota_us=10_000, cpu_shares=102, memory_bytes=4 * GIB),
    ),
    "the members' requests count before the pod's limit": (
        spec({"requests": {"cpu": "250m"}}, {}, pod={"limits": {"cpu": "1"}}),
        Limits(cpu_quota_us=100_000, cpu_shares=256),
    ),
    "the pod's own request counts before theirs": (
        spec({"requests": {"cpu": "250m"}}, pod={"requests": {"cpu": "500m"}}),
        Limits(cpu_shares=512),
    ),
    "no more pids than the kernel counts": (
        spec(*[{"limits": {"podd.io/pids": "4Mi"}}] * 2),
        Limits(cpu_shares=2, pids=4 * 2**20),
    ),
    "pids of all members": (
        spec({"limits": {"podd.io/pids": "3"}}, {"limits": {"podd.io/pids": "4"}}),
        Limits(cpu_shares=2, pids=7),
    ),
}


@pytest.mark.parametrize(("pod", "limits"), PODS.values(), ids=list(PODS))
def test_limits_of_a_pod(pod: PodSpec, limits: Limits) -> None:
    assert resources.pod_limits(pod) == limits


def cpus(*members: int, init: list[tuple[Literal["init", "sidecar"], int]]) -> PodSpec:
    """Limits of cpu, in millicores."""
    asked = [(kind, {"limits": {"cpu": f"{millis}m"}}) for kind, millis in init]
    return spec(*({"limits": {"cpu": f"{millis}m"}} for millis in members), init=asked)


INIT: dict[str, tuple[PodSpec, int]] = {
    "the members need more": (cpus(400, 400, init=[("init", 500)]), 800),
    "an init container needs more": (cpus(100, 100, init=[("init", 500)]), 500),
    "init containers run one by one": (cpus(100, init=[("init", 300), ("init", 500), ("init", 400)]), 500),
    "a sidecar runs beside the members": (cpus(300, init=[("sidecar", 200)]), 500),
    "a sidecar runs beside the init containers after it": (cpus(100, init=[("sidecar", 200), ("init", 400)]), 600),
    "and not beside those before it": (cpus(100, init=[("init", 400), ("sidecar", 200)]), 400),
    "sidecars add up": (cpus(100, init=[("sidecar", 200), ("sidecar", 300), ("init", 50)]), 600),
    "the most of every step": (
        cpus(100, 100, init=[("init", 900), ("sidecar", 200), ("init", 600), ("sidecar", 300)]),
        900,
    ),
}


@pytest.mark.parametrize(("pod", "millis"), INIT.values(), ids=list(INIT))
def test_init_containers_and_sidecars_count_when_they_run(pod: PodSpec, millis: int) -> None:
    assert resources.pod_limits(pod) == Limits(cpu_quota_us=millis * 100, cpu_shares=millis * 1024 // 1000)


def test_the_most_is_taken_resource_by_resource() -> None:
    """The init container needs the most memory, the members the most cpu."""
    pod = spec(both("1", "1Gi"), both("1", "1Gi"), init=[("init", both("500m", "4Gi"))])
    assert resources.pod_limits(pod) == Limits(cpu_quota_us=200_000, cpu_shares=2048, memory_bytes=4 * GIB)


@pytest.mark.parametrize("kind", ["init", "sidecar"])
def test_one_without_a_limit_leaves_the_pod_without_one(kind: Literal["init", "sidecar"]) -> None:
    assert resources.pod_limits(spec(both("1", "1Gi"), init=[(kind, {})])) == Limits(cpu_shares=1024)


AMOUNTS = st.integers(1, 64_000)
STEPS = st.lists(st.tuples(st.sampled_from(["init", "sidecar"]), AMOUNTS), max_size=5)


@given(st.lists(AMOUNTS, min_size=1, max_size=4), STEPS)
def test_a_pod_has_at_any_time_what_runs_then_is_limited_to(
    members: list[int], init: list[tuple[Literal["init", "sidecar"], int]]
) -> None:
    quota = resources.pod_limits(cpus(*members, init=init)).cpu_quota_us
    beside = 0
    needs = []
    for kind, millis in init:
        needs.append(beside + millis)
        beside += millis if kind == "sidecar" else 0
    assert quota == max(1000, max([*needs, beside + sum(members)]) * 100)  # the least that the kernel takes


@given(st.lists(st.tuples(st.integers(1, 64_000), st.integers(1, 2**40)), min_size=1, max_size=5))
def test_a_pod_never_holds_its_members_to_less_than_they_have(amounts: list[tuple[int, int]]) -> None:
    pod = spec(*(both(f"{cpu}m", str(memory)) for cpu, memory in amounts))
    whole = resources.pod_limits(pod)
    parts = [resources.container_limits(member) for member in pod.containers]
    assert whole.memory_bytes == sum(part.memory_bytes or 0 for part in parts)
    assert whole.cpu_quota_us is not None
    assert all(whole.cpu_quota_us >= (part.cpu_quota_us or 0) for part in parts)


QOS: dict[str, tuple[PodSpec, str]] = {
    "nothing asked": (spec({}, {}), "BestEffort"),
    "zero is nothing": (spec({"requests": {"cpu": "0"}}), "BestEffort"),
    "other resources do not count": (spec({"limits": {"podd.io/pids": "5"}}), "BestEffort"),
    "limits of both": (spec(both("1", "1Gi")), "Guaranteed"),
    "limits and equal requests, written otherwise": (
        spec({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
        "Guaranteed",
    ),
    "less requested than limited": (
        spec({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
        "Burstable",
    ),
    "one of two is limited": (spec({"limits": {"memory": "1Gi"}}), "Burstable"),
    "one member of two": (spec(both("1", "1Gi"), {}), "Burstable"),
    "requests alone": (spec({"requests": {"cpu": "1m"}}), "Burstable"),
    "the pod's own limits of both": (spec({}, {}, pod=both("1", "1Gi")), "Guaranteed"),
    "the pod's own limits, the members request less": (
        spec({"requests": {"cpu": "100m"}}, pod=both("1", "1Gi")),
        "Burstable",
    ),
    "an init container counts": (spec(both("1", "1Gi"), init=[("init", {})]), "Burstable"),
    "an init container that is limited too": (
        spec(both("1", "1Gi"), init=[("init", both("1", "1Gi")), ("sidecar", both("2", "2Gi"))]),
        "Guaranteed",
    ),
    "a small one that requests less, though it does not count in the sum": (
        spec(both("1", "1Gi"), init=[("init", {**both("500m", "1Gi"), "requests": {"cpu": "1m"}})]),
        "Burstable",
    ),
    "an init container alone asks": (spec({}, init=[("init", {"requests": {"cpu": "1m"}})]), "Burstable"),
    "the pod's own requests alone": (spec(both("1", "1Gi"), pod={"requests": {"cpu": "1"}}), "Burstable"),
}


@pytest.mark.parametrize(("pod", "qos"), QOS.values(), ids=list(QOS))
def test_qos_class(pod: PodSpec, qos: str) -> None:
    assert resources.qos_class(pod) == qos


@pytest.mark.parametrize(
    ("pod", "score"),
    [
        (spec(both("1", "1Gi")), -997),
        (spec({}), 1000),
        (spec({"requests": {"cpu": "1"}}), 999),
        (spec({"requests": {"memory": "1"}}), 999),
        (spec({"requests": {"memory": "4Gi"}}), 500),
        (spec({"requests": {"memory": "8Gi"}}), 3),
        (spec({"requests": {"memory": "16Gi"}}), 3),
    ],
)
def test_oom_score_adj(pod: PodSpec, score: int) -> None:
    assert resources.oom_score_adj(pod, pod.containers[0], 8 * GIB) == score


MEMORY = {"requests": {"memory": "4Gi"}}

SHARES: dict[str, tuple[PodSpec, dict[str, int]]] = {
    "a sidecar is as safe as the least of the members": (
        spec(MEMORY, {"requests": {"memory": "2Gi"}}, init=[("sidecar", {})]),
        {"c0": 500, "c1": 750, "i0": 750},
    ),
    "a sidecar that asks for more": (spec({}, init=[("sidecar", MEMORY)]), {"c0": 999, "i0": 500}),
    "an init container is itself": (spec(MEMORY, init=[("init", {})]), {"c0": 500, "i0": 999}),
    "what the pod requests beyond them is shared": (
        spec({}, {"requests": {"memory": "2Gi"}}, pod={"requests": {"memory": "4Gi"}}),
        {"c0": 875, "c1": 625},
    ),
    "with the sidecars": (
        spec({}, pod={"requests": {"memory": "4Gi"}}, init=[("sidecar", {})]),
        {"c0": 750, "i0": 750},
    ),
}


@pytest.mark.parametrize(("pod", "scores"), SHARES.values(), ids=list(SHARES))
def test_oom_score_adj_of_each(pod: PodSpec, scores: dict[str, int]) -> None:
    containers = (*pod.init_containers, *pod.containers)
    assert {c.name: resources.oom_score_adj(pod, c, 8 * GIB) for c in containers} == scores
