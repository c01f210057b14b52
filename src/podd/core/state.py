"""All that podd remembers of one pod: one value, stored as one record."""

from __future__ import annotations

from typing import Literal

from podd.core import container, sandbox
from podd.core.applied import Applied, given_by
from podd.core.events import Failure
from podd.core.restart import Backoff
from podd.driver.contract import Exit
from podd.model.ids import ContainerId, PodUid
from podd.model.pod import Container, Pod
from podd.model.value import Value

RECORD_VERSION = 1


ContainerKind = Literal["init", "sidecar", "regular", "ephemeral"]


class Goal(Value):
    """What the pod is meant to become. For all but "run", the members end first.

    "finish": nobody asked for it, the pod has come to its end; reason says why where its members do not.
    kill_at_ns: when patience with those that are to end ends; None before they are told.
    extended: hooks and others took all the time there was, and those not yet told got a moment for their stop signal.
    kills: how often patience has ended: after the first everything left gets SIGKILL, after the second the sandbox is
    destroyed over their heads.
    """

    want: Literal["run", "stop", "restart", "delete", "finish"] = "run"
    grace_s: float = 0.0
    kill_at_ns: int | None = None
    kills: int = 0
    extended: bool = False
    reason: str = ""


class Ended(Value):
    """The end of an instance that was followed by another."""

    id: ContainerId
    attempt: int
    exit: Exit


class Member(Value):
    """One container of the pod over all its instances.

    kind: what it is in the manifest; a sidecar is an init container that is always restarted.
    attempts: instances begun so far, so that each gets an id of its own. restarts, last: of instances that were made.
    begun: instances of this sandbox. passed: in this sandbox it has got as far as others wait for: an init container
    has ended well, any other has started. stop_signal: what its image wants; None: it does not say.
    """

    kind: ContainerKind = "regular"
    instance: container.Instance | None = None
    attempts: int = 0
    restarts: int = 0
    backoff: Backoff = Backoff()
    last: Ended | None = None
    begun: int = 0
    passed: bool = False
    stop_signal: int | None = None


class Ephemeral(Value):
    """A container that was added to a running pod. target: the member whose processes it sees; "" for none."""

    container: Container
    target: str = ""


class FailedStart(Value):
    """A start of the whole pod that was undone. culprit: the member that could not be made; "" for the pod's own parts.

    retry_at_ns None: no further try.
    """

    failure: Failure
    reason: str
    culprit: str = ""
    tries: int = 1
    retry_at_ns: int | None = None


class Condition(Value):
    status: bool
    since_ns: int


class PodState(Value):
    """released: the regular members of this sandbox have been let go; what starts now starts by itself.

    recovering: podd was restarted, and the driver has yet to say what it finds of the sandbox.
    volumes "stale": they were there for another sandbox, or in part. Before the next they are prepared again, since the
    host may have been restarted meanwhile, and what is in memory gone.
    """

    uid: PodUid
    pod: Pod
    driver: str
    created_at_ns: int
    applied: Applied = Applied()  # what of its metadata is its manifest's
    goal: Goal = Goal()
    volumes: Literal["absent", "preparing", "ready", "stale", "removing"] = "absent"
    images: Literal["absent", "pulling", "ready"] = "absent"  # for the next sandbox, or the one that there is
    queued: tuple[str, ...] = ()  # images whose pull waits until there is room for it
    image_ids: dict[str, str] = {}  # by member: what its image was when it was last looked for; "" for a directory
    volumes_retry_at_ns: int = 0  # not before this is another try to remove them
    sandbox: sandbox.Sandbox | None = None
    sandboxes: int = 0  # begun so far
    released: bool = False
    recovering: bool = False
    backoff: Backoff = Backoff()  # of sandboxes that were lost
    lost_at_ns: int | None = None
    members: dict[str, Member] = {}  # init containers, regular ones and ephemeral ones, in this order
    ephemeral: dict[str, Ephemeral] = {}
    source: str = ""  # the file of the folder of static pods that it comes from; "" for none
    replaces: PodUid | None = None
    """It takes the place of that pod: it is prepared, and held until nothing is left of the other."""
    is_late: bool = False  # it cannot be prepared beside that one, and nothing of it is made before that one is gone
    generation: int = 1  # of the manifest: one more with each change of its spec
    resized: int = 1  # the generation whose limits the kernel has
    not_resized: Failure | None = None  # why it has not those of the newest
    ports: Literal["led", "waiting", "changing", "refused"] = "led"
    """Whether the ports of the host lead to it that its manifest says now; waiting: its driver is to be told; refused:
    it is told again at ports_retry_at_ns."""
    not_published: Failure | None = None  # why they were refused, until they lead to it
    ports_tries: int = 0  # that were refused
    ports_retry_at_ns: int = 0
    failed_start: FailedStart | None = None
    evicted: str = ""  # why it has to go, whatever its members do; "" for nothing
    freezer: Literal["thawed", "freezing", "frozen", "thawing"] = "thawed"
    started_at_ns: int | None = None  # when podd first set out to start it
    start_began_ns: int | None = None
    start_skew_us: int | None = None
    start_took_us: int | None = None
    conditions: dict[str, Condition] = {}
    version: int = RECORD_VERSION


def new(
    uid: PodUid,
    pod: Pod,
    driver: str,
    now_ns: int,
    replaces: PodUid | None = None,
    source: str = "",
    *,
    is_late: bool = False,
) -> PodState:
    """A pod that was just accepted and is to run; replaces: once that one is gone."""
    return PodState(
        uid=uid,
        pod=pod,
        driver=driver,
        created_at_ns=now_ns,
        applied=given_by(pod),
        source=source,
        replaces=replaces,
        is_late=is_late,
        members={
            **{c.name: Member(kind=_init_kind(c)) for c in pod.spec.init_containers},
            **{c.name: Member() for c in pod.spec.containers},
        },
    )


def _init_kind(container: Container) -> ContainerKind:
    return "sidecar" if container.restart_policy == "Always" else "init"
