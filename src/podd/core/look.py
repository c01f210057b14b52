"""What can be seen in the state of a pod, for those who decide and those who tell."""

from __future__ import annotations

from collections.abc import Iterator

from podd.core import container, sandbox
from podd.core.restart import LOOK_AGAIN_S, SECOND, wants_restart
from podd.core.state import ContainerKind, Member, PodState
from podd.driver.contract import Exit
from podd.model import signals
from podd.model.pod import Container, Probe, RestartPolicy

SIGTERM = 15

# ---- of one container ------------------------------------------------------------------------------------------------


def spec_of(state: PodState, name: str) -> Container:
    """The manifest's part for one container of the pod, of whatever kind."""
    if name in state.ephemeral:
        return state.ephemeral[name].container
    spec = state.pod.spec
    return next(c for c in (*spec.init_containers, *spec.containers) if c.name == name)


def of_kind(state: PodState, *wanted: ContainerKind) -> list[str]:
    """Names, in the order of the manifest."""
    return [name for name, member in state.members.items() if member.kind in wanted]


def lasting(state: PodState) -> list[str]:
    """Those that are in every sandbox of the pod."""
    return [name for name in state.members if name not in state.ephemeral]


def name_of(state: PodState, id: str) -> str | None:
    """Whose instance it is; None: of nobody any more."""
    return next((n for n, m in state.members.items() if m.instance is not None and m.instance.id == id), None)


def policy_of(state: PodState, name: str) -> RestartPolicy:
    """An init container that has ended well has done what it is for; an ephemeral one is there once."""
    kind = state.members[name].kind
    own = spec_of(state, name).restart_policy or state.pod.spec.restart_policy
    if kind == "ephemeral":
        return "Never"
    if kind == "init":
        return "Never" if own == "Never" else "OnFailure"
    return own


def probes_of(state: PodState, name: str) -> dict[str, Probe]:
    """By the kind of probe; only those that it has."""
    spec = spec_of(state, name)
    every = {"startup": spec.startup_probe, "liveness": spec.liveness_probe, "readiness": spec.readiness_probe}
    return {kind: probe for kind, probe in every.items() if probe is not None}


def has_hook(state: PodState, name: str, hook: str) -> bool:
    lifecycle = spec_of(state, name).lifecycle
    return lifecycle is not None and (lifecycle.post_start if hook == "postStart" else lifecycle.pre_stop) is not None


def stop_signal(state: PodState, name: str) -> int:
    """What the manifest says, else what the image says."""
    lifecycle = spec_of(state, name).lifecycle
    if lifecycle and lifecycle.stop_signal:
        return signals.number(lifecycle.stop_signal)
    return state.members[name].stop_signal or SIGTERM


def is_done(state: PodState, name: str) -> bool:
    """It has ended and does not run again."""
    i = state.members[name].instance
    return isinstance(i, container.Exited) and not _again(state, name, i)


def is_done_well(state: PodState, name: str) -> bool:
    i = state.members[name].instance
    return is_done(state, name) and isinstance(i, container.Exited) and i.exit.code == 0


def _again(state: PodState, name: str, ended: container.Exited) -> bool:
    policy = policy_of(state, name)
    if ended.again and policy != "Never":
        return True
    return wants_restart(policy, ended.exit, spec_of(state, name).restart_policy_rules)


def comes_back(state: PodState, name: str) -> bool:
    return isinstance(state.members[name].instance, container.Exited) and not is_done(state, name)


def due_ns(member: Member) -> int:
    """When one that comes back may be begun again. In a new sandbox nothing waits for what was in the old one."""
    assert isinstance(member.instance, container.Exited)
    if member.begun and container.lacks_object(member.instance):
        return member.instance.exit.finished_at_ns + LOOK_AGAIN_S * SECOND
    return member.backoff.due_ns(member.instance.exit.finished_at_ns) if member.begun else 0


def is_due(state: PodState, name: str, now_ns: int) -> bool:
    """To be begun now, for the first time or again."""
    member = state.members[name]
    if member.instance is None:
        return True
    return comes_back(state, name) and now_ns >= due_ns(member)


def live(state: PodState) -> dict[str, container.Live]:
    return {n: m.instance for n, m in state.members.items() if isinstance(m.instance, container.Live)}


# ---- of the whole pod ------------------------------------------------------------------------------------------------


def is_initialized(state: PodState) -> bool:
    return state.released or all(state.members[name].passed for name in of_kind(state, "init", "sidecar"))


