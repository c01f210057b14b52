"""What one line says about a pod: the words of `kubectl get pods`, computed from the pod's JSON.

Source: printPod in k8s.io/kubernetes/pkg/printers/internalversion/printers.go, whose order of precedence is kept but
for one thing: a pod's own reason comes first. In podd it is there only where it says more than its containers' do: an
order under way (Terminating, Stopped, Paused, ...), or why the pod as a whole did not start.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podd.cli import durations

Json = dict[str, Any]
"""A JSON object as the daemon sent it: a Pod, or a part of one."""


def container_statuses(pod: Json) -> Sequence[Json]:
    statuses: Sequence[Json] = pod.get("status", {}).get("containerStatuses", ())
    return statuses


def all_statuses(pod: Json) -> list[Json]:
    """Of every container, those that come before the others and those that were added included."""
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    return [status for kind in kinds for status in pod.get("status", {}).get(kind, ())]


def container_names(pod: Json) -> list[str]:
    """Of all of them, in the order in which they come to run."""
    spec, added = pod["spec"], pod.get("status", {}).get("ephemeralContainerStatuses", ())
    return [each["name"] for each in (*spec.get("initContainers", ()), *spec["containers"], *added)]


def podd_status(pod: Json) -> Json:
    """The part of the status that Kubernetes has no field for; empty before the daemon has one."""
    ours: Json = pod.get("status", {}).get("podd") or {}
    return ours


def addresses(pod: Json) -> Sequence[str]:
    """Of the pod, the main one first."""
    return [each["ip"] for each in pod.get("status", {}).get("podIPs", ())]


def is_running(container: Json) -> bool:
    return bool(container.get("state", {}).get("running"))


def ready(pod: Json) -> str:
    """Of the members, and of the sidecars that serve them."""
    sidecars = _sidecars(pod)
    beside = [c for c in _init_statuses(pod) if c["name"] in sidecars]
    members = container_statuses(pod)
    count = sum(1 for c in (*beside, *members) if c.get("ready") and is_running(c))
    return f"{count}/{len(sidecars) + (len(pod.get('spec', {}).get('containers', ())) or len(members))}"


def restarts(pod: Json, now: datetime) -> str:
    """The sum over the containers, and when the last one was: "3 (2m ago)". Of init containers while they run."""
    sidecars = _sidecars(pod)
    beside = [c for c in _init_statuses(pod) if c["name"] in sidecars or _initializing(pod)]
    counted = (*beside, *container_statuses(pod))
    count = sum(c.get("restartCount", 0) for c in counted)
    ends = [c.get("lastState", {}).get("terminated") or {} for c in counted]
    times = [then for end in ends if (then := durations.parse_time(end.get("finishedAt") or ""))]
    if not count or not times:
        return str(count)
    return f"{count} ({durations.short((now - max(times)).total_seconds())} ago)"


def _init_statuses(pod: Json) -> Sequence[Json]:
    statuses: Sequence[Json] = pod.get("status", {}).get("initContainerStatuses", ())
    return statuses


def _sidecars(pod: Json) -> set[str]:
    init = pod.get("spec", {}).get("initContainers", ())
    return {container["name"] for container in init if container.get("restartPolicy") == "Always"}


def _initializing(pod: Json) -> str:
    """What the first init container that is not done says: "Init:0/2", "Init:Error"; "" when all are."""
    sidecars, statuses = _sidecars(pod), _init_statuses(pod)
    for number, container in enumerate(statuses):
        is_sidecar = container["name"] in sidecars
        ended = container.get("state", {}).get("terminated")
        if (ended and not ended.get("exitCode")) or (is_sidecar and container.get("started")):
            continue
        reason = _container_reason(container)
        if reason and reason not in ("PodInitializing", "ContainerCreating"):
            return f"Init:{reason}"
        return f"Init:{number}/{len(statuses)}"
    return ""


def status(pod: Json) -> str:
    """The STATUS column: the pod's own reason (an order, a start that failed), else its containers', else its phase.

    A pod of which some containers are completed and others run is Running if it is ready, and NotReady if not.
    """
    pod_status = pod.get("status", {})
    if pod_status.get("reason"):
        return str(pod_status["reason"])
    reason: str = pod_status.get("phase") or "Unknown"
    if reason in ("Pending", "Failed") and (initializing := _initializing(pod)):
        return initializing
    for container in reversed(container_statuses(pod)):
        reason = _container_reason(container) or reason
    if reason == "Completed" and any(map(is_running, container_statuses(pod))):
        conditions = pod_status.get("conditions", ())
        is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        return "Running" if is_ready else "NotReady"
    return reason


def _container_reason(container: Json) -> str:
    state = container.get("state", {})
    if waiting := state.get("waiting"):
        return str(waiting.get("reason", ""))
    if ended := state.get("terminated"):
        if ended.get("reason"):
            return str(ended["reason"])
        return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode')}"
    return ""


_CALM = {"Running": "green", "Completed": "dim", "Succeeded": "dim", "Stopped": "dim"}
_ON_THE_WAY = {"Pending", "ContainerCreating", "Terminating", "Stopping", "Restarting", "Paused", "NotReady", "Deleted"}


def colour(header: str, value: str) -> str:
    """For `text.Table`: only the STATUS column is painted."""
    if header != "STATUS":
        return ""
    return _CALM.get(value) or ("yellow" if value in _ON_THE_WAY else "red")
