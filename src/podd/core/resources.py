"""Requests and limits of a pod, as the cgroups of its members and of itself.

The arithmetic is the kubelet's, so that a pod is held to the same numbers here as on a node. cpu is counted in
millicores, memory in bytes, podd.io/pids in processes. All quantities were checked when the manifest was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil
from typing import Literal

from podd.driver.contract import Limits
from podd.model.pod import MAX_PIDS, PIDS, Container, PodSpec, ResourceRequirements
from podd.model.quantity import parse

QosClass = Literal["Guaranteed", "Burstable", "BestEffort"]
Amounts = Mapping[str, Fraction]

CPU, MEMORY = "cpu", "memory"

CPU_PERIOD_US = 100_000
MIN_CPU_QUOTA_US = 1000  # the kernel's least
MIN_CPU_SHARES, MAX_CPU_SHARES = 2, 262_144  # the kernel's
GUARANTEED_OOM_SCORE_ADJ = -997
BEST_EFFORT_OOM_SCORE_ADJ = 1000

_NONE = Fraction(0)


def container_limits(container: Container) -> Limits:
    """What the cgroup of one member is held to."""
    return _limits(_amounts(container.resources.limits), _requests(container.resources))


def pod_limits(spec: PodSpec) -> Limits:
    """What the pod's own cgroup, the parent of its members', is held to.

    The pod's own limits where it has them; else, for a resource that every member limits, their sum.
    """
    return _limits(_pod_limits(spec), _pod_requests(spec))


def qos_class(spec: PodSpec) -> QosClass:
    """Guaranteed: cpu and memory are limited, and requests equal limits. BestEffort: neither is asked for at all."""
    requested, limited = _pod_requests(spec), _declared_limits(spec)
    counted_requests = {name: requested[name] for name in (CPU, MEMORY) if requested.get(name)}
    counted_limits = {name: limited[name] for name in (CPU, MEMORY) if limited.get(name)}
    if not counted_requests and not counted_limits:
        return "BestEffort"
    everyone = _is_set(spec.resources) or all(
        all(_amounts(member.resources.limits).get(name) for name in (CPU, MEMORY)) for member in spec.containers
    )
    if everyone and len(counted_limits) == 2 and counted_requests == counted_limits:
        return "Guaranteed"
    return "Burstable"


def oom_score_adj(spec: PodSpec, container: Container, host_memory_bytes: int) -> int:
    """Who dies first when the host runs out of memory: the kubelet's scale, from -997 to 1000.

    A burstable member is the safer the larger its share of the host's memory that it asked for.
    """
    match qos_class(spec):
        case "Guaranteed":
            return GUARANTEED_OOM_SCORE_ADJ
        case "BestEffort":
            return BEST_EFFORT_OOM_SCORE_ADJ
    requested = ceil(_requests(container.resources).get(MEMORY, _NONE))
    score = 1000 - 1000 * requested // host_memory_bytes
    return max(1000 + GUARANTEED_OOM_SCORE_ADJ, min(score, BEST_EFFORT_OOM_SCORE_ADJ - 1))


def _limits(limits: Amounts, requests: Amounts) -> Limits:
    cpu, memory, pids = limits.get(CPU), limits.get(MEMORY), limits.get(PIDS)
    return Limits(
        cpu_quota_us=max(ceil(cpu * 1000) * CPU_PERIOD_US // 1000, MIN_CPU_QUOTA_US) if cpu else None,
        cpu_period_us=CPU_PERIOD_US,
        cpu_shares=_shares(requests.get(CPU, _NONE)),
        memory_bytes=ceil(memory) if memory else None,
        pids=min(ceil(pids), MAX_PIDS) if pids else None,
    )


def _shares(cpu: Fraction) -> int:
    return max(MIN_CPU_SHARES, min(ceil(cpu * 1000) * 1024 // 1000, MAX_CPU_SHARES))


def _amounts(written: Mapping[str, str]) -> Amounts:
    return {name: parse(text) for name, text in written.items()}


def _requests(resources: ResourceRequirements) -> Amounts:
    """A limit without a request is the request too."""
    return {**_amounts(resources.limits), **_amounts(resources.requests)}


def _is_set(resources: ResourceRequirements) -> bool:
    return bool(resources.limits or resources.requests)


def _pod_limits(spec: PodSpec) -> Amounts:
    """Zero is no limit; a member without one leaves the pod without one."""
    members = [_amounts(member.resources.limits) for member in spec.containers]
    shared = [name for name in (CPU, MEMORY, PIDS) if all(amounts.get(name) for amounts in members)]
    return {**{name: _sum(members, name) for name in shared}, **_amounts(spec.resources.limits)}


def _declared_limits(spec: PodSpec) -> Amounts:
    if _is_set(spec.resources):
        return _amounts(spec.resources.limits)
    return _total([_amounts(member.resources.limits) for member in spec.containers])


def _pod_requests(spec: PodSpec) -> Amounts:
    """The pod's own requests; what it does not request, its members' sum; what they do not either, its own limit."""
    members = _total([_requests(member.resources) for member in spec.containers])
    return {**_amounts(spec.resources.limits), **members, **_amounts(spec.resources.requests)}


def _total(members: Sequence[Amounts]) -> Amounts:
    names = {name for amounts in members for name in amounts}
    return {name: _sum(members, name) for name in names}


def _sum(members: Sequence[Amounts], name: str) -> Fraction:
    return sum((amounts.get(name, _NONE) for amounts in members), _NONE)
