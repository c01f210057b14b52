"""Requests and limits of a pod, as the cgroups of its members and of itself.

The arithmetic is the kubelet's, so that a pod is held to the same numbers here as on a node. cpu is counted in
millicores, memory in bytes, podd.io/pids in processes. All quantities were checked when the manifest was read.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, inf
from typing import Literal

from msgspec.structs import replace

from podd.driver.contract import Limits
from podd.model import totals
from podd.model.pod import MAX_PIDS, PIDS, Container, PodSpec, ResourceRequirements
from podd.model.totals import Amounts

QosClass = Literal["Guaranteed", "Burstable", "BestEffort"]

CPU, MEMORY = "cpu", "memory"

CPU_PERIOD_US = 100_000
MIN_CPU_QUOTA_US = 1000  # the kernel's least
MIN_CPU_SHARES, MAX_CPU_SHARES = 2, 262_144  # the kernel's
GUARANTEED_OOM_SCORE_ADJ = -997
BEST_EFFORT_OOM_SCORE_ADJ = 1000

_NONE = Fraction(0)


def container_limits(container: Container) -> Limits:
    """What the cgroup of one member is held to."""
    return _limits(totals.limits(container.resources), totals.requests(container.resources))


def pod_limits(spec: PodSpec) -> Limits:
    """What the pod's own cgroup, the parent of its members', is held to.

    The pod's own limits where it has them; else, for a resource that every container limits, what they need together.
    """
    return _limits(_pod_limits(spec), _pod_requests(spec))


def widest(one: Limits, other: Limits) -> Limits:
    """The looser of each limit; of what is no limit, the share of the processor, the other's."""
    looser = max(one, other, key=_processors)
    return replace(
        other,
        cpu_quota_us=looser.cpu_quota_us,
        cpu_period_us=looser.cpu_period_us,
        memory_bytes=_looser(one.memory_bytes, other.memory_bytes),
        pids=_looser(one.pids, other.pids),
    )


def _processors(limits: Limits) -> float:
    return inf if limits.cpu_quota_us is None else limits.cpu_quota_us / limits.cpu_period_us


def _looser(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def qos_class(spec: PodSpec) -> QosClass:
    """Guaranteed: cpu and memory are limited, and requests equal limits. BestEffort: neither is asked for at all."""
    requested, limited = _declared(spec)
    counted_requests = {name: requested[name] for name in (CPU, MEMORY) if requested.get(name)}
    counted_limits = {name: limited[name] for name in (CPU, MEMORY) if limited.get(name)}
    if not counted_requests and not counted_limits:
        return "BestEffort"
    everyone = _is_set(spec.resources) or all(
        all(totals.limits(container.resources).get(name) for name in (CPU, MEMORY)) for container in _everyone(spec)
    )
    if everyone and len(counted_limits) == 2 and counted_requests == counted_limits:
        return "Guaranteed"
    return "Burstable"


def oom_score_adj(spec: PodSpec, container: Container, host_memory_bytes: int) -> int:
    """Who dies first when the host runs out of memory: the kubelet's scale, from -997 to 1000.

    A burstable container is the safer the larger its share of the host's memory that it asked for; a sidecar is as safe
    as the regular member that asked for least.
    """
    match qos_class(spec):
        case "Guaranteed":
            return GUARANTEED_OOM_SCORE_ADJ
        case "BestEffort":
            return BEST_EFFORT_OOM_SCORE_ADJ
    requested = _memory(container)
    if container in spec.init_containers and totals.is_sidecar(container):
        requested = max(requested, min(_memory(member) for member in spec.containers))
    score = 1000 - 1000 * (requested + _unasked_memory(spec)) // host_memory_bytes
    return max(1000 + GUARANTEED_OOM_SCORE_ADJ, min(score, BEST_EFFORT_OOM_SCORE_ADJ - 1))


def _memory(container: Container) -> int:
    return ceil(totals.requests(container.resources).get(MEMORY, _NONE))


def _unasked_memory(spec: PodSpec) -> int:
    """Each container's share of what the pod requests beyond what its containers do."""
    of_pod = _pod_requests(spec).get(MEMORY, _NONE)
    beyond = of_pod - totals.total(spec, totals.requests).get(MEMORY, _NONE)
    return max(0, int(beyond) // len(_everyone(spec)))


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


def _everyone(spec: PodSpec) -> tuple[Container, ...]:
    return (*spec.init_containers, *spec.containers)


def _is_set(resources: ResourceRequirements) -> bool:
    return bool(resources.limits or resources.requests)


def _pod_limits(spec: PodSpec) -> Amounts:
    """Zero is no limit; a container without one leaves the pod without one."""
    each = [totals.limits(container.resources) for container in _everyone(spec)]
    together = totals.total(spec, totals.limits)
    shared = [name for name in (CPU, MEMORY, PIDS) if all(amounts.get(name) for amounts in each)]
    return {**{name: together[name] for name in shared}, **totals.limits(spec.resources)}


def _pod_requests(spec: PodSpec) -> Amounts:
    """The pod's own; what it does not request, its containers together; what they do not either, its own limit."""
    of_pod = spec.resources
    return {**totals.limits(of_pod), **totals.total(spec, totals.requests), **totals.amounts(of_pod.requests)}


def _declared(spec: PodSpec) -> tuple[Amounts, Amounts]:
    """Requests and limits by which a pod is classed: its own, or its containers' plain sums, whoever runs when."""
    if _is_set(spec.resources):
        return _pod_requests(spec), totals.limits(spec.resources)
    everyone = [container.resources for container in _everyone(spec)]
    return totals.plus([totals.requests(r) for r in everyone]), totals.plus([totals.limits(r) for r in everyone])
