"""Taking in what happened. Nothing is decided here; what is no longer there, or already known, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from podd.core import container, health, lacking, reconcile, sandbox
from podd.core import events as ev
from podd.core.change import Steps, updated, warn, with_instance
from podd.core.look import comes_back, is_due, name_of, of_kind, spec_of
from podd.core.restart import FIRST_DELAY_S, LOOK_AGAIN_S, MAX_DELAY_S, SECOND
from podd.core.state import FailedStart, PodState
from podd.driver.contract import ContainerStarted, Exit
from podd.errors import Kind
from podd.model.ids import ContainerId

SIGKILL = 9
RETRY_S = 5  # between tries to remove what would not go; doubled up to MAX_DELAY_S


def absorb(state: PodState, report: ev.Event, now_ns: int) -> Steps:
    match report:
        case ev.Resumed():
            state = replace(reconcile.with_possible_times(state, now_ns), queued=())
            return replace(state, recovering=isinstance(state.sandbox, sandbox.Ready)), reconcile.resume(state)
        case ev.ObjectChanged():
            return lacking.look_now(state, now_ns), []
        case ev.ImagesQueued() | ev.ImagesPulled() if state.images == "pulling":
            return _absorb_images(state, report, now_ns)
        case ev.VolumesPrepared() | ev.VolumesRemoved():
            return _absorb_volumes(state, report, now_ns)
        case ev.SandboxMade() | ev.SandboxFailed() | ev.SandboxRecovered() | ev.SandboxLost() | ev.SandboxDestroyed():
            return _absorb_sandbox(state, report, now_ns)
        case ev.ContainersReleased(ids=ids, started=started, failure=failure):
            return _absorb_release(state, ids, started, failure, now_ns)
        case ev.ContainerMade() | ev.ContainerFailed() | ev.ContainerExited() | ev.ContainerDestroyed():
            return _absorb_container(state, report, now_ns)
        case ev.Probed() | ev.HookDone():
            return health.absorb(state, report, now_ns)
        case ev.Resized() | ev.Published():
            return _absorb_changed(state, report, now_ns)
        case ev.PredecessorGone() if state.replaces is not None:
            return replace(state, replaces=None, started_at_ns=state.started_at_ns and now_ns), []
        case ev.Frozen() | ev.DiskExceeded() if isinstance(state.sandbox, sandbox.Ready):
            return _absorb_while_ready(state, state.sandbox, report, now_ns)
        case _:
            return state, []


def _absorb_while_ready(state: PodState, box: sandbox.Ready, report: ev.Report, now_ns: int) -> Steps:
    match report:
        case ev.DiskExceeded(id=id, message=message) if id == box.id:
            return replace(state, evicted=message), []
        case ev.Frozen():
            return _absorb_frozen(state, report, now_ns)
        case _:
            return state, []


def _absorb_images(state: PodState, report: ev.ImagesQueued | ev.ImagesPulled, now_ns: int) -> Steps:
    if isinstance(report, ev.ImagesQueued):
        return replace(state, queued=tuple(report.images)), []
    state = replace(state, queued=())
    if report.failure is None:
        return replace(state, images="ready", image_ids=dict(report.ids)), []
    return _start_failed(state, report.culprit, report.reason, report.failure, now_ns)


def _absorb_volumes(state: PodState, report: ev.Report, now_ns: int) -> Steps:
    match report:
        case ev.VolumesPrepared(failure=None):
            return replace(state, volumes="ready"), []
        case ev.VolumesPrepared(failure=ev.Failure() as failure):
            return _start_failed(replace(state, volumes="stale"), "", lacking.NO_VOLUMES, failure, now_ns)
        case ev.VolumesRemoved(failure=failure):
            if failure is None:
                return replace(state, volumes="absent"), []
            kept = replace(state, volumes="stale", volumes_retry_at_ns=now_ns + RETRY_S * SECOND)
            return kept, warn("FailedUnmount", failure)
        case _:
            raise AssertionError(report)


def _absorb_sandbox(state: PodState, report: ev.Report, now_ns: int) -> Steps:
    box = state.sandbox
    if box is None or box.id != getattr(report, "id", None):
        return state, []
    match report:
        case ev.SandboxMade(id=id, created=created, host_ips=host_ips) if isinstance(box, sandbox.Creating):
            return replace(state, sandbox=sandbox.made(box, created, host_ips)), [ev.WatchSandbox(id=id)]
        case ev.SandboxRecovered(status=status) if isinstance(box, sandbox.Ready):
            if _ended_in_start(state):
                half = sandbox.lost(box, "podd was restarted while the members were being let go")
                return replace(state, recovering=False, sandbox=half, lost_at_ns=now_ns), []
            return replace(state, recovering=False), reconcile.resume_members(state, now_ns, frozen=status.paused)
        case ev.SandboxFailed(failure=failure) if isinstance(box, sandbox.Creating):
            return _start_failed(state, "", "FailedCreatePodSandBox", failure, now_ns)
        case ev.SandboxLost(reason=reason) if isinstance(box, sandbox.Creating | sandbox.Ready):
            taken = replace(
                state, sandbox=sandbox.lost(box, reason), lost_at_ns=now_ns, freezer="thawed", recovering=False
            )
            return taken, [ev.Tell(type="Warning", reason="SandboxLost", message=reason)]
        case ev.SandboxDestroyed(failure=None):
            return _without_sandbox(state, now_ns), []
        case ev.SandboxDestroyed(failure=failure) if isinstance(box, sandbox.Removing):
            delay = min(RETRY_S * 2**box.tries, MAX_DELAY_S)
            kept = sandbox.not_removed(box, now_ns + delay * SECOND)
            return replace(state, sandbox=kept), warn("FailedKillPod", failure)
        case _:
            return state, []


def _absorb_frozen(state: PodState, report: ev.Frozen, now_ns: int) -> Steps:
    """What failed left all as it was. A pod that is to end and cannot be thawed hears no signal: its sandbox goes."""
    frozen = report.frozen == (report.failure is None)
    told = warn("FailedPause" if report.frozen else "FailedResume", report.failure)
    if frozen and state.goal.want != "run" and report.failure is not None:
        assert state.sandbox is not None
        lost = sandbox.lost(state.sandbox, report.failure.message)
        return replace(state, sandbox=lost, lost_at_ns=now_ns), told
    return replace(state, freezer="frozen" if frozen else "thawed"), told


def _absorb_changed(state: PodState, report: ev.Resized | ev.Published, now_ns: int) -> Steps:
    """What was to change of a pod that runs."""
    if isinstance(report, ev.Resized):
        return _absorb_resized(state, report)
    return _absorb_published(state, report, now_ns)


def _absorb_resized(state: PodState, report: ev.Resized) -> Steps:
    if report.failure is None:
        done = ev.Tell(reason="ResizeCompleted", message="its limits are those of its manifest")
        return replace(state, resized=max(state.resized, report.generation)), [done]
    if report.generation < state.generation:
        return state, []  # another change is under way
    return replace(state, not_resized=report.failure), warn("ResizeError", report.failure)


def _absorb_published(state: PodState, report: ev.Published, now_ns: int) -> Steps:
    """What is refused may be had later: whoever has the port, a program or another pod, may let go of it."""
    if state.ports != "changing" or state.sandbox is None or state.sandbox.id != report.id:
        return state, []
    if report.failure is not None:
        delay_s = min(FIRST_DELAY_S * 2**state.ports_tries, MAX_DELAY_S)
        refused = replace(
            state,
            ports="refused",
            not_published=report.failure,
            ports_tries=state.ports_tries + 1,
            ports_retry_at_ns=now_ns + delay_s * SECOND,
        )
        return refused, warn("PublishError", report.failure)
    done = ev.Tell(reason="PublishCompleted", message="ports of the host lead to it as its manifest says")
    return replace(state, ports="led", not_published=None, ports_tries=0), [done]


def _ended_in_start(state: PodState) -> bool:
    """Some member has ended before it was known that all had been let go: the answer that would tell is lost."""
    instances = [state.members[name].instance for name in of_kind(state, "regular")]
    return not state.released and any(isinstance(i, container.Exited) and i.handle is not None for i in instances)


def _without_sandbox(state: PodState, now_ns: int) -> PodState:
    """The sandbox is gone, and so is whatever ran in it: members that never ran are forgotten, others have ended."""
    members = {}
    for name, member in state.members.items():
        match member.instance:
            case container.Exited() as ended:
                kept: container.Instance | None = replace(ended, handle=None)
            case container.Removing() as gone:
                kept = _removed(gone)
            case container.Running() | container.Stopping() as live:
                killed = Exit(
                    code=128 + SIGKILL, signal=SIGKILL, finished_at_ns=now_ns, started_at_ns=live.started_at_ns
                )
                kept = replace(container.exited(live, killed), handle=None)
            case _:
                kept = None
        passed = member.passed and state.goal.want != "run"  # what has come to rest has been initialized
        members[name] = replace(member, instance=kept, begun=0, passed=passed)
    stale = "stale" if state.volumes == "ready" else state.volumes
    return replace(
        state, sandbox=None, members=members, released=False, freezer="thawed", volumes=stale, images="absent"
    )


def _absorb_container(state: PodState, report: ev.Report, now_ns: int) -> Steps:
    name = name_of(state, getattr(report, "id", ""))
    if name is None:
        return state, []
    member = state.members[name]
    instance = member.instance
    assert instance is not None
    match report:
        case ev.ContainerMade(id=id, created=created):
            held = container.made(instance, created.handle, created.observed, created.image_id)
            after = updated(with_instance(state, name, instance=held), name, stop_signal=created.stop_signal)
            return after, [ev.WatchContainer(id=id)]
        case ev.ContainerFailed(failure=failure, reason=reason) if _is_start(state, name):
            return _start_failed(state, name, reason, failure, now_ns)
        case ev.ContainerFailed(failure=failure, reason=reason):
            ended = container.failed(instance, failure, reason, now_ns)
            return with_instance(state, name, instance=ended), warn("Failed", failure, name)
        case ev.ContainerExited(exit=exit) if isinstance(instance, container.Created) and _is_start(state, name):
            failure = ev.Failure(
                kind=Kind.INTERNAL, message=f"{name}: ended while it was held: {exit.message or exit.code}"
            )
            return _start_failed(state, name, container.NEVER_MADE, failure, now_ns)
        case ev.ContainerExited(exit=exit):
            known = replace(exit, finished_at_ns=_possible_end_ns(instance, exit, now_ns))
            after = with_instance(state, name, instance=container.exited(instance, known))
            if state.members[name].kind == "init" and known.code == 0:
                after = updated(after, name, passed=True)
            return after, _backing_off(after, name, now_ns)
        case ev.ContainerDestroyed(failure=None) if isinstance(instance, container.Removing):
            return with_instance(state, name, instance=_removed(instance)), []
        case ev.ContainerDestroyed(failure=failure) if isinstance(instance, container.Removing):
            # Its sandbox can always be destroyed as a whole; a single container that will not go is treated so.
            lost = f"{name}: could not be removed: {failure.message if failure else ''}"
            taken = replace(state, sandbox=state.sandbox and sandbox.lost(state.sandbox, lost), lost_at_ns=now_ns)
            return taken, [ev.Tell(type="Warning", reason="SandboxLost", message=lost, container=name)]
        case _:
            return state, []


def _possible_end_ns(instance: container.Instance, exit: Exit, now_ns: int) -> int:
    """The host's clock may have been set since podd read it, and the next start is counted from this end: one in the
    future would hold it up, one before the beginning would not hold it up at all. Such an end is taken to be now.
    """
    began_ns = instance.started_at_ns if isinstance(instance, container.Live) else 1
    return exit.finished_at_ns if began_ns <= exit.finished_at_ns <= now_ns else now_ns


def _is_start(state: PodState, name: str) -> bool:
    """It is a part of the start of the whole pod, which it takes down with it: its first instance in this sandbox."""
    return not state.released and state.members[name].begun <= 1 and name not in state.ephemeral


def _backing_off(state: PodState, name: str, now_ns: int) -> list[ev.Action]:
    """Say so where a container that has ended must wait before it runs again."""
    if state.goal.want != "run" or not comes_back(state, name) or is_due(state, name, now_ns):
        return []
    meta = state.pod.metadata
    message = f"Back-off restarting failed container {name} in pod {meta.name}_{meta.namespace}({state.uid})"
    return [ev.Tell(type="Warning", reason="BackOff", message=message, container=name)]


def _removed(instance: container.Removing) -> container.Instance:
    return container.Exited(
        id=instance.id,
        attempt=instance.attempt,
        exit=instance.exit,
        image_id=instance.image_id,
        again=instance.again,
    )


def _absorb_release(
    state: PodState,
    ids: Sequence[ContainerId],
    started: Sequence[ContainerStarted],
    failure: ev.Failure | None,
    now_ns: int,
) -> Steps:
    names = [name for id in ids if (name := name_of(state, id)) is not None]
    if failure is not None:
        return _not_released(state, names, failure, now_ns)
    told: list[ev.Action] = []
    together = not state.released and any(state.members[name].kind == "regular" for name in names)
    for one in started:
        name = name_of(state, one.id)
        if name is None:
            continue
        if one.error:
            failure = ev.Failure(kind=Kind.INVALID, message=f"{name}: {one.error}")
            if _is_start(state, name):
                return _start_failed(state, name, "StartError", failure, now_ns)
            state, more = _failed(state, name, failure, "StartError", now_ns)
        else:
            state, more = health.released(state, name, one)
        told += more
    if together and started and isinstance(state.sandbox, sandbox.Ready):
        state = _all_released(state, started, now_ns)
    return state, told


def _not_released(state: PodState, names: list[str], failure: ev.Failure, now_ns: int) -> Steps:
    if any(_is_start(state, name) for name in names):
        return _start_failed(state, "", "RunContainerError", failure, now_ns)
    for name in names:
        if isinstance(state.members[name].instance, container.Starting):
            state, _ = _failed(state, name, failure, "RunContainerError", now_ns)
    return state, warn("Failed", failure)


def _failed(state: PodState, name: str, failure: ev.Failure, reason: str, now_ns: int) -> Steps:
    instance = state.members[name].instance
    assert instance is not None
    failed = container.failed(instance, failure, reason, now_ns)
    return with_instance(state, name, instance=failed), warn("Failed", failure, name)


def _all_released(state: PodState, started: Sequence[ContainerStarted], now_ns: int) -> PodState:
    stamps = [one.released_ns for one in started]
    began = state.start_began_ns
    return replace(
        state,
        released=True,
        failed_start=None,
        start_skew_us=(max(stamps) - min(stamps)) // 1000,
        start_took_us=None if began is None else max(0, now_ns - began) // 1000,
    )


def _start_failed(state: PodState, culprit: str, reason: str, failure: ev.Failure, now_ns: int) -> Steps:
    """A start of the whole pod could not be, so nothing of it may stay: its sandbox counts as not ready.

    Whether there is another try is the restart policy's, but where nothing lacks but an image, a ConfigMap or a Secret:
    as for the kubelet, that may come at any time. The time until then grows as a crashing container's does; looking
    into podd's own memory costs nothing, and goes on steadily.
    """
    if isinstance(state.sandbox, sandbox.NotReady | sandbox.Removing):
        return state, []  # it has failed already, and this is only what follows from that
    tries = state.failed_start.tries + 1 if state.failed_start else 1
    lacks_object, lacks_image = lacking.is_lack(reason, failure.kind), reason in ev.IMAGE_REASONS
    delay_s = LOOK_AGAIN_S if lacks_object else min(FIRST_DELAY_S * 2 ** (tries - 1), MAX_DELAY_S)
    no_more = state.pod.spec.restart_policy == "Never" and not lacks_image and not lacks_object
    again = None if no_more else now_ns + delay_s * SECOND
    failed = FailedStart(failure=failure, reason=reason, culprit=culprit, tries=tries, retry_at_ns=again)
    box = state.sandbox and sandbox.lost(state.sandbox, failure.message)
    told = warn(_EVENTS.get(reason, "Failed" if culprit else reason), failure, culprit)
    if reason == "ErrImagePull":
        backing_off = f'Back-off pulling image "{spec_of(state, culprit).image}"'
        told.append(ev.Tell(reason="BackOff", message=backing_off, container=culprit))
    return replace(state, failed_start=failed, sandbox=box, recovering=False, images="absent"), told


_EVENTS = {"ErrImageNeverPull": "ErrImageNeverPull", "InvalidImageName": "InspectFailed"}
"""Under which reason the kubelet tells of a failure that a container's state has by another."""
