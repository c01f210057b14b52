from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.core import resources
from podd.driver.contract import Limits
from podd.model.pod import PodSpec

GIB = 2**30


def spec(*members: dict[str, Any], pod: dict[str, Any] | None = None) -> PodSpec:
    """members: the resources of each."""
    containers = [{"name": f"c{number}", "resources": member} for number, member in enumerate(members)]
    return msgspec.convert({"containers": containers, "resources": pod or {}}, PodSpec)


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
