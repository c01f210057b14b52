"""Where the pod is, where it is meant to be, and the next step between the two."""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from podd.core import container, plan, sandbox, verify
from podd.core import events as ev
from podd.core.change import Steps, afresh, put_away, warn, with_instance
from podd.core.look import begin_due, is_done, is_due, is_finished, is_needed
from podd.core.restart import SECOND
from podd.core.state import FailedStart, PodState
from podd.driver.contract import Observed
from podd.errors import Kind
from podd.model.ids import ContainerId, PodUid, SandboxId

SIGTERM, SIGKILL = 15, 9
KILL_PATIENCE_S = 10  # how long a SIGKILL may take before the sandbox is destroyed as a whole


def sandbox_id(uid: PodUid, attempt: int) -> SandboxId:
    """Known before the sandbox is made, and the same whenever it is worked out again."""
    return SandboxId(hashlib.sha256(f"{uid}/{attempt}".encode()).hexdigest()[:16])


def container_id(uid: PodUid, name: str, attempt: int) -> ContainerId:
    return ContainerId(hashlib.sha256(f"{uid}/{name}/{attempt}".encode()).hexdigest()[:16])


def decide(state: PodState, now_ns: int) -> Steps:
    """The next step from where the pod is to where it is meant to be; none when it is there or must wait."""
    box = state.sandbox
    if isinstance(box, sandbox.Removing):
        if box.retry_at_ns is None or now_ns < box.retry_at_ns:
            return state, []
        return _destroy(state)
    if isinstance(box, sandbox.NotReady):
        return _destroy(state)
    if state.recovering:
        return state, []
    if state.goal.want == "run":
        return _run(state, now_ns)
    return _end(state, now_ns)


def _run(state: PodState, now_ns: int) -> Steps:
    if is_finished(state):
        return _destroy(state) if state.sandbox is not None else (state, [])
    match state.sandbox:
        case None:
            return _begin(state, now_ns)
        case sandbox.Ready() if state.released:
            return _keep(state, now_ns) if state.freezer == "thawed" else (state, [])
        case sandbox.Ready():
            return _start_together(state, now_ns)
        case _:
            return state, []


def _begin(state: PodState, now_ns: int) -> Steps:
    """No sandbox yet, or no longer."""
    if now_ns < begin_due(state):
        return state, []
    if state.volumes == "absent" and not state.pod.spec.volumes:
        state = replace(state, volumes="ready", start_began_ns=now_ns)
    if state.volumes == "absent":
        return replace(state, volumes="preparing", start_began_ns=now_ns), [ev.PrepareVolumes()]
    if state.volumes != "ready":
        return state, []
    attempt = state.sandboxes
    box = sandbox.Creating(id=sandbox_id(state.uid, attempt), attempt=attempt)
    begun = replace(
        state,
        sandbox=box,
        sandboxes=attempt + 1,
        released=False,
        started_at_ns=state.started_at_ns or now_ns,
        start_began_ns=now_ns if attempt or state.start_began_ns is None else state.start_began_ns,
        backoff=state.backoff.next(now_ns) if state.lost_at_ns is not None else state.backoff,
        lost_at_ns=None,
    )
    return begun, [ev.CreateSandbox(id=box.id, attempt=attempt)]


def _start_together(state: PodState, now_ns: int) -> Steps:
    """Prepare every member; when all are held and as planned, let them go at one moment."""
    actions: list[ev.Action] = []
    for name, member in state.members.items():
        if is_needed(state, member):
            state, action = _create(state, name, now_ns)
            actions.append(action)
    if actions:
        return state, actions
    starting = {n: m.instance for n, m in state.members.items() if not is_done(state, m)}
    held = {n: i for n, i in starting.items() if isinstance(i, container.Created)}
    if len(held) < len(starting):
        return state, []
    wrong = _unlike_plan(state, held)
    if wrong:
        return _not_as_planned(state, wrong)
    for name, one in held.items():
        state = with_instance(state, name, instance=container.start(one))
    return state, [ev.StartContainers(ids=tuple(one.id for one in held.values()))]


def _keep(state: PodState, now_ns: int) -> Steps:
    """The pod runs: bring back members that ended, each by itself."""
    actions: list[ev.Action] = []
    for name, member in state.members.items():
        match member.instance:
            case container.Exited(handle=None) | None if is_due(state, member, now_ns):
                state, action = _create(state, name, now_ns)
                actions.append(action)
            case container.Exited() as ended if is_due(state, member, now_ns):
                state = with_instance(state, name, instance=container.remove(ended))
                actions.append(ev.DestroyContainer(id=ended.id))
            case container.Created() as held:
                wrong = _unlike_plan(state, {name: held})
                if wrong:
                    failure = ev.Failure(kind=Kind.INTERNAL, message="; ".join(wrong))
                    state = with_instance(state, name, instance=container.failed(held, failure, "VerifyError", now_ns))
                else:
                    state = with_instance(state, name, instance=container.start(held))
                    actions.append(ev.StartContainers(ids=(held.id,)))
            case _:
                pass
    return state, actions


