"""Changing a pod that runs: what its members may use, and containers added to look into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from podd.core import container, difference, plan
from podd.core import events as ev
from podd.core.state import PodState
from podd.engine.actor import Actor, as_error
from podd.engine.inside import member_name
from podd.errors import Conflict, Invalid, Unsupported
from podd.model.pod import Container, Pod, ResourceRequirements
from podd.model.problem import Problem

Check = Callable[[Pod], Pod]
"""The pod as it would be accepted. Raises Invalid, or what a plugin refuses it with."""


# ---- resize ----------------------------------------------------------------------------------------------------------


async def resize(
    actor: Actor, name: str | None, limits: Mapping[str, str], requests: Mapping[str, str], check: Check
) -> PodState:
    """Change some amounts of one container; wait until they are in force. Raises Conflict: they cannot be now."""
    member = member_name(actor, name)

    def change(old: Pod) -> Pod:
        new = _checked(_with_amounts(old, member, limits, requests), check)
        _refuse_other_pod(old, new, can_resize=actor.driver.capabilities.resize or actor.state.sandbox is None)
        return new

    asked = await actor.amend(change)
    last = await actor.until(lambda s: _is_over(s, asked.generation))
    if last.resized < asked.generation and last.not_resized is not None:
        raise as_error(last.not_resized)
    return last


def _refuse_other_pod(old: Pod, new: Pod, *, can_resize: bool) -> None:
    for change in difference.differences(old, new, can_resize=can_resize):
        if change.means == "recreate":
            raise Conflict(
                f"{change.path}: cannot change while the pod is there: {change.note or 'it needs another pod'}",
                remedy="change the manifest and apply it: that makes the pod anew",
            )


def _is_over(state: PodState, generation: int) -> bool:
    return state.resized >= generation or state.generation > generation or state.not_resized is not None


def _with_amounts(pod: Pod, name: str, limits: Mapping[str, str], requests: Mapping[str, str]) -> Pod:
    def changed(member: Container) -> Container:
        if member.name != name:
            return member
        own = member.resources
        amounts = ResourceRequirements(limits={**own.limits, **limits}, requests={**own.requests, **requests})
        return replace(member, resources=amounts)

    spec = replace(
        pod.spec,
        containers=tuple(map(changed, pod.spec.containers)),
        init_containers=tuple(map(changed, pod.spec.init_containers)),
    )
    return replace(pod, spec=spec)


# ---- debug -----------------------------------------------------------------------------------------------------------


async def debug(actor: Actor, added: Container, target: str | None, check: Check) -> PodState:
    """Add a container and wait until it runs. Raises Conflict: it cannot be made; Unsupported: the driver cannot."""
    state = actor.state
    member = member_name(actor, target) if target else ""
    private = plan.namespace_scopes(state.pod).pid == "container"
    if member and private and not actor.driver.capabilities.pid_target:
        raise Unsupported(
            f"driver {actor.driver.name}: cannot show a container the processes of another",
            remedy="leave the target out, or use a pod with shareProcessNamespace",
        )
    settled = _settled(state, added, check)
    await actor.ask(ev.DebugAsked(container=settled, target=member))
    last = await actor.until(lambda s: added.name not in s.members or _has_begun(s, added.name))
    found = last.members.get(added.name)
    if found is None or actor.gone:
        raise Conflict(f"container {added.name}: the pod ended before it ran")
    if isinstance(found.instance, container.Exited) and not container.was_made(found.instance):
        raise Conflict(f"container {added.name}: {found.instance.exit.message}")
    return last


def _settled(state: PodState, added: Container, check: Check) -> Container:
    """By the rules for members, in the pod as it is now."""
    if added.name in state.members:
        message = f"container {added.name}: pod {state.pod.metadata.name} has one of this name"
        raise Conflict(message, remedy="give another name")
    spec = state.pod.spec
    pod = replace(state.pod, spec=replace(spec, containers=(*spec.containers, added)))
    places = {f"spec.containers[{len(spec.containers)}].": f"container {added.name}: "}
    return _checked(pod, check, places).spec.containers[-1]


def _has_begun(state: PodState, name: str) -> bool:
    return isinstance(state.members[name].instance, container.Live | container.Exited | container.Removing)


# ---- the rules of manifests ------------------------------------------------------------------------------------------


def _checked(pod: Pod, check: Check, places: Mapping[str, str] = {}) -> Pod:
    """Nobody has written this manifest, so its lines and columns are not told. places: what paths in it are called.

    Raises as check.
    """
    try:
        return check(pod)
    except Invalid as exc:
        found = exc.facts.get("problems")
        problems = [one for one in found if isinstance(one, Problem)] if isinstance(found, Sequence) else []
        told = "\n".join(_without_place(one) for one in problems if one.level == "error")
        for place, name in places.items():
            told = told.replace(place, name)
        if not told:
            raise
        raise Invalid(told) from exc


def _without_place(problem: Problem) -> str:
    return f"{problem.path}: {problem.message}" + (f"; {problem.remedy}" if problem.remedy else "")


def text_of(pod: Pod) -> str:
    """A manifest that says the same, for the rules that manifests are held to."""
    return msgspec.json.encode(replace(pod, metadata=replace(pod.metadata, uid="", creation_timestamp=None))).decode()
