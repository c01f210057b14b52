"""After podd was restarted: from a record to what must be asked for again.

Every intent was stored before its effect, every effect has an id chosen before it, and every verb of a driver gives the
same answer when it is asked again. So what was under way is simply asked for once more, and is either found done or
done now: a half-made pod is finished, a half-removed one removed. What ran on meanwhile is watched again.
"""

from __future__ import annotations

from msgspec.structs import replace

from podd.core import container, sandbox
from podd.core import events as ev
from podd.core.restart import MAX_DELAY_S, SECOND
from podd.core.state import Member, PodState
from podd.model.ids import ContainerId

SIGTERM, SIGKILL = 15, 9


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
        members={name: _ended_by(member, now_ns) for name, member in state.members.items()},
    )


def _ended_by(member: Member, now_ns: int) -> Member:
    i = member.instance
    if not isinstance(i, container.Exited) or i.exit.finished_at_ns <= now_ns:
        return member
    return replace(member, instance=replace(i, exit=replace(i.exit, finished_at_ns=now_ns)))


def resume(state: PodState) -> list[ev.Action]:
    """First of all. The members of a sandbox can be asked for only when its driver has taken it up."""
    match state.sandbox:
        case sandbox.Creating(id=id, attempt=attempt):
            return [ev.CreateSandbox(id=id, attempt=attempt)]
        case sandbox.Ready(id=id):
            return [ev.RecoverSandbox(id=id)]
        case sandbox.Removing(id=id, retry_at_ns=None):
            return [ev.DestroySandbox(id=id)]
    match state.volumes:
        case "preparing":
            return [ev.PrepareVolumes()]
        case "removing":
            return [ev.RemoveVolumes()]
    return []


def resume_members(state: PodState, *, frozen: bool) -> list[ev.Action]:
    """The sandbox is taken up again. frozen: it is paused now; it may only stay so if somebody asked for it."""
    assert state.sandbox is not None
    actions: list[ev.Action] = [ev.WatchSandbox(id=state.sandbox.id)]
    if state.freezer == "freezing" or (state.freezer == "frozen" and not frozen):
        actions.append(ev.Freeze())
    elif state.freezer == "thawing" or (state.freezer == "thawed" and frozen):
        actions.append(ev.Thaw())
    starting: list[ContainerId] = []
    untold: dict[int, list[ContainerId]] = {SIGTERM: [], SIGKILL: []}
    for name, member in state.members.items():
        match member.instance:
            case container.Creating(id=id, attempt=attempt):
                actions.append(ev.CreateContainer(id=id, name=name, attempt=attempt))
                continue
            case container.Removing(id=id):
                actions.append(ev.DestroyContainer(id=id))
                continue
            case container.Starting(id=id):
                starting.append(id)
            case container.Stopping(id=id, killed=killed):
                untold[SIGKILL if killed else SIGTERM].append(id)
            case container.Created(id=id) | container.Running(id=id):
                pass
            case _:
                continue
        actions.append(ev.WatchContainer(id=id))
    if starting:
        actions.append(ev.StartContainers(ids=tuple(starting)))
    return actions + [ev.SignalContainers(ids=tuple(ids), signal=number) for number, ids in untold.items() if ids]
