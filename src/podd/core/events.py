"""What can happen to a pod (events, in) and what is to be done about it (actions, out).

A Request is somebody's wish and may be refused. A Report says what happened and is never refused; one about something
that is no longer there changes nothing. Actions are done by the engine, each at most once for each time it is given;
what comes of it returns as a Report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from podd.core.applied import Applied
from podd.driver.contract import ContainerCreated, ContainerStarted, Exit, SandboxCreated, SandboxStatus
from podd.errors import Kind
from podd.model.ids import ContainerId, SandboxId
from podd.model.pod import Container, Pod
from podd.model.value import Value

ProbeKind = Literal["startup", "liveness", "readiness"]
HookKind = Literal["postStart", "preStop"]


class Failure(Value):
    """An error as data: it is stored, shown in the status, and decides whether another try makes sense."""

    kind: Kind
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


# ---- events ----------------------------------------------------------------------------------------------------------


class Request(Value):
    """Somebody asks. If it is not possible now, podd.errors.Conflict goes back to the asker."""


class StartAsked(Request):
    """Run it; also after it had ended, or failed to start and is waiting for the next try."""


class StopAsked(Request):
    """End all members and stay ended. grace_s None: as the pod's spec says."""

    grace_s: float | None = None


class RestartAsked(Request):
    """Stop, then start with a new sandbox."""

    grace_s: float | None = None


class DeleteAsked(Request):
    grace_s: float | None = None


class PauseAsked(Request):
    pass


class ResumeAsked(Request):
    pass


class AmendAsked(Request):
    """The pod's manifest has changed in what a running pod can take: its metadata, and what its members may use.

    of: the pod from which the change was worked out. Raises Conflict where it is another by now, or more than that
    differs. applied: what is its manifest's now; None: it is no manifest that asks.
    """

    pod: Pod
    of: Pod
    applied: Applied | None = None


class DebugAsked(Request):
    """Add an ephemeral container. target: the member whose processes it sees; "" for none."""

    container: Container
    target: str = ""


class Report(Value):
    """Something happened."""


class Woke(Report):
    """The time that `pod.next_wake` named has come, or podd has just started: look again."""


class ObjectChanged(Report):
    """A ConfigMap or Secret that the pod's manifest names is another now, or gone."""


class Resumed(Report):
    """podd has started and taken this pod up from its record. What was under way may or may not have happened."""


ImageReason = Literal["ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"]


class ImagesQueued(Report):
    """Which images that are to be pulled wait for their turn now."""

    images: Sequence[str]


class ImagesPulled(Report):
    """The answer to PullImages. ids: by member. failure: culprit's image cannot be had; others may be here."""

    ids: Mapping[str, str] = {}
    culprit: str = ""
    reason: ImageReason = "ErrImagePull"
    failure: Failure | None = None


class VolumesPrepared(Report):
    failure: Failure | None = None


class VolumesRemoved(Report):
    failure: Failure | None = None


class SandboxMade(Report):
    id: SandboxId
    created: SandboxCreated
    host_ips: Sequence[str] = ()


class SandboxFailed(Report):
    """It could not be made. What there may be of it is still to be destroyed."""

    id: SandboxId
    failure: Failure


class SandboxRecovered(Report):
    """The driver has taken it up again."""

    id: SandboxId
    status: SandboxStatus


class SandboxLost(Report):
    """Its supervisor or holder is gone; what ran in it is dead or must be treated so."""

    id: SandboxId
    reason: str


class SandboxDestroyed(Report):
    id: SandboxId
    failure: Failure | None = None


class ContainerMade(Report):
    id: ContainerId
    created: ContainerCreated


class ContainerFailed(Report):
    """It could not be made. reason: as the kubelet has it."""

    id: ContainerId
    failure: Failure
    reason: ImageReason | Literal["CreateContainerError", "CreateContainerConfigError"] = "CreateContainerError"


class ContainersReleased(Report):
    """The answer to StartContainers of ids: who runs, and (error) who could not. failure: none was released at all."""

    ids: Sequence[ContainerId]
    started: Sequence[ContainerStarted] = ()
    failure: Failure | None = None


class ContainerExited(Report):
    id: ContainerId
    exit: Exit


class ContainerDestroyed(Report):
    id: ContainerId
    failure: Failure | None = None


class Frozen(Report):
    """The answer to Freeze (frozen) and Thaw. failure: all is as it was before."""

    frozen: bool
    failure: Failure | None = None


class Probed(Report):
    """A probe's verdict: after as many results of one kind in a row as its thresholds want, once for each change.

    A startup or liveness probe that succeeds is told once, as the first verdict; one that fails is told each time.
    """

    id: ContainerId
    probe: ProbeKind
    success: bool
    message: str = ""


class HookDone(Report):
    """failure: of a hook that could not be run, failed, or took longer than it was given."""

    id: ContainerId
    hook: HookKind
    failure: Failure | None = None


class Resized(Report):
    """The answer to Resize. failure: the kernel or the driver refused; limits are as they were."""

    generation: int
    failure: Failure | None = None


class Published(Report):
    """The answer to Publish. failure: the network or the driver refused; ports are led as they were."""

    id: SandboxId
    failure: Failure | None = None


class DiskExceeded(Report):
    """The pod has written more than it may, while it was in that sandbox. message: of what, in the kubelet's words."""

    id: SandboxId
    message: str


class PredecessorGone(Report):
    """Nothing is left of the pod whose place this one takes: let it go."""


Event = Request | Report

IMAGE_REASONS: tuple[str, ...] = get_args(ImageReason)


# ---- actions ---------------------------------------------------------------------------------------------------------


class Action(Value):
    """Something for the engine to do."""


class Inside(Action):
    """To be done in the pod's sandbox, which must be ready. `pod.step` asks for nothing in one that it destroys."""


class PullImages(Action):
    """Have the images of all members here, as their pull policies say, before anything of the pod is made."""


class PrepareVolumes(Action):
    pass


class RemoveVolumes(Action):
    pass


class CreateSandbox(Action):
    id: SandboxId
    attempt: int


class RecoverSandbox(Inside):
    """Have the driver take up again what it made before podd was restarted."""

    id: SandboxId


class DestroySandbox(Action):
    """Whatever else is under way for this sandbox is cancelled first."""

    id: SandboxId


class CreateContainer(Inside):
    id: ContainerId
    name: str
    attempt: int


class StartContainers(Inside):
    ids: Sequence[ContainerId]


class SignalContainers(Inside):
    ids: Sequence[ContainerId]
    signal: int


class DestroyContainer(Inside):
    id: ContainerId


class WatchSandbox(Inside):
    id: SandboxId


class WatchContainer(Inside):
    id: ContainerId


class RunProbes(Inside):
    """Probe a running container until it ends, by the probes of its spec. Probing waits while the pod is frozen.

    started: the startup probe has succeeded before. ready: the last verdict of the readiness probe.
    """

    id: ContainerId
    name: str
    started: bool
    ready: bool


class RunHook(Inside):
    """limit_s: when it is given up, and counts as failed; None: not before the container ends."""

    id: ContainerId
    name: str
    hook: HookKind
    limit_s: float | None = None


class Resize(Inside):
    """Make the limits of the pod and of its live members those that its manifest says now."""

    generation: int


class Publish(Inside):
    """Lead those ports of the host to the pod, and no others, that its manifest says now."""

    id: SandboxId


class Freeze(Inside):
    pass


class Thaw(Inside):
    pass


class Tell(Action):
    """An event for people, in kubelet's words."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"
    container: str = ""


class Forget(Action):
    """Nothing of the pod is left: drop its record."""
