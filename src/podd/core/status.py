"""A pod's state in Kubernetes' words: phase, conditions, reasons, container states.

Source: kubelet, getPhase and convertToAPIContainerStatuses; kubectl prints what it finds here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from msgspec.structs import replace

from podd.core import container, decide, order, resources, sandbox
from podd.core.events import IMAGE_REASONS
from podd.core.look import (
    comes_back,
    exit_of,
    is_done,
    is_done_well,
    is_finished,
    is_initialized,
    live,
    of_kind,
    spec_of,
)
from podd.core.state import Condition, FailedStart, Member, PodState
from podd.driver.contract import Exit
from podd.model import status as k8s
from podd.model.pod import ResourceRequirements

CONDITIONS = ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")

Stamp = Callable[[int], str]


def phase(state: PodState) -> k8s.Phase:
    if state.failed_start is not None and state.failed_start.retry_at_ns is None:
        return "Failed"
    members = of_kind(state, "regular")
    ended = {name: exit for name in members if (exit := exit_of(state, name)) is not None}
    if not live(state) and _is_over(state, members, ended):
        return _outcome(state, ended)
    if state.goal.want == "finish":
        return "Running"
    if state.released or any(state.members[name].last is not None for name in members):
        return "Running" if state.failed_start is None else "Pending"
    return "Pending"


def _is_over(state: PodState, members: list[str], ended: Mapping[str, Exit]) -> bool:
    if state.goal.want == "finish":
        return True
    return len(ended) == len(members) and (state.goal.want != "run" or all(is_done(state, name) for name in members))


def _outcome(state: PodState, ended: Mapping[str, Exit]) -> k8s.Phase:
    """Of a pod of which nothing runs any more."""
    keystone = order.keystone(state)
    if state.goal.reason == decide.KEYSTONE_ENDED and keystone is not None and keystone in ended:
        return "Succeeded" if ended[keystone].code == 0 else "Failed"
    whole = not state.goal.reason and len(ended) == len(of_kind(state, "regular"))
    return "Succeeded" if whole and all(exit.code == 0 for exit in ended.values()) else "Failed"


def with_conditions(state: PodState, now_ns: int) -> PodState:
    """The conditions as they are now; each keeps the time at which it last changed."""
    facts = _facts(state)
    old = state.conditions
    new = {
        name: old[name] if name in old and old[name].status == is_so else Condition(status=is_so, since_ns=now_ns)
        for name, is_so in facts.items()
    }
    return state if new == old else replace(state, conditions=new)


def _facts(state: PodState) -> dict[str, bool]:
    ready = not _unready(state) and _can_be_ready(state) and state.goal.want == "run"
    has_sandbox = isinstance(state.sandbox, sandbox.Ready)
    return dict(zip(CONDITIONS, (True, has_sandbox, is_initialized(state), ready, ready), strict=True))


def _unready(state: PodState) -> list[str]:
    """Those without which the pod is not ready: its members, and the sidecars that serve them."""
    wanted = of_kind(state, "sidecar", "regular")
    return [name for name in wanted if not container.is_ready(state.members[name].instance)]


def _can_be_ready(state: PodState) -> bool:
    """What runs in a sandbox that is paused, or is lost and not yet removed, serves nobody."""
    return isinstance(state.sandbox, sandbox.Ready) and state.freezer == "thawed"


def status(state: PodState, stamp: Stamp) -> k8s.PodStatus:
    """stamp: nanoseconds since the epoch to RFC 3339."""
    why, message = reason(state)
    shown = {name: _container(state, name, member, stamp) for name, member in state.members.items()}
    host_ips, pod_ips = _addresses(state)
    return k8s.PodStatus(
        phase=phase(state),
        conditions=(*(_condition(state, name, stamp) for name in state.conditions), *_changing(state, stamp)),
        init_container_statuses=tuple(shown[name] for name in of_kind(state, "init", "sidecar")),
        container_statuses=tuple(shown[name] for name in of_kind(state, "regular")),
        ephemeral_container_statuses=tuple(shown[name] for name in state.ephemeral),
        start_time=None if state.started_at_ns is None else stamp(state.started_at_ns),
        reason=why,
        message=message,
        qos_class=resources.qos_class(state.pod.spec),
        host_ip=host_ips[0] if host_ips else "",
        host_ips=tuple(k8s.IP(ip=ip) for ip in host_ips),
        pod_ip=pod_ips[0] if pod_ips else "",
        pod_ips=tuple(k8s.IP(ip=ip) for ip in pod_ips),
        observed_generation=state.generation,
        podd=_podd(state),
    )


def _addresses(state: PodState) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of the host, and of the pod."""
    box = state.sandbox
    if not isinstance(box, sandbox.Ready):
        return (), ()
    return box.host_ips, box.host_ips if state.pod.spec.host_network else box.ips