def at_work(state: PodState) -> list[str]:
    """Those that the policy brings forward now, each by itself: init containers up to the first that has not got where
    it is to get, sidecars that have; when the regular members have been let go, all but the init containers. What was
    added to look into the pod waits for nobody: an init container that fails is what one may want to look into.
    """
    if state.released:
        return of_kind(state, "sidecar", "regular", "ephemeral")
    found = of_kind(state, "ephemeral")
    for name in of_kind(state, "init", "sidecar"):
        member = state.members[name]
        if member.kind == "sidecar" or not member.passed:
            found.append(name)
        if not member.passed:
            break
    return found


def is_prepared(state: PodState) -> bool:
    """It waits for nothing but the end of the pod whose place it takes."""
    if state.replaces is None or not isinstance(state.sandbox, sandbox.Ready):
        return is_too_early(state) and state.images == "ready"
    first = of_kind(state, "init", "sidecar")[:1] or of_kind(state, "regular")
    return all(isinstance(state.members[name].instance, container.Created) for name in first)


def is_finished(state: PodState) -> bool:
    """It was meant to run and does so no more: it has come to its end, or there will be no further try to start."""
    if state.goal.want == "finish":
        return True
    if state.failed_start is not None and state.failed_start.retry_at_ns is None:
        return True
    return has_failed_init(state) or all(is_done(state, name) for name in of_kind(state, "regular"))


def has_failed_init(state: PodState) -> bool:
    return any(is_done(state, n) and not is_done_well(state, n) for n in of_kind(state, "init"))


def deadline_ns(state: PodState) -> int | None:
    """activeDeadlineSeconds, counted as by the kubelet: from when the pod was first set out to be started. While it is
    held for another to end, none of that is its own time.
    """
    seconds = state.pod.spec.active_deadline_seconds
    if seconds is None or state.started_at_ns is None or state.replaces is not None:
        return None
    return state.started_at_ns + seconds * SECOND


def is_too_early(state: PodState) -> bool:
    """Nothing of it is made before the pod whose place it takes is gone."""
    return state.is_late and state.replaces is not None


def begin_due(state: PodState) -> int:
    if state.failed_start is not None:
        return state.failed_start.retry_at_ns or 0
    if state.lost_at_ns is not None:
        return state.backoff.due_ns(state.lost_at_ns)
    return 0


def next_wake(state: PodState) -> int | None:
    """When to look again though nothing happened, in nanoseconds; None: not before something happens."""
    box = state.sandbox
    if isinstance(box, sandbox.Removing):
        return box.retry_at_ns
    if state.recovering:
        return None
    if state.goal.want != "run":
        return min(_ending_times(state), default=None)
    if is_finished(state):
        return None
    return min(_running_times(state), default=None)


def gives_back_volumes(state: PodState) -> bool:
    """Once it has ended: one that was evicted returns the disk that it took, as by a kubelet; others may run again."""
    return state.goal.want == "delete" or bool(state.evicted)


def _ending_times(state: PodState) -> Iterator[int]:
    if state.sandbox is None:
        if gives_back_volumes(state) and state.volumes in ("ready", "stale") and state.volumes_retry_at_ns:
            yield state.volumes_retry_at_ns
        return
    if state.goal.kill_at_ns is not None and state.freezer == "thawed":
        yield state.goal.kill_at_ns
        yield from _kill_times(state)


def _running_times(state: PodState) -> Iterator[int]:
    deadline = deadline_ns(state)
    if deadline is not None:
        yield deadline
    if isinstance(state.sandbox, sandbox.Ready) and state.ports == "refused" and state.replaces is None:
        yield state.ports_retry_at_ns
    if state.freezer != "thawed":
        return
    if state.sandbox is None and _begins_by_itself(state):
        yield begin_due(state)
    if isinstance(state.sandbox, sandbox.Ready):
        yield from (due_ns(state.members[name]) for name in at_work(state) if comes_back(state, name))
        yield from _kill_times(state)


def _begins_by_itself(state: PodState) -> bool:
    """It waits for nothing but its time."""
    if state.images == "pulling" or state.volumes in ("preparing", "removing"):
        return False
    return state.images == "absent" or not is_too_early(state)


def _kill_times(state: PodState) -> Iterator[int]:
    for instance in live(state).values():
        if isinstance(instance, container.Stopping) and not instance.killed and instance.kill_at_ns is not None:
            yield instance.kill_at_ns


def exit_of(state: PodState, name: str) -> Exit | None:
    """How its instance ended; None while it has not."""
    i = state.members[name].instance
    return i.exit if isinstance(i, container.Exited | container.Removing) else None
