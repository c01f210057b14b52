"""What the engine tells the front ends: values, made fresh for each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from podd.core.difference import Means
from podd.core.state import Ephemeral
from podd.driver.contract import (
    Capabilities,
    CgroupNode,
    Health,
    Image,
    NamespaceRow,
    NetworkStatus,
    SandboxUsage,
)
from podd.model.pod import Pod
from podd.model.status import Phase, PodStatus
from podd.model.value import Value


class PodView(Value):
    """One pod at one moment."""

    pod: Pod
    status: PodStatus
    added: Sequence[Ephemeral] = ()  # containers, to the pod that runs


class Added(Value):
    """A container that was added to a pod, which runs."""

    container: str
    view: PodView


class PodChange(Value):
    """One reply of a watch. SYNCED, after all that was there, comes without a pod; DELETED shows it as it last was."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
    view: PodView | None = None


class ManifestText(Value):
    """A text of a manifest, and what messages call it."""

    manifest: str
    source: str


class ApplyProgress(Value):
    """A step on the way of one pod of a manifest."""

    name: str
    namespace: str
    phase: Phase
    reason: str = ""
    message: str = ""


Action = Literal[
    "created", "configured", "unchanged", "amended", "published", "resized", "recreated", "kept", "refused"
]


class FieldChange(Value):
    """A field in which a manifest differs from the pod that is there. old, new: JSON; None where it is not there."""

    path: str
    old: str | None
    new: str | None
    means: Means
    note: str = ""


class ApplyResult(Value):
    """What became, or would become, of one pod of a manifest, or of a ConfigMap or Secret, which has no phase.

    refused: nothing was changed. kept: another was to take its place and could not start, so it is as it was. Reason
    and message say why.
    """

    name: str
    namespace: str
    uid: str
    action: Action
    phase: Literal[Phase, ""]
    reason: str = ""
    message: str = ""
    warnings: Sequence[str] = ()
    changes: Sequence[FieldChange] = ()
    kind: Literal["Pod", "ConfigMap", "Secret"] = "Pod"


class LogLine(Value):
    """A line without its newline; partial: it goes on in the next one of its stream."""

    time: str  # RFC 3339 with nanoseconds, UTC
    stream: Literal["stdout", "stderr"]
    text: str  # bytes that are not UTF-8 replaced by U+FFFD; no surrogates
    partial: bool
    container: str


class Attachment(Value):
    """fd: a connected stream socket that the receiver owns; its framing: podd.driver.contract.CanAttach."""

    fd: int
    container: str
    tty: bool


class PodEvent(Value):
    """Something that happened to a pod. count: how often in a row; time: the last of them."""

    time: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    pod: str
    namespace: str
    uid: str
    container: str = ""
    count: int = 1


class PodUsage(Value):
    view: PodView
    usage: SandboxUsage


class PodNamespaces(Value):
    view: PodView
    rows: Sequence[NamespaceRow]


class PodCgroups(Value):
    view: PodView
    root: CgroupNode


class DriverReport(Value):
    """A driver or runtime class; capabilities None: it cannot be had, and health says why.

    driver: the one that a runtime class is of; a driver's own name. network None: it gives pods no addresses.
    """

    name: str
    driver: str
    is_default: bool
    health: Health
    capabilities: Capabilities | None
    network: NetworkStatus | None = None


class ImageView(Value):
    """pods: that use it, also those that have ended, as NAMESPACE/NAME."""

    image: Image
    pods: Sequence[str] = ()


class ImagesPruned(Value):
    removed: Sequence[str]  # names and ids
    freed_bytes: int


class ImageUsage(Value):
    """service: where the images are. unused: those that no pod uses."""

    service: str
    images: int
    unused: int
    size_bytes: int


class Info(Value):
    """About this podd."""

    version: str
    pid: int
    started_at: str
    kernel: str
    cgroups: Literal["v1", "hybrid", "v2"]
    default_driver: str
    config_file: str
    run_dir: str
    state_dir: str
    log_dir: str
    pods: Mapping[Phase, int]
    problems: Sequence[str] = ()  # what podd copes with and a person should know
    network: NetworkStatus | None = None  # of the default driver; None: it gives pods no addresses


class ReloadReport(Value):
    """Configuration keys, as "daemon.log_level"."""

    changed: Sequence[str] = ()
    needs_restart: Sequence[str] = ()
