"""The parameters and replies of io.podd as types: field for field what io.podd.varlink says (a test compares them)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec.structs import asdict

from podd.driver.contract import InterfaceUsage, Limits, NamespaceName, NetworkStatus, Scope, Usage
from podd.engine.view import ApplyProgress, ApplyResult, LogLine, ManifestText, PodEvent, PodView
from podd.model.pod import Container, PodSpec
from podd.model.status import PodStatus
from podd.model.value import Value

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Port = Annotated[int, msgspec.Meta(ge=1, le=2**16 - 1)]
Cells = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]


class Parameters(Value, forbid_unknown_fields=True):
    """null and absent mean the same."""


# ---- pods


class Metadata(Value, rename="camel", omit_defaults=True):
    """ObjectMeta with its namespace always written."""

    name: str
    namespace: str
    uid: str
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    creation_timestamp: str | None = None


class EphemeralContainer(Container):
    target_container_name: str = ""


class ShownSpec(PodSpec, kw_only=True):
    """With what was added to the pod since: no manifest can say that."""

    ephemeral_containers: Sequence[EphemeralContainer]

    @classmethod
    def of(cls, view: PodView) -> PodSpec:
        if not view.added:
            return view.pod.spec
        added = [EphemeralContainer(**asdict(one.container), target_container_name=one.target) for one in view.added]
        return cls(**asdict(view.pod.spec), ephemeral_containers=added)


class PodObject(Value, rename="camel", kw_only=True):
    """A pod as Kubernetes writes it, in the order in which it writes it."""

    api_version: str = "v1"
    kind: str = "Pod"
    metadata: Metadata
    spec: PodSpec
    status: PodStatus

    @classmethod
    def of(cls, view: PodView) -> PodObject:
        meta = view.pod.metadata
        return cls(
            metadata=Metadata(
                name=meta.name,
                namespace=meta.namespace,
                uid=meta.uid,
                labels=meta.labels,
                annotations=meta.annotations,
                creation_timestamp=meta.creation_timestamp,
            ),
            spec=ShownSpec.of(view),
            status=view.status,
        )


class ApplyParameters(Parameters):
    manifest: str
    source: str | None = None
    others: Sequence[ManifestText] | None = None
    namespace: str | None = None
    wait: bool | None = None
    dry_run: bool | None = None
    timeout_s: Count | None = None
    strict: bool | None = None


class ApplyReply(Value):
    results: Sequence[ApplyResult] | None = None
    progress: ApplyProgress | None = None


class OnePod(Parameters):
    name: str
    namespace: str | None = None


class SomePods(Parameters):
    name: str | None = None
    namespace: str | None = None


class SelectedPods(Parameters):
    namespace: str | None = None
    selector: str | None = None


class AmendParameters(OnePod):
    labels: Mapping[str, str | None] | None = None
    annotations: Mapping[str, str | None] | None = None
    overwrite: bool | None = None


class StartParameters(OnePod):
    wait: bool | None = None


class StopParameters(StartParameters):
    grace_period_s: Count | None = None
    now: bool | None = None


class ResizeParameters(OnePod):
    container: str | None = None
    limits: Mapping[str, str] | None = None
    requests: Mapping[str, str] | None = None


class DebugParameters(OnePod, kw_only=True):
    target: str | None = None
    container: str | None = None
    image: str
    command: Sequence[str] | None = None
    args: Sequence[str] | None = None
    env: Mapping[str, str] | None = None
    stdin: bool | None = None
    tty: bool | None = None


class DebugReply(Value):
    container: str
    pod: PodObject


class PodReply(Value):
    pod: PodObject


class ListReply(Value):
    pods: Sequence[PodObject]


class WatchReply(Value):
    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
    pod: PodObject | None


# ---- containers


class LogsParameters(OnePod):
    container: str | None = None
    follow: bool | None = None
    tail: Count | None = None
    since: str | None = None
    previous: bool | None = None


class LogsReply(Value):
    lines: Sequence[LogLine]


class ExecParameters(OnePod, kw_only=True):
    argv: Sequence[str]
    container: str | None = None
    tty: bool | None = None
    rows: Cells | None = None
    columns: Cells | None = None
    env: Mapping[str, str] | None = None
    stdin_fd: int | None = None
    stdout_fd: int | None = None
    stderr_fd: int | None = None


class ExecReply(Value):
    exec_id: str
    master_fd: int | None = None
    exit_code: int | None = None
    signal: int | None = None


class AttachParameters(OnePod):
    container: str | None = None
    stdin: bool | None = None


class AttachReply(Value):
    fd: int
    container: str
    tty: bool


class ForwardParameters(OnePod, kw_only=True):
    port: Port


class ForwardReply(Value):
    fd: int


# ---- what is going on


class EventsParameters(SomePods):
    selector: str | None = None
    since: str | None = None
    follow: bool | None = None


class EventsReply(Value):
    events: Sequence[PodEvent]


class PodUsage(Value):
    name: str
    namespace: str
    uid: str
    time: str
    pod: Usage
    containers: Mapping[str, Usage]
    overhead: Usage | None
    layers: Mapping[str, int]
    interfaces: Sequence[InterfaceUsage]


class StatsReply(Value):
    pods: Sequence[PodUsage]


class NamespaceRow(Value):
    pod: str
    namespace: str
    uid: str
    type: NamespaceName
    inode: int
    scope: Scope
    members: Sequence[str]
    pinned_by: str


class NamespacesReply(Value):
    rows: Sequence[NamespaceRow]


class Process(Value):
    pid: int
    command: str


class CgroupNode(Value):
    pod: str
    namespace: str
    uid: str
    depth: int
    path: str
    name: str
    limits: Limits
    usage: Usage
    processes: Sequence[Process]


class TreeReply(Value):
    nodes: Sequence[CgroupNode]


class Driver(Value):
    name: str
    driver: str
    is_default: bool
    usable: bool
    reason: str
    remedy: str
    version: str
    notes: Sequence[str]
    capabilities: Mapping[str, bool]
    network: NetworkStatus | None


class DriversReply(Value):
    drivers: Sequence[Driver]
