"""Who waits for whom among the regular members: podd's own wishes, which the manifest has as annotations."""

from __future__ import annotations

from podd.core import container
from podd.core.look import is_done, is_done_well, of_kind
from podd.core.state import PodState
from podd.model.annotations import Condition, parse


def waits_for(state: PodState, name: str) -> list[str]:
    """What holds this member back now, for people: "db: ready"; empty when it may start."""
    wishes = parse(state.pod)
    found = [f"{on}: {what}" for on, what in wishes.depends.get(name, {}).items() if not _is_so(state, on, what)]
    if wishes.ordered:
        members = of_kind(state, "regular")
        before = members[: members.index(name)] if name in members else []
        found += [f"{on}: started" for on in before if not _is_so(state, on, "started") and not is_done(state, on)]
    return found


def is_stuck(state: PodState, name: str) -> bool:
    """It has never run, and never will: what it waits for has ended and does not come back."""
    if not isinstance(state.members[name].instance, container.Created | None):
        return False
    depends = parse(state.pod).depends.get(name, {})
    return any(
        (is_done(state, on) and not _is_so(state, on, what)) or is_stuck(state, on) for on, what in depends.items()
    )


def keystone(state: PodState) -> str | None:
    """The member whose end is the pod's."""
    return parse(state.pod).keystone


def _is_so(state: PodState, name: str, what: Condition) -> bool:
    match what:
        case "completed":
            return is_done_well(state, name)
        case "ready":
            return container.is_ready(state.members[name].instance)
    return state.members[name].passed