def _condition(state: PodState, name: str, stamp: Stamp) -> k8s.PodCondition:
    condition = state.conditions[name]
    why, message = ("", "") if condition.status else _why_not(state, name)
    return k8s.PodCondition(
        type=name,
        status="True" if condition.status else "False",
        last_transition_time=stamp(condition.since_ns),
        reason=why,
        message=message,
    )


def _why_not(state: PodState, name: str) -> tuple[str, str]:
    if name == "Initialized":
        waiting = [n for n in of_kind(state, "init", "sidecar") if not state.members[n].passed]
        return "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(waiting)}]"
    if name not in ("Ready", "ContainersReady"):
        return "", ""
    if all(is_done(state, member) for member in of_kind(state, "regular")):
        return "PodCompleted", ""
    unready = _unready(state)
    return "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]" if unready else ""


def _changing(state: PodState, stamp: Stamp) -> Iterator[k8s.PodCondition]:
    """While what runs is not yet as its manifest says: its limits, and the ports of the host that lead to it."""
    since = stamp(max((c.since_ns for c in state.conditions.values()), default=0))
    differs = {
        "Resize": (state.resized < state.generation, state.not_resized),
        "Publish": (state.ports != "led", state.not_published),
    }
    for what, (is_so, failure) in differs.items():
        if is_so:
            yield k8s.PodCondition(
                type=f"Pod{what}Pending" if failure else f"Pod{what}InProgress",
                status="True",
                last_transition_time=since,
                reason="Infeasible" if failure else "",
                message=str(failure) if failure else "",
            )


def reason(state: PodState) -> tuple[str, str]:
    """The reason and the message that stand beside the phase; "" where there is nothing to explain."""
    if state.goal.want == "delete":
        return "Terminating", ""
    if state.goal.want == "stop":
        return ("Stopped", "") if state.sandbox is None else ("Stopping", "")
    if state.goal.want == "restart":
        return "Restarting", ""
    if state.goal.want == "finish" and state.goal.reason:
        return state.goal.reason, decide.OVER.get(state.goal.reason, state.evicted)
    if state.freezer == "frozen":
        return "Paused", ""
    if state.replaces is not None:
        return "WaitingForPredecessor", f"takes the place of pod {state.replaces} when that is gone"
    return _failed_start(state) if state.failed_start is not None else ("", "")


def _failed_start(state: PodState) -> tuple[str, str]:
    """While it waits for the next pull it backs off; while that is under way, it is what the last one came to."""
    failed = state.failed_start
    assert failed is not None
    remedy = f"; {failed.failure.remedy}" if failed.failure.remedy else ""
    message = f"{failed.failure.message}{remedy}"
    if failed.reason != "ErrImagePull" or state.images == "pulling":
        return failed.reason, message
    return _image_back_off(spec_of(state, failed.culprit).image, message)


def _image_back_off(image: str, why: str) -> tuple[str, str]:
    return "ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {why}'


def _podd(state: PodState) -> k8s.PoddStatus:
    box = state.sandbox
    wanted: dict[str, Literal["Running", "Stopped", "Deleted"]] = {"stop": "Stopped", "delete": "Deleted"}
    return k8s.PoddStatus(
        driver=state.driver,
        sandbox_id=box.id if box else "",
        sandbox_state=type(box).__name__ if box else "",
        cgroup=box.cgroup if isinstance(box, sandbox.Ready) else "",
        wanted=wanted.get(state.goal.want, "Running"),
        paused=state.freezer == "frozen",
        start_skew_us=state.start_skew_us,
        start_took_us=state.start_took_us,
        restarts=max(0, state.sandboxes - 1),
        source=state.source,
    )


