"""What the containers of a pod need together, as the kubelet and the scheduler count it.

Init containers run one after the other, before the regular ones and beside the sidecars that began before them; the
pod needs the most that it ever needs at one time. Source: Kubernetes, component-helpers/resource.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from podd.model.pod import Container, PodSpec, ResourceRequirements
from podd.model.quantity import parse

Amounts = Mapping[str, Fraction]

_NONE = Fraction(0)


def is_sidecar(init_container: Container) -> bool:
    return init_container.restart_policy == "Always"


def amounts(written: Mapping[str, str]) -> Amounts:
    """Raises ValueError, as all here: one is no quantity."""
    return {name: parse(text) for name, text in written.items()}


def limits(resources: ResourceRequirements) -> Amounts:
    return amounts(resources.limits)


def requests(resources: ResourceRequirements) -> Amounts:
    """A limit without a request is the request too."""
    return {**amounts(resources.limits), **amounts(resources.requests)}


def total(spec: PodSpec, count: Callable[[ResourceRequirements], Amounts]) -> Amounts:
    """count: `limits` or `requests`. Of the containers alone, without what the pod itself asks for."""
    sidecars: Amounts = {}
    most: Amounts = {}
    for container in spec.init_containers:
        own = count(container.resources)
        most = _greater(most, plus([sidecars, own]))
        if is_sidecar(container):
            sidecars = plus([sidecars, own])
    return _greater(most, plus([sidecars, *(count(container.resources) for container in spec.containers)]))


def plus(parts: Sequence[Amounts]) -> Amounts:
    sums: dict[str, Fraction] = {}
    for part in parts:
        for name, amount in part.items():
            sums[name] = sums[name] + amount if name in sums else amount
    return sums


def _greater(one: Amounts, other: Amounts) -> Amounts:
    """Name by name."""
    return {name: max(one.get(name, _NONE), other.get(name, _NONE)) for name in {**one, **other}}
