"""A Pod's status in Kubernetes' words: what `kubectl get pod -o yaml` would show, plus what podd measured.

Times are RFC 3339 in UTC. What says nothing is left out, but where Kubernetes writes it all the same. What stands under
`podd` is ours. Source: the Kubernetes API reference, PodStatus v1 core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from podd.model.pod import ResourceRequirements, Struct

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]


class ContainerStateWaiting(Struct):
    reason: str
    message: str = ""


class ContainerStateRunning(Struct):
    started_at: str


class ContainerStateTerminated(Struct):
    """exit_code is 128 + signal where a signal ended it, as the shell and the kubelet say it."""

    exit_code: int
    reason: str
    finished_at: str
    started_at: str | None = None
    signal: int = 0
    message: str = ""
    container_id: str = msgspec.field(default="", name="containerID")


class ContainerState(Struct):
    """Exactly one is set."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Struct):
    name: str
    state: ContainerState
    ready: bool
    started: bool
    restart_count: int
    image: str
    image_id: str = msgspec.field(name="imageID")
    last_state: ContainerState
    container_id: str = msgspec.field(default="", name="containerID")
    resources: ResourceRequirements | None = None  # as in force
    allocated_resources: Mapping[str, str] = {}  # what it requests of that
    pid: int | None = None  # ours: the first process, in podd's pid namespace


class PodCondition(Struct):
    type: str
    status: Literal["True", "False", "Unknown"]
    last_transition_time: str
    reason: str = ""
    message: str = ""


class PoddStatus(Struct):
    """What Kubernetes has no field for."""

    driver: str
    sandbox_id: str = ""
    sandbox_state: str = ""
    cgroup: str = ""
    wanted: Literal["Running", "Stopped", "Deleted"] = "Running"
    paused: bool = False
    start_skew_us: int | None = None  # first to last release of the last synchronized start
    start_took_us: int | None = None  # from the decision to start to the last release
    restarts: int = 0  # of the whole pod: times it got a new sandbox
    source: str = ""  # of a static pod: the file that it comes from


class IP(Struct):
    ip: str


class PodStatus(Struct):
    phase: Phase
    conditions: tuple[PodCondition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()
    start_time: str | None = None
    reason: str = ""
    message: str = ""
    host_ip: str = msgspec.field(default="", name="hostIP")
    host_ips: tuple[IP, ...] = msgspec.field(default=(), name="hostIPs")
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[IP, ...] = msgspec.field(default=(), name="podIPs")
    qos_class: Literal["Guaranteed", "Burstable", "BestEffort"] = "BestEffort"
    observed_generation: int = 0
    podd: PoddStatus | None = None
