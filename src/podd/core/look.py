"""What can be seen in the state of a pod, for those who decide and those who tell."""

from __future__ import annotations

from podd.core import container, sandbox
from podd.core.restart import wants_restart
from podd.core.state import Member, PodState
from podd.model.pod import Container


def spec_of(state: PodState, name: str) -> Container:
    """The manifest's part for one container of the pod, of whatever kind."""
    if name in state.ephemeral:
        return state.ephemeral[name].container
    spec = state.pod.spec
    return next(c for c in (*spec.init_containers, *spec.containers) if c.name == name)


def is_prepared(state: PodState) -> bool:
    """It waits for nothing but the end of the pod whose place it takes."""
    if state.replaces is None or not isinstance(state.sandbox, sandbox.Ready):
        return False
    return all(isinstance(m.instance, container.Created) for m in state.members.values())


def next_wake(state: PodState) -> int | None:
    """When to look again though nothing happened, in nanoseconds; None: not before something happens."""
    times: list[int] = []
    box = state.sandbox
    if isinstance(box, sandbox.Removing):
        return box.retry_at_ns
    if state.recovering:
        return None
    if state.goal.want != "run":
        if box is not None:
            return state.goal.kill_at_ns
        return (state.volumes_retry_at_ns or None) if state.volumes == "ready" else None
    if is_finished(state) or state.freezer != "thawed":
        return None
    if box is None and state.volumes in ("absent", "ready"):
        times.append(begin_due(state))
    if isinstance(box, sandbox.Ready) and state.released:
        times += [due_ns(m) for m in state.members.values() if comes_back(state, m)]
    return min(times, default=None)


def is_finished(state: PodState) -> bool:
    """Meant to run, and every member has ended for good, or there will be no further try to start."""
    if state.failed_start is not None and state.failed_start.retry_at_ns is None:
        return True
    return all(is_done(state, m) for m in state.members.values())


def is_done(state: PodState, member: Member) -> bool:
    """It has ended and does not run again."""
    i = member.instance
    return isinstance(i, container.Exited) and not wants_restart(state.pod.spec.restart_policy, i.exit)


def comes_back(state: PodState, member: Member) -> bool:
    return isinstance(member.instance, container.Exited) and not is_done(state, member)


def due_ns(member: Member) -> int:
    assert isinstance(member.instance, container.Exited)
    return member.backoff.due_ns(member.instance.exit.finished_at_ns)


def is_due(state: PodState, member: Member, now_ns: int) -> bool:
    return member.instance is None or (comes_back(state, member) and now_ns >= due_ns(member))


def is_needed(state: PodState, member: Member) -> bool:
    """Has to be made for a start of the whole pod. What ended in an earlier sandbox has no handle any more."""
    i = member.instance
    return i is None or (isinstance(i, container.Exited) and i.handle is None and not is_done(state, member))


def begin_due(state: PodState) -> int:
    if state.failed_start is not None:
        return state.failed_start.retry_at_ns or 0
    if state.lost_at_ns is not None:
        return state.backoff.due_ns(state.lost_at_ns)
    return 0
