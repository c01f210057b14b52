"""Small changes of a pod's state that more than one part of the policy makes."""

from __future__ import annotations

from msgspec.structs import replace

from podd.core import container
from podd.core import events as ev
from podd.core.restart import Backoff
from podd.core.state import Ended, Goal, Member, PodState

Steps = tuple[PodState, list[ev.Action]]


def with_instance(state: PodState, name: str, *, instance: container.Instance) -> PodState:
    return replace(state, members={**state.members, name: replace(state.members[name], instance=instance)})


def warn(reason: str, failure: ev.Failure | None, name: str = "") -> list[ev.Action]:
    if failure is None:
        return []
    return [ev.Tell(type="Warning", reason=reason, message=failure.message, container=name)]


def put_away(member: Member) -> Member:
    """The instance that ended becomes the last one, and there is room for the next."""
    if not isinstance(member.instance, container.Exited):
        return member
    gone = member.instance
    if not container.was_made(gone):
        return replace(member, instance=None)
    ended = Ended(id=gone.id, attempt=gone.attempt, exit=gone.exit)
    return replace(member, instance=None, last=ended, restarts=member.restarts + 1)


def afresh(state: PodState) -> PodState:
    """All members are to run again, with no memory of back-off."""
    members = {name: put_away(replace(m, backoff=Backoff())) for name, m in state.members.items()}
    return replace(state, goal=Goal(), members=members, failed_start=None, backoff=Backoff(), lost_at_ns=None)
