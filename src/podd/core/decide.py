"""Where the pod is, where it is meant to be, and the next step between the two."""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from podd.core import container, ending, network, order, plan, resources, sandbox, verify
from podd.core import events as ev
from podd.core.change import Steps, afresh, anew, put_away, warn, with_instance
from podd.core.ending import destroy
from podd.core.look import (
    at_work,
    begin_due,
    deadline_ns,
    gives_back_volumes,
    has_failed_init,
    is_done,
    is_due,
    is_finished,
    is_initialized,
    is_too_early,
    lasting,
    of_kind,
    spec_of,
)
from podd.core.state import FailedStart, Goal, Member, PodState
from podd.driver.contract import Observed
from podd.errors import Kind
from podd.model.ids import ContainerId, PodUid, SandboxId
from podd.model.pod import ROOTFS

DEADLINE_EXCEEDED, KEYSTONE_ENDED, DEPENDENCY_FAILED = "DeadlineExceeded", "KeystoneEnded", "DependencyFailed"
EVICTED = "Evicted"
EVICTION_GRACE_S = 1.0  # the kubelet's: what fills the disk is not given time for it
OVER = {
    DEADLINE_EXCEEDED: "Pod was active on the node longer than the specified deadline",
    DEPENDENCY_FAILED: "What members wait for has ended and does not come back",
}
"""What is told of an end that no member's own end explains."""


def sandbox_id(uid: PodUid, attempt: int) -> SandboxId:
    """Known before the sandbox is made, and the same whenever it is worked out again."""
    return SandboxId(hashlib.sha256(f"{uid}/{attempt}".encode()).hexdigest()[:16])


def container_id(uid: PodUid, name: str, attempt: int) -> ContainerId:
    return ContainerId(hashlib.sha256(f"{uid}/{name}/{attempt}".encode()).hexdigest()[:16])


def decide(state: PodState, now_ns: int) -> Steps:
    """The next step from where the pod is to where it is meant to be; none when it is there or must wait."""
    box = state.sandbox
    if state.images == "pulling" and state.goal.want != "run":
        state = replace(state, images="absent")
    if isinstance(box, sandbox.Removing):
        if box.retry_at_ns is None or now_ns < box.retry_at_ns:
            return state, []
        return destroy(state)
    if isinstance(box, sandbox.NotReady):
        return destroy(state)
    if state.recovering:
        if state.goal.want != "delete" or state.goal.grace_s > 0:
            return state, []
        return destroy(replace(state, recovering=False))  # whatever its driver would say of it
    if state.goal.want == "run":
        return _run(state, now_ns)
    return ending.end(state, now_ns) if state.sandbox is not None else _ended(state, now_ns)


def _run(state: PodState, now_ns: int) -> Steps:
    why = _over(state, now_ns)
    if why is not None:
        return _finish(state, why, now_ns)
    if is_finished(state):
        return destroy(state) if state.sandbox is not None else (state, [])
    match state.sandbox:
        case None:
            return _begin(_with_directories(state), now_ns)
        case sandbox.Ready() if state.freezer == "thawed":
            return _advance(state, now_ns)
        case sandbox.Ready():
            return _publish(state, now_ns)
        case _:
            return state, []


def _over(state: PodState, now_ns: int) -> str | None:
    """Why the pod has come to its end, "" where its members say it; None: it has not."""
    if state.failed_start is not None and state.failed_start.retry_at_ns is None:
        return None  # its members never ran
    if state.evicted:
        return EVICTED
    deadline = deadline_ns(state)
    if deadline is not None and now_ns >= deadline:
        return DEADLINE_EXCEEDED
    keystone = order.keystone(state)
    members = of_kind(state, "regular")
    if all(is_done(state, name) for name in members) or has_failed_init(state):
        return ""
    if keystone in members and is_done(state, keystone):
        return KEYSTONE_ENDED
    if all(is_done(state, name) or order.is_stuck(state, name) for name in members):
        return DEPENDENCY_FAILED
    return None


def _finish(state: PodState, why: str, now_ns: int) -> Steps:
    """End what still runs, sidecars mostly, and rest."""
    grace_s = EVICTION_GRACE_S if why == EVICTED else float(state.pod.spec.termination_grace_period_seconds)
    message = state.evicted if why == EVICTED else OVER.get(why)
    told: list[ev.Action] = [ev.Tell(reason=why, message=message, type="Warning")] if message else []
    over = replace(state, goal=Goal(want="finish", grace_s=grace_s, reason=why))
    ended, actions = (over, []) if state.sandbox is None else ending.end(over, now_ns)
    return ended, told + actions


def _with_directories(state: PodState) -> PodState:
    """There is nothing to be pulled for a pod that names no image."""
    names = lasting(state)
    if state.images != "absent" or not all(spec_of(state, name).image.startswith(ROOTFS) for name in names):
        return state
    return replace(state, images="ready", image_ids=dict.fromkeys(names, ""))


def _begin(state: PodState, now_ns: int) -> Steps:
    """No sandbox yet, or no longer. A port of the host leads to one pod: the one that takes its place gets it later."""
    if now_ns < begin_due(state) or state.images == "pulling":
        return state, []
    if state.images == "absent":
        pulling = replace(state, images="pulling", started_at_ns=state.started_at_ns or now_ns)
        return pulling, [ev.PullImages()]
    if is_too_early(state):
        return state, []
    if state.volumes in ("absent", "stale") and not state.pod.spec.volumes:
        state = replace(state, volumes="ready", start_began_ns=now_ns)
    if state.volumes in ("absent", "stale"):
        return replace(state, volumes="preparing", start_began_ns=now_ns), [ev.PrepareVolumes()]
    if state.volumes != "ready":
        return state, []
    attempt = state.sandboxes
    box = sandbox.Creating(id=sandbox_id(state.uid, attempt), attempt=attempt)
    begun = replace(
        anew(state),
        sandbox=box,
        sandboxes=attempt + 1,
        released=False,
        started_at_ns=state.started_at_ns or now_ns,
        start_began_ns=now_ns if attempt or state.start_began_ns is None else state.start_began_ns,
        backoff=state.backoff.next(now_ns) if state.lost_at_ns is not None else state.backoff,
        lost_at_ns=None,
        resized=state.generation,
        not_resized=None,
        ports="waiting" if state.replaces is not None and network.port_mappings(state.pod) else "led",
        not_published=None,
        ports_tries=0,
    )
    return begun, [ev.CreateSandbox(id=box.id, attempt=attempt)]