def _not_as_planned(state: PodState, wrong: list[str]) -> Steps:
    """Never let it run. There is no other try either: what podd made wrong once it would make wrong again."""
    failure = ev.Failure(kind=Kind.INTERNAL, message="; ".join(wrong), remedy="report this: podd made the pod wrong")
    refused = replace(state, failed_start=FailedStart(failure=failure, reason="VerifyError"))
    undone, actions = _destroy(refused)
    return undone, [*actions, *warn("VerifyError", failure)]


def _create(state: PodState, name: str, now_ns: int) -> tuple[PodState, ev.Action]:
    member = state.members[name]
    again = member.instance is not None
    kept = put_away(member)
    attempt = kept.attempts
    id = container_id(state.uid, name, attempt)
    begun = replace(
        kept,
        instance=container.Creating(id=id, attempt=attempt),
        attempts=attempt + 1,
        backoff=kept.backoff.next(now_ns) if again and state.released else kept.backoff,
    )
    return replace(state, members={**state.members, name: begun}), ev.CreateContainer(id=id, name=name, attempt=attempt)


def _end(state: PodState, now_ns: int) -> Steps:
    match state.sandbox:
        case None:
            return _ended(state, now_ns)
        case sandbox.Ready() if state.released:
            return _end_members(state, now_ns)
        case _:
            return _destroy(state)


def _end_members(state: PodState, now_ns: int) -> Steps:
    if state.freezer != "thawed":
        if state.freezer == "frozen":
            return replace(state, freezer="thawing"), [ev.Thaw()]
        return state, []
    live = {
        n: m.instance
        for n, m in state.members.items()
        if isinstance(m.instance, container.Running | container.Stopping)
    }
    releasing = any(isinstance(m.instance, container.Starting) for m in state.members.values())
    goal = state.goal
    at_once = goal.want == "delete" and goal.grace_s <= 0
    if (not live and not releasing) or at_once:
        return _destroy(state)
    if goal.kill_at_ns is None:
        goal = replace(goal, kill_at_ns=now_ns + int(goal.grace_s * SECOND))
    assert goal.kill_at_ns is not None
    if now_ns >= goal.kill_at_ns:
        if goal.kills:
            return _destroy(state)
        goal = replace(goal, kills=1, kill_at_ns=now_ns + KILL_PATIENCE_S * SECOND)
    return _signal(replace(state, goal=goal), live, kill=goal.kills > 0)


def _signal(state: PodState, live: dict[str, container.Live], *, kill: bool) -> Steps:
    """Tell those that have not been told, all at one moment."""
    untold = {n: i for n, i in live.items() if isinstance(i, container.Running) or (kill and not i.killed)}
    if not untold:
        return state, []
    told: list[ev.Action] = []
    for name, instance in untold.items():
        state = with_instance(state, name, instance=container.stop(instance, kill=kill))
        if not kill:
            told.append(ev.Tell(reason="Killing", message=f"Stopping container {name}", container=name))
    number = SIGKILL if kill else SIGTERM
    return state, [ev.SignalContainers(ids=tuple(i.id for i in untold.values()), signal=number), *told]


def _ended(state: PodState, now_ns: int) -> Steps:
    """Nothing runs and there is no sandbox."""
    if state.goal.want == "restart":
        return _run(afresh(state), now_ns)
    if state.goal.want == "stop" or state.volumes in ("removing", "preparing") or now_ns < state.volumes_retry_at_ns:
        return state, []
    if state.volumes == "ready":
        return replace(state, volumes="removing"), [ev.RemoveVolumes()]
    return state, [ev.Forget()]


def _destroy(state: PodState) -> Steps:
    assert state.sandbox is not None
    removing = sandbox.remove(state.sandbox)
    return replace(state, sandbox=removing, freezer="thawed"), [ev.DestroySandbox(id=removing.id)]


def _unlike_plan(state: PodState, held: dict[str, container.Created]) -> list[str]:
    assert isinstance(state.sandbox, sandbox.Ready)
    seen: dict[str, Observed] = {}
    wrong: list[str] = []
    for name, one in held.items():
        if one.observed is None:
            continue  # this driver cannot hold; what it reports after the start is shown, not enforced
        wrong += [
            f"container {name}: {what}"
            for what in verify.differences(
                scopes=plan.namespace_scopes(state.pod),
                limits=plan.container_limits(state.pod, name),
                sandbox=state.sandbox.observed,
                sandbox_cgroup=state.sandbox.cgroup,
                member=one.observed,
                others=seen,
            )
        ]
        seen[name] = one.observed
    return wrong
