"""A pod's state in Kubernetes' words: phase, conditions, reasons, container states.

Source: kubelet, getPhase and convertToAPIContainerStatuses; kubectl prints what it finds here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec.structs import replace

from podd.core import container, resources, sandbox
from podd.core.look import comes_back, is_done, is_finished
from podd.core.state import Condition, Member, PodState
from podd.driver.contract import Exit
from podd.model import status as k8s

CONDITIONS = ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")

Stamp = Callable[[int], str]


def phase(state: PodState) -> k8s.Phase:
    if state.failed_start is not None and state.failed_start.retry_at_ns is None:
        return "Failed"
    members = state.members.values()
    ended = [m.instance for m in members if isinstance(m.instance, container.Exited | container.Removing)]
    if len(ended) == len(members) and (state.goal.want != "run" or all(is_done(state, m) for m in members)):
        return "Succeeded" if all(i.exit.code == 0 for i in ended) else "Failed"
    if state.released or any(m.last is not None for m in members):
        return "Running" if state.failed_start is None else "Pending"
    return "Pending"


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
    running = all(isinstance(m.instance, container.Running) for m in state.members.values())
    ready = running and _can_be_ready(state) and state.goal.want == "run"
    has_sandbox = isinstance(state.sandbox, sandbox.Ready)
    return dict(zip(CONDITIONS, (True, has_sandbox, True, ready, ready), strict=True))


def _can_be_ready(state: PodState) -> bool:
    """What runs in a sandbox that is paused, or is lost and not yet removed, serves nobody."""
    return state.released and isinstance(state.sandbox, sandbox.Ready) and state.freezer == "thawed"


def status(state: PodState, stamp: Stamp) -> k8s.PodStatus:
    """stamp: nanoseconds since the epoch to RFC 3339."""
    why, message = reason(state)
    return k8s.PodStatus(
        phase=phase(state),
        conditions=tuple(
            k8s.PodCondition(
                type=name,
                status="True" if c.status else "False",
                last_transition_time=stamp(c.since_ns),
                reason="" if c.status or name not in ("Ready", "ContainersReady") else _why_not_ready(state),
            )
            for name, c in state.conditions.items()
        ),
        container_statuses=tuple(_container(state, name, member, stamp) for name, member in state.members.items()),
        start_time=None if state.started_at_ns is None else stamp(state.started_at_ns),
        reason=why,
        message=message,
        qos_class=resources.qos_class(state.pod.spec),
        pod_ip=state.sandbox.ips[0] if isinstance(state.sandbox, sandbox.Ready) and state.sandbox.ips else "",
        podd=_podd(state),
    )


def _why_not_ready(state: PodState) -> str:
    done = all(is_done(state, m) for m in state.members.values())
    return "PodCompleted" if done else "ContainersNotReady"


def reason(state: PodState) -> tuple[str, str]:
    """The reason and the message that stand beside the phase; "" where there is nothing to explain."""
    if state.goal.want == "delete":
        return "Terminating", ""
    if state.goal.want == "stop":
        return ("Stopped", "") if state.sandbox is None else ("Stopping", "")
    if state.goal.want == "restart":
        return "Restarting", ""
    if state.freezer == "frozen":
        return "Paused", ""
    failed = state.failed_start
    if failed is not None:
        remedy = f"; {failed.failure.remedy}" if failed.failure.remedy else ""
        return failed.reason, f"{failed.failure.message}{remedy}"
    return "", ""


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
    )


def _container(state: PodState, name: str, member: Member, stamp: Stamp) -> k8s.ContainerStatus:
    i = member.instance
    spec = next(c for c in state.pod.spec.containers if c.name == name)
    now = _state(state, name, member, stamp)
    last = k8s.ContainerState()
    if now.waiting is not None and isinstance(i, container.Exited | container.Removing) and container.was_made(i):
        last = _terminated(i.id, i.exit, stamp)
    elif member.last is not None:
        last = _terminated(member.last.id, member.last.exit, stamp)
    running = isinstance(i, container.Running)
    return k8s.ContainerStatus(
        name=name,
        state=now,
        last_state=last,
        ready=running and _can_be_ready(state),
        started=running,
        restart_count=member.restarts,
        image=spec.image,
        image_id=getattr(i, "image_id", ""),
        container_id=f"{state.driver}://{i.id}" if i else "",
        pid=i.pid if isinstance(i, container.Live) else None,
    )


def _state(state: PodState, name: str, member: Member, stamp: Stamp) -> k8s.ContainerState:
    i = member.instance
    if isinstance(i, container.Live):
        return k8s.ContainerState(running=k8s.ContainerStateRunning(started_at=stamp(i.started_at_ns)))
    if isinstance(i, container.Exited | container.Removing):
        if state.goal.want == "run" and not is_finished(state) and (i.exit and _restarts(state, member)):
            reason, message = _waiting_again(state, name, i.exit)
            return k8s.ContainerState(waiting=k8s.ContainerStateWaiting(reason=reason, message=message))
        return _terminated(i.id, i.exit, stamp)
    failed = state.failed_start
    if failed is not None and failed.culprit == name:
        message = f"{failed.failure.message}; {failed.failure.remedy}".rstrip("; ")
        return k8s.ContainerState(waiting=k8s.ContainerStateWaiting(reason=failed.reason, message=message))
    return k8s.ContainerState(waiting=k8s.ContainerStateWaiting(reason="ContainerCreating"))


def _restarts(state: PodState, member: Member) -> bool:
    return isinstance(member.instance, container.Removing) or comes_back(state, member)


def _waiting_again(state: PodState, name: str, exit: Exit) -> tuple[str, str]:
    """Why a container that ended is not running yet: what could not be made says so, what ran is crash looping."""
    if exit.reason in (container.NEVER_MADE, "RunContainerError", "VerifyError"):
        return exit.reason, exit.message
    meta, delay_s = state.pod.metadata, state.members[name].backoff.delay_s
    return (
        "CrashLoopBackOff",
        f"back-off {delay_s}s restarting failed container={name} pod={meta.name}_{meta.namespace}({state.uid})",
    )


def _terminated(id: str, exit: Exit, stamp: Stamp) -> k8s.ContainerState:
    reason = exit.reason or ("OOMKilled" if exit.oom_killed else "Completed" if exit.code == 0 else "Error")
    return k8s.ContainerState(
        terminated=k8s.ContainerStateTerminated(
            exit_code=exit.code,
            reason=reason,
            signal=exit.signal,
            message=exit.message,
            started_at=None if exit.started_at_ns is None else stamp(exit.started_at_ns),
            finished_at=stamp(exit.finished_at_ns),
            container_id=id,
        )
    )
