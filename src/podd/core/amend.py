"""A manifest that changes while its pod is there: what a running pod can take."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from podd.core import container, network, sandbox
from podd.core import events as ev
from podd.core.change import Steps, stop_one
from podd.core.look import spec_of
from podd.core.state import PodState
from podd.errors import Conflict
from podd.model.pod import Container, Pod, PodSpec, ResourceRequirements


def amend(state: PodState, asked: ev.AmendAsked, now_ns: int) -> Steps:
    """Names and what was set by podd stay; what runs is changed where it runs. Raises Conflict.

    Asked again for ports that could not be had, it tries again.
    """
    name, new = f"pod {state.pod.metadata.namespace}/{state.pod.metadata.name}", asked.pod
    if asked.of != state.pod:  # else what somebody else has just changed would be undone
        raise Conflict(f"{name}: was changed meanwhile", remedy="ask again")
    spec = _taken_in_place(state.pod.spec, new.spec)
    if spec is None or spec != new.spec:
        raise Conflict(f"{name}: the change cannot be made while it is there", remedy="apply makes it anew")
    meta = replace(state.pod.metadata, labels=new.metadata.labels, annotations=new.metadata.annotations)
    applied = state.applied if asked.applied is None else asked.applied
    amended = replace(state, pod=replace(state.pod, metadata=meta, spec=spec), applied=applied)
    if spec == state.pod.spec and state.not_published is None:
        return amended, []
    generation = state.generation + (spec != state.pod.spec)
    amended = replace(amended, generation=generation, not_resized=None, not_published=None, ports_tries=0)
    if state.sandbox is None:
        return replace(amended, resized=generation, ports="led"), []
    limits, ports = _limits_change(state, spec), _ports_change(state, amended.pod)
    if _is_on_its_way(state, limits=limits):
        raise Conflict(f"{name}: it, or a part of it, is being started, changed or ended", remedy="ask again later")
    amended = replace(
        amended,
        resized=state.resized if limits else generation,
        ports="waiting" if ports else state.ports,
    )
    actions: list[ev.Action] = [ev.Resize(generation=generation)] if limits else []
    return _restart_resized(amended, state.pod.spec, now_ns, actions)


def _limits_change(state: PodState, spec: PodSpec) -> bool:
    """Or have changed, and are not yet in force."""
    old = state.pod.spec
    both = zip((*old.init_containers, *old.containers), (*spec.init_containers, *spec.containers), strict=True)
    same = old.resources == spec.resources and all(a.resources == b.resources for a, b in both)
    return not same or state.resized < state.generation


def _ports_change(state: PodState, pod: Pod) -> bool:
    """Likewise."""
    same = network.port_mappings(state.pod) == network.port_mappings(pod)
    return not same or state.ports != "led"


def must_wait(state: PodState) -> bool:
    """A change that is refused now may be taken when what is under way is over."""
    return state.goal.want != "delete" and state.sandbox is not None and _is_on_its_way(state, limits=True)


def _is_on_its_way(state: PodState, *, limits: bool) -> bool:
    """What is being made has the limits of before, and would differ from its plan. Ports are led by one at a time."""
    ready = isinstance(state.sandbox, sandbox.Ready) and not state.recovering
    if not ready or state.goal.want != "run" or state.ports == "changing" or state.replaces is not None:
        return True
    unsettled = container.Creating | container.Created | container.Starting
    return limits and any(isinstance(m.instance, unsettled) for m in state.members.values())


def _restart_resized(state: PodState, old: PodSpec, now_ns: int, actions: list[ev.Action]) -> Steps:
    """End those that want to be restarted when what has changed of their resources changes: resizePolicy."""
    before = {c.name: c.resources for c in (*old.init_containers, *old.containers)}
    for name, resources in before.items():
        spec = spec_of(state, name)
        restarted = {rule.resource_name for rule in spec.resize_policy if rule.restart_policy == "RestartContainer"}
        if restarted & _changed_resources(resources, spec.resources):
            state, ending = stop_one(state, name, now_ns, again=True)
            actions += ending
    return state, actions


def _taken_in_place(old: PodSpec, new: PodSpec) -> PodSpec | None:
    """The old spec with what changes in place as in the new one: resources and ports. None: not the same containers."""

    def taken(mine: Sequence[Container], theirs: Sequence[Container]) -> tuple[Container, ...] | None:
        if [c.name for c in mine] != [c.name for c in theirs]:
            return None
        return tuple(replace(a, resources=b.resources, ports=b.ports) for a, b in zip(mine, theirs, strict=True))

    init, regular = taken(old.init_containers, new.init_containers), taken(old.containers, new.containers)
    if init is None or regular is None:
        return None
    return replace(old, init_containers=init, containers=regular, resources=new.resources)


def _changed_resources(old: ResourceRequirements, new: ResourceRequirements) -> set[str]:
    """The names of those of which another amount is asked for, or allowed."""
    names = {*old.limits, *old.requests, *new.limits, *new.requests}
    return {n for n in names if (old.limits.get(n), old.requests.get(n)) != (new.limits.get(n), new.requests.get(n))}
