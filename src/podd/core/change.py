"""Small changes of a pod's state that more than one part of the policy makes."""

from __future__ import annotations

from msgspec.structs import replace

from podd.core import container
from podd.core import events as ev
from podd.core.look import has_hook, of_kind
from podd.core.restart import SECOND, Backoff
from podd.core.state import Ended, Goal, Member, PodState

Steps = tuple[PodState, list[ev.Action]]


def with_instance(state: PodState, name: str, *, instance: container.Instance) -> PodState:
    return replace(state, members={**state.members, name: replace(state.members[name], instance=instance)})


def warn(reason: str, failure: ev.Failure | None, name: str = "") -> list[ev.Action]:
    if failure is None:
        return []
    return [ev.Tell(type="Warning", reason=reason, message=failure.message, container=name)]


def updated(state: PodState, name: str, **fields: object) -> PodState:
    """With fields of one member changed."""
    return replace(state, members={**state.members, name: replace(state.members[name], **fields)})


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
    """All members are to run again, with no memory of back-off, nor of when the pod first ran."""
    members = {name: put_away(replace(m, backoff=Backoff())) for name, m in state.members.items()}
    return replace(
        state,
        goal=Goal(),
        members=members,
        failed_start=None,
        evicted="",
        backoff=Backoff(),
        lost_at_ns=None,
        started_at_ns=None,
    )


def anew(state: PodState) -> PodState:
    """Before a new sandbox: its init containers run again, and what was added to the old one is not in it."""
    members = {name: m for name, m in state.members.items() if name not in state.ephemeral}
    for name in of_kind(state, "init", "sidecar"):
        members[name] = put_away(members[name])
    members = {name: replace(m, begun=0, passed=False) for name, m in members.items()}
    return replace(state, members=members, ephemeral={})


def stop_one(state: PodState, name: str, now_ns: int, *, grace_s: float | None = None, again: bool = False) -> Steps:
    """End one container by itself: its preStop hook, its stop signal, and in the end SIGKILL.

    again: it runs again however it ends, unless it never may.
    """
    instance = state.members[name].instance
    if not isinstance(instance, container.Live):
        return state, []
    patience_s = float(state.pod.spec.termination_grace_period_seconds) if grace_s is None else grace_s
    hook = has_hook(state, name, "preStop") and patience_s > 0
    kill_at = now_ns + int(patience_s * SECOND)
    ending = container.stop(instance, hook=hook, kill_at_ns=kill_at, again=again)
    after = with_instance(state, name, instance=ending)
    if not hook or isinstance(instance, container.Stopping):
        return after, []
    return after, [ev.RunHook(id=ending.id, name=name, hook="preStop", limit_s=patience_s)]
