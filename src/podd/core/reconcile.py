"""After podd was restarted: from a record to what must be asked for again.

Every intent was stored before its effect, every effect has an id chosen before it, and every verb of a driver gives the
same answer when it is asked again. So what was under way is simply asked for once more, and is either found done or
done now: a half-made pod is finished, a half-removed one removed. What ran on meanwhile is watched again.
"""

from __future__ import annotations

from msgspec.structs import replace

from podd.core import container, health, sandbox
from podd.core import events as ev
from podd.core.look import probes_of, stop_signal
from podd.core.restart import MAX_DELAY_S, SECOND
from podd.core.state import Member, PodState
from podd.model.ids import ContainerId

SIGKILL = 9


def with_possible_times(state: PodState, now_ns: int) -> PodState:
    """The host's clock may have been set back while podd was away: nothing ended later than now, and nothing is due
    later than it could be if it had been decided now. Else a restart or a kill would wait out the time that was lost.
    """
    latest = now_ns + MAX_DELAY_S * SECOND
    goal, failed, box = state.goal, state.failed_start, state.sandbox
    if goal.kill_at_ns is not None:
        goal = replace(goal, kill_at_ns=min(goal.kill_at_ns, now_ns + int(goal.grace_s * SECOND)))
    if failed is not None and failed.retry_at_ns is not None:
        failed = replace(failed, retry_at_ns=min(failed.retry_at_ns, latest))
    if isinstance(box, sandbox.Removing) and box.retry_at_ns is not None:
        box = replace(box, retry_at_ns=min(box.retry_at_ns, latest))
    return replace(
        state,
        goal=goal,
        failed_start=failed,
        sandbox=box,
        lost_at_ns=None if state.lost_at_ns is None else min(state.lost_at_ns, now_ns),
        volumes_retry_at_ns=min(state.volumes_retry_at_ns, latest),
        ports_retry_at_ns=min(state.ports_retry_at_ns, latest),
        started_at_ns=None if state.started_at_ns is None else min(state.started_at_ns, now_ns),
        members={
            name: _possible(member, now_ns, now_ns + _patience_s(state, name) * SECOND)
            for name, member in state.members.items()
        },
    )


def _patience_s(state: PodState, name: str) -> int:
    """As long as it may be given to end by itself."""
    graces = [probe.termination_grace_period_seconds or 0 for probe in probes_of(state, name).values()]
    return max(state.pod.spec.termination_grace_period_seconds, *graces, 0)


def _possible(member: Member, now_ns: int, latest: int) -> Member:
    """latest: when it is killed at the latest, if it is ending."""
    match member.instance:
        case container.Exited(exit=exit) as ended if exit.finished_at_ns > now_ns:
            return replace(member, instance=replace(ended, exit=replace(exit, finished_at_ns=now_ns)))
        case container.Stopping(kill_at_ns=int() as kill_at) as ending:
            return replace(member, instance=replace(ending, kill_at_ns=min(kill_at, latest)))
    return member


def resume(state: PodState) -> list[ev.Action]:
    """First of all. The members of a sandbox can be asked for only when its driver has taken it up."""
    match state.sandbox:
        case sandbox.Creating(id=id, attempt=attempt):
            return [ev.CreateSandbox(id=id, attempt=attempt)]
        case sandbox.Ready(id=id):
            return [ev.RecoverSandbox(id=id)]
        case sandbox.Removing(id=id, retry_at_ns=None):
            return [ev.DestroySandbox(id=id)]
    if state.images == "pulling":
        return [ev.PullImages()]
    match state.volumes:
        case "preparing":
            return [ev.PrepareVolumes()]
        case "removing":
            return [ev.RemoveVolumes()]
    return []


def resume_members(state: PodState, now_ns: int, *, frozen: bool) -> list[ev.Action]:
    """The sandbox is taken up again. frozen: it is paused now; it may only stay so if somebody asked for it."""
    assert state.sandbox is not None
    actions: list[ev.Action] = [ev.WatchSandbox(id=state.sandbox.id)]
    if state.freezer == "freezing" or (state.freezer == "frozen" and not frozen):
        actions.append(ev.Freeze())
    elif state.freezer == "thawing" or (state.freezer == "thawed" and frozen):
        actions.append(ev.Thaw())
    if state.resized < state.generation and state.not_resized is None:
        actions.append(ev.Resize(generation=state.generation))
    if state.ports == "changing":
        actions.append(ev.Publish(id=state.sandbox.id))
    starting: dict[bool, list[ContainerId]] = {True: [], False: []}
    for name, member in state.members.items():
        actions += _resume(state, name, now_ns)
        if isinstance(member.instance, container.Starting):
            starting[member.kind == "regular"].append(member.instance.id)
    return actions + [ev.StartContainers(ids=tuple(ids)) for ids in starting.values() if ids]


def _resume(state: PodState, name: str, now_ns: int) -> list[ev.Action]:
    match state.members[name].instance:
        case container.Creating(id=id, attempt=attempt):
            return [ev.CreateContainer(id=id, name=name, attempt=attempt)]
        case container.Removing(id=id):
            return [ev.DestroyContainer(id=id)]
        case container.Created(id=id) | container.Starting(id=id):
            return [ev.WatchContainer(id=id)]
        case container.Running(id=id):
            return [ev.WatchContainer(id=id), *health.watching(state, name)]
        case container.Stopping(id=id) as ending:
            return [ev.WatchContainer(id=id), *_resume_end(state, name, ending, now_ns)]
        case _:
            return []


def _resume_end(state: PodState, name: str, ending: container.Stopping, now_ns: int) -> list[ev.Action]:
    if ending.killed or ending.told:
        number = SIGKILL if ending.killed else stop_signal(state, name)
        return [ev.SignalContainers(ids=(ending.id,), signal=number)]
    if ending.pre_stop:
        return []
    ends = [at for at in (ending.kill_at_ns, state.goal.kill_at_ns) if at is not None]
    left_s = max(0, min(ends) - now_ns) / SECOND if ends else None
    return [ev.RunHook(id=ending.id, name=name, hook="preStop", limit_s=left_s)]