def _container(state: PodState, name: str, member: Member, stamp: Stamp) -> k8s.ContainerStatus:
    i = member.instance
    now = _state(state, name, member, stamp)
    last = k8s.ContainerState()
    if now.waiting is not None and isinstance(i, container.Exited | container.Removing) and container.was_made(i):
        last = _terminated(state, i.id, i.exit, stamp)
    elif member.last is not None:
        last = _terminated(state, member.last.id, member.last.exit, stamp)
    in_force = _in_force(state, name)
    return k8s.ContainerStatus(
        name=name,
        state=now,
        last_state=last,
        ready=_is_ready(state, name),
        started=container.is_started(i),
        restart_count=member.restarts,
        image=spec_of(state, name).image,
        image_id=getattr(i, "image_id", ""),
        container_id=f"{state.driver}://{i.id}" if i else "",
        pid=i.pid if isinstance(i, container.Live) else None,
        resources=in_force,
        allocated_resources=in_force.requests if in_force else {},
    )


def _in_force(state: PodState, name: str) -> ResourceRequirements | None:
    """Of what does not run, and while limits are being changed, nothing can be said. A limit is the request, too."""
    if state.resized < state.generation or not isinstance(state.members[name].instance, container.Live):
        return None
    asked = spec_of(state, name).resources
    return replace(asked, requests={**asked.limits, **asked.requests})


def _is_ready(state: PodState, name: str) -> bool:
    """An init container that has done its work counts as ready, as for the kubelet."""
    if state.members[name].kind == "init":
        return is_done_well(state, name)
    return container.is_ready(state.members[name].instance) and _can_be_ready(state)


def _state(state: PodState, name: str, member: Member, stamp: Stamp) -> k8s.ContainerState:
    i = member.instance
    if isinstance(i, container.Live):
        return k8s.ContainerState(running=k8s.ContainerStateRunning(started_at=stamp(i.started_at_ns)))
    if isinstance(i, container.Exited | container.Removing):
        if state.goal.want == "run" and not is_finished(state) and _restarts(state, name):
            return _waits(*_waiting_again(state, name, i.exit))
        return _terminated(state, i.id, i.exit, stamp)
    if state.images == "pulling" and spec_of(state, name).image in state.queued:
        return _waits("ContainerCreating", "its image is pulled when others have been: see images.max_parallel_pulls")
    failed = state.failed_start
    if failed is not None and _is_to_blame(state, failed, name):
        return _waits(*_failed_start(state))
    if not is_initialized(state) and state.members[name].kind != "ephemeral":
        return _waits("PodInitializing")
    holding = order.waits_for(state, name) if isinstance(i, container.Created) else []
    return _waits("WaitingForDependency", ", ".join(holding)) if holding else _waits("ContainerCreating")


def _is_to_blame(state: PodState, failed: FailedStart, name: str) -> bool:
    """Those that want the same image lack it, too."""
    if failed.reason in IMAGE_REASONS:
        return spec_of(state, failed.culprit).image == spec_of(state, name).image
    return failed.culprit == name


def _waits(reason: str, message: str = "") -> k8s.ContainerState:
    return k8s.ContainerState(waiting=k8s.ContainerStateWaiting(reason=reason, message=message))


def _restarts(state: PodState, name: str) -> bool:
    return isinstance(state.members[name].instance, container.Removing) or comes_back(state, name)


def _waiting_again(state: PodState, name: str, exit: Exit) -> tuple[str, str]:
    """Why a container that ended is not running yet: what could not be made says so, what ran is crash looping."""
    if exit.reason == "ErrImagePull":
        return _image_back_off(spec_of(state, name).image, exit.message)
    if exit.reason in (
        container.NEVER_MADE,
        container.CONFIG_ERROR,
        "RunContainerError",
        "VerifyError",
        *IMAGE_REASONS,
    ):
        return exit.reason, exit.message
    meta, delay_s = state.pod.metadata, state.members[name].backoff.delay_s
    return (
        "CrashLoopBackOff",
        f"back-off {delay_s}s restarting failed container={name} pod={meta.name}_{meta.namespace}({state.uid})",
    )


def _terminated(state: PodState, id: str, exit: Exit, stamp: Stamp) -> k8s.ContainerState:
    reason = exit.reason or ("OOMKilled" if exit.oom_killed else "Completed" if exit.code == 0 else "Error")
    return k8s.ContainerState(
        terminated=k8s.ContainerStateTerminated(
            exit_code=exit.code,
            reason=reason,
            signal=exit.signal,
            message=exit.message,
            started_at=None if exit.started_at_ns is None else stamp(exit.started_at_ns),
            finished_at=stamp(exit.finished_at_ns),
            container_id=f"{state.driver}://{id}",
        )
    )