def _advance(state: PodState, now_ns: int) -> Steps:
    """The sandbox is ready: init containers and sidecars in their order, then the members together, then each alone."""
    state, actions = ending.tell(state, now_ns)
    state, more = _publish(state, now_ns)
    actions += more
    for name in at_work(state):
        state, more = _bring_forward(state, name, now_ns)
        actions += more
    if is_initialized(state) and not state.released:
        state, more = _start_together(state, now_ns)
        actions += more
    return state, actions


def _publish(state: PodState, now_ns: int) -> Steps:
    due = state.ports == "waiting" or (state.ports == "refused" and now_ns >= state.ports_retry_at_ns)
    if not due or state.replaces is not None:
        return state, []
    assert state.sandbox is not None
    return replace(state, ports="changing"), [ev.Publish(id=state.sandbox.id)]


def _bring_forward(state: PodState, name: str, now_ns: int) -> Steps:
    """One container, by itself: begun when it is due, let go when nothing holds it back."""
    match state.members[name].instance:
        case container.Exited(handle=None) | None if is_due(state, name, now_ns):
            return _create(state, name, now_ns)
        case container.Exited() as ended if is_due(state, name, now_ns):
            removing = with_instance(state, name, instance=container.remove(ended))
            return removing, [ev.DestroyContainer(id=ended.id)]
        case container.Created() as held if _may_start(state, name):
            wrong = _unlike_plan(state, {name: held})
            if not wrong:
                return _let_go(state, {name: held})
            failure = ev.Failure(kind=Kind.INTERNAL, message="; ".join(wrong))
            return with_instance(state, name, instance=container.failed(held, failure, "VerifyError", now_ns)), []
        case _:
            return state, []


def _start_together(state: PodState, now_ns: int) -> Steps:
    """Prepare every member; when all are held and as planned, let those go that wait for nobody, at one moment."""
    actions: list[ev.Action] = []
    wanted = [name for name in of_kind(state, "regular") if not is_done(state, name)]
    for name in wanted:
        instance = state.members[name].instance
        if instance is None or (isinstance(instance, container.Exited) and instance.handle is None):
            state, more = _create(state, name, now_ns)
            actions += more
    held = {n: i for n in wanted if isinstance(i := state.members[n].instance, container.Created)}
    if actions or len(held) < len(wanted):
        return state, actions
    wrong = _unlike_plan(state, held)
    if wrong:
        return _not_as_planned(state, wrong)
    return _let_go(state, {name: one for name, one in held.items() if _may_start(state, name)})


def _may_start(state: PodState, name: str) -> bool:
    return state.replaces is None and not order.waits_for(state, name)


def _let_go(state: PodState, held: dict[str, container.Created]) -> Steps:
    if not held:
        return state, []
    for name, one in held.items():
        state = with_instance(state, name, instance=container.start(one))
    return state, [ev.StartContainers(ids=tuple(one.id for one in held.values()))]


def _not_as_planned(state: PodState, wrong: list[str]) -> Steps:
    """Never let it run. There is no other try either: what podd made wrong once it would make wrong again."""
    failure = ev.Failure(kind=Kind.INTERNAL, message="; ".join(wrong), remedy="report this: podd made the pod wrong")
    refused = replace(state, failed_start=FailedStart(failure=failure, reason="VerifyError"))
    undone, actions = destroy(refused)
    return undone, [*actions, *warn("VerifyError", failure)]


def _create(state: PodState, name: str, now_ns: int) -> Steps:
    member = state.members[name]
    kept = put_away(member)
    attempt = kept.attempts
    id = container_id(state.uid, name, attempt)
    begun = replace(
        kept,
        instance=container.Creating(id=id, attempt=attempt),
        attempts=attempt + 1,
        begun=kept.begun + 1,
        backoff=kept.backoff.next(now_ns) if kept.begun and _has_failed(member) else kept.backoff,
    )
    creating = replace(state, members={**state.members, name: begun})
    return creating, [ev.CreateContainer(id=id, name=name, attempt=attempt)]


def _has_failed(member: Member) -> bool:
    """It was not just that what it takes values from was not there."""
    return member.instance is not None and not container.lacks_object(member.instance)


def _ended(state: PodState, now_ns: int) -> Steps:
    """Nothing runs and there is no sandbox."""
    if state.goal.want == "restart":
        return _run(afresh(state), now_ns)
    if not gives_back_volumes(state):
        return state, []
    if state.volumes in ("removing", "preparing") or now_ns < state.volumes_retry_at_ns:
        return state, []
    if state.volumes in ("ready", "stale"):
        return replace(state, volumes="removing"), [ev.RemoveVolumes()]
    return state, [ev.Forget()] if state.goal.want == "delete" else []


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
                limits=resources.container_limits(spec_of(state, name)),
                sandbox=state.sandbox.observed,
                sandbox_cgroup=state.sandbox.cgroup,
                member=one.observed,
                others=seen,
            )
        ]
        seen[name] = one.observed
    return wrong
