"""The driver contract: sandboxes and containers with CRI semantics, and nothing of pods.

A driver is thin and forgetful. It makes what it is told, under the id it is told, and reports what is. It has no
retries, no policy, no state rules and no timers; grace periods and back-off belong to the core. What it must not
forget it puts into a Handle, which the core stores; what it made on the host it can find again by `owned`.

Rules that hold for every verb, and that `podd.testing.DriverContract` checks:
* Idempotent: asked again with the same ids and arguments it gives the same answer and makes nothing twice.
* Cancellable at every await: the effect is then either whole, or undone, or found by `owned` and undone by `destroy_*`.
* Errors are podd.errors kinds. NotFound only where the thing truly is not there; Unavailable where the backend did not
  answer, so that the core asks again; destroying what is not there is quiet success.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

from podd.model.ids import ContainerId, PodUid, SandboxId
from podd.model.value import Value

CONTRACT_VERSION = 1


# ---- what a driver is told -------------------------------------------------------------------------------------------

Scope = Literal["pod", "container", "node"]
"""Who shares a namespace: all members of the pod, nobody, or the whole host."""


class NamespaceScopes(Value):
    """mnt and cgroup are always the container's own."""

    net: Scope = "pod"
    ipc: Scope = "pod"
    uts: Scope = "pod"
    pid: Scope = "container"


class Limits(Value):
    """Limits of one cgroup. None: no limit at this level."""

    cpu_quota_us: int | None = None  # per period; >= 1000
    cpu_period_us: int = 100_000
    cpu_shares: int | None = None  # cgroup v1 scale, 2..262144; a driver converts to cpu.weight
    memory_bytes: int | None = None
    pids: int | None = None


class PortMapping(Value):
    """A port of the host that leads to one of the pod."""

    container_port: int  # 1..65535
    host_port: int  # 1..65535
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    host_ip: str = ""  # "" is every address of the host


class Dns(Value):
    """What a pod's /etc/resolv.conf says."""

    of_host: bool = True  # first what the host's own says
    servers: Sequence[str] = ()
    searches: Sequence[str] = ()
    options: Sequence[str] = ()  # "ndots:2", "edns0"; a later one of the same name counts


class HostAlias(Value):
    """A line of a pod's /etc/hosts."""

    ip: str
    names: Sequence[str]


class SandboxConfig(Value):
    """One sandbox: the shared namespaces and the parent cgroup of its members."""

    id: SandboxId
    pod_uid: PodUid
    pod_name: str
    pod_namespace: str
    attempt: int  # 0 for the pod's first sandbox
    hostname: str  # as the kernel tells it; "" leaves the host's
    domain: str = ""
    """What follows the short name in the full one, which /etc/hosts knows: "db.default.svc.cluster.local"; "" for
    none. The hostname is the short name, or the full one."""
    namespaces: NamespaceScopes = NamespaceScopes()
    limits: Limits = Limits()
    sysctls: Mapping[str, str] = {}
    shm_size_bytes: int = 64 * 1024 * 1024
    log_directory: str = ""  # absolute, made by the driver; "" for none
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    ports: Sequence[PortMapping] = ()
    dns: Dns = Dns()
    host_aliases: Sequence[HostAlias] = ()
    ingress_bits: int | None = None  # a second, towards the pod; None: not limited
    egress_bits: int | None = None


Propagation = Literal["private", "host-to-container", "bidirectional"]


class Mount(Value):
    """A directory, file or device of the host made visible in a container, its submounts included (rbind)."""

    host_path: str  # absolute; exists when create_container is called; a symbolic link is followed on the host
    container_path: str  # absolute inside the container; missing parts are made inside its root, never outside
    read_only: bool = False
    recursive_read_only: bool = False  # the mounts below it too
    propagation: Propagation = "private"
    sub_path: str = ""
    """Below host_path, the only part that is mounted: opened without ever leaving it, whatever links lie in it, and
    made as a directory where it is missing."""


class Security(Value):
    """How little the container may do. Everything is explicit; the core has applied all defaults."""

    uid: int | None = None  # None: the image's user, else 0; 0..2**32-2
    gid: int | None = None  # None: the primary group of uid in the container's /etc/passwd, else 0
    supplemental_groups: Sequence[int] = ()  # fsGroup included
    run_as_non_root: bool = False  # refuse to start when the user turns out to be 0
    privileged: bool = False  # all capabilities, no seccomp, host /dev, writable /sys and /proc
    capabilities_add: Sequence[str] = ()  # without CAP_, upper case; "ALL" allowed
    capabilities_drop: Sequence[str] = ()
    no_new_privileges: bool = False
    read_only_rootfs: bool = False
    seccomp: str = "runtime/default"  # or "unconfined", or "localhost/<absolute path of an OCI seccomp JSON>"
    unmasked_proc: bool = False  # procMount: Unmasked


class ContainerConfig(Value):
    """One instance of a container, complete: $(VAR) is expanded, references are resolved, defaults are applied."""

    id: ContainerId
    sandbox_id: SandboxId
    name: str
    attempt: int  # 0 for the first instance of this container
    image: str  # "rootfs:/absolute/directory", or a reference for drivers with images
    image_id: str = ""  # of the reference, as the driver's image service knows it; "" for a directory
    command: Sequence[str] = ()  # replaces the image's entrypoint
    args: Sequence[str] = ()  # replaces the image's cmd
    env: Sequence[tuple[str, str]] = ()  # in order; the environment starts empty
    working_dir: str = ""  # "" is the image's, else "/"
    mounts: Sequence[Mount] = ()
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    limits: Limits = Limits()
    security: Security = Security()
    log_path: str = ""  # absolute, CRI log format; "" for none
    log_max_bytes: int = 10 * 1024 * 1024
    log_max_files: int = 5
    oom_score_adj: int | None = None
    pid_target: ContainerId | None = None  # share the process namespace of this one, which runs, instead of its own


# ---- what a driver reports -------------------------------------------------------------------------------------------


class Handle(Value):
    """What a driver must not forget about a sandbox or a container. Opaque to everyone else; stored by the core."""

    id: str
    driver: str
    version: int
    state: dict[str, Any] = {}


NamespaceName = Literal["net", "ipc", "uts", "pid", "mnt", "cgroup", "user"]


class Observed(Value):
    """What the kernel says about a held or running container, read after it was placed, never assumed.

    The core compares it with the plan (`podd.core.verify`) before it lets the container run.
    """

    namespaces: Mapping[str, int] = {}  # name -> inode of /proc/PID/ns/NAME
    cgroup: str = ""  # its cgroup, from the root of the hierarchy
    limits: Limits = Limits()  # read back from the kernel's files


class SandboxCreated(Value):
    handle: Handle
    observed: Observed  # shared namespaces (those of scope pod and node), the pod cgroup, its limits
    cgroup: str = ""
    ips: Sequence[str] = ()


class ContainerCreated(Value):
    handle: Handle
    observed: Observed | None  # None: this driver cannot hold a container, so there is nothing to look at yet
    image_id: str = ""
    stop_signal: int | None = None  # that its image wants; None: it does not say


class ContainerStarted(Value):
    """pid: the first process, in podd's pid namespace. Released: just before the first instruction of the program."""

    id: ContainerId
    pid: int
    started_at_ns: int  # CLOCK_REALTIME
    released_ns: int  # CLOCK_MONOTONIC, for the skew
    error: str = ""  # why this one could not be started after all; the others run
    observed: Observed | None = None  # for drivers that could not observe while held


class Exit(Value):
    """How a container ended. Either code or signal tells; both are known for drivers that are parents."""

    code: int  # 0..255; 128 + signal when a signal ended it
    signal: int = 0
    oom_killed: bool = False
    started_at_ns: int | None = None
    finished_at_ns: int = 0  # CLOCK_REALTIME
    reason: str = ""  # "" to let the core decide; "StartError" when it never ran an instruction
    message: str = ""


SandboxState = Literal["ready", "notready"]
ContainerState = Literal["created", "running", "exited"]


class SandboxStatus(Value):
    id: SandboxId
    state: SandboxState
    paused: bool = False
    observed: Observed = Observed()


class ContainerStatus(Value):
    id: ContainerId
    state: ContainerState
    pid: int | None = None
    started_at_ns: int | None = None
    exit: Exit | None = None
    observed: Observed | None = None


class Owned(Value):
    """Something on the host that carries podd's mark, found without memory."""

    sandbox_id: SandboxId
    handle: Handle | None  # None: remains that can only be destroyed
    pod_uid: PodUid | None = None
    containers: Sequence[ContainerId] = ()


class Health(Value):
    usable: bool
    reason: str = ""  # why not, or what is degraded
    remedy: str = ""
    version: str = ""  # of the backend
    notes: Sequence[str] = ()  # what works with less: "oom_score_adj cannot be lowered: CAP_SYS_RESOURCE is missing"


class Capabilities(Value):
    """What a driver declares about itself. The contract suite proves each; the checker of pod specs uses them."""

    held_start: bool  # a created container waits before its first instruction
    shared_uts: bool
    pid_pod: bool
    pid_node: bool
    isolation: bool = True
    """Namespaces, a root and mounts of their own, capabilities and seccomp keep containers from the host. Without it
    they are programs of the host: a pod must ask for no more (hostNetwork, hostIPC, hostPID, privileged), and no
    container is given mounts."""
    user_namespaces: bool = False
    exec: bool = False
    attach: bool = False  # and containers have input, and terminals
    pause: bool = False
    stats: bool = False
    resize: bool = False  # limits of what runs can change
    connect: bool = False  # podd can open sockets in the sandbox's network
    pid_target: bool = False  # one container can join the process namespace of another
    images: bool = False  # can run image references, not rootfs: only
    rootfs_directory: bool = False
    network: bool = False  # gives pods addresses, and leads ports of the host to them
    publish: bool = False  # other ports of the host can be led to a sandbox that is there
    outlives_podd: bool = True


# ---- the driver ------------------------------------------------------------------------------------------------------


class Driver(Protocol):
    """A backend. See the module's text for the rules that every verb keeps.

    It is an async context manager: entered once by the daemon inside its event loop, before any other call; left when
    podd stops, which leaves every sandbox running where `outlives_podd` is declared.
    """

    name: str
    capabilities: Capabilities

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None: ...

    async def probe(self) -> Health:
        """Can this driver work here? If not: why, and what to do. Never raises."""
        ...

    async def owned(self) -> Sequence[Owned]:
        """Every sandbox, or remains of one, that this driver holds for podd, found on the host and not in memory."""
        ...

    async def recover(self, sandbox: Handle, containers: Sequence[Handle]) -> SandboxStatus:
        """Take up a sandbox again after podd was restarted. Raises NotFound: it is gone, or its supervisor is."""
        ...

    # -- pod level
    async def create_sandbox(self, config: SandboxConfig) -> SandboxCreated: ...

    async def sandbox_status(self, sandbox: Handle) -> SandboxStatus:
        """Raises NotFound: it was destroyed or never made."""
        ...

    async def wait_sandbox(self, sandbox: Handle) -> str:
        """Return when the sandbox is lost (its supervisor or holder died), with the reason. Until then, wait."""
        ...

    async def destroy_sandbox(self, sandbox_id: SandboxId) -> None:
        """Kill every process of the sandbox, its containers included, and remove all that was ever made for it.

        By id alone, so that it works on remains. Returns when nothing is left.
        """
        ...

    # -- container level
    async def create_container(self, sandbox: Handle, config: ContainerConfig) -> ContainerCreated:
        """Make a container and hold it just before its first instruction, limits applied, command resolved.

        Raises Invalid: the command is missing or not executable, the user is unknown, and the like.
        """
        ...

    async def start_containers(self, containers: Sequence[Handle]) -> Sequence[ContainerStarted]:
        """Release created containers of one sandbox, all at one moment. Running ones are answered as they are.

        One answer for each, in order; `error` tells of those that could not be started. Raises only where nothing was.
        """
        ...

    async def signal_containers(self, containers: Sequence[Handle], signal: int) -> None:
        """Send a signal to the first process of each, all at one moment. To one that has ended: quiet success.

        SIGKILL ends every process of the container, not the first alone.
        """
        ...

    async def wait_container(self, container: Handle) -> Exit:
        """How it ended; waits until it does. Many may wait; also after the end, and for an end while podd was away.

        Raises NotFound: destroyed or never made.
        """
        ...

    async def container_status(self, container: Handle) -> ContainerStatus: ...

    async def destroy_container(self, sandbox: Handle, container_id: ContainerId) -> None:
        """Kill every process of the container and remove all that was made for it but its log."""
        ...


# ---- optional powers -------------------------------------------------------------------------------------------------


class ExecRequest(Value):
    argv: Sequence[str]
    tty: bool = False
    terminal_size: tuple[int, int] = (0, 0)  # rows, columns, as the process first sees it; 0: not known
    env: Sequence[tuple[str, str]] = ()  # added to the container's
    bound: bool = False  # it ends when podd does: by SIGKILL, at the latest when the driver is entered again


@runtime_checkable
class CanExec(Protocol):
    """Run another process inside a container. Bytes never travel through podd: descriptors do."""

    async def exec_start(self, container: Handle, request: ExecRequest, stdio: Sequence[int]) -> tuple[str, int | None]:
        """Start it. stdio: three descriptors (stdin, stdout, stderr) that become the process's own; ignored for tty.

        Borrowed: the caller closes its copies after the call. Returns an exec id and, for tty, the terminal's master
        side, which the caller owns. Raises Invalid: the command cannot be run; Conflict: the container is not running.
        """
        ...

    async def exec_wait(self, container: Handle, exec_id: str) -> Exit: ...

    async def exec_kill(self, container: Handle, exec_id: str) -> None:
        """End it and its descendants as far as they can be found. Quiet success when it has ended."""
        ...


@runtime_checkable
class CanAttach(Protocol):
    async def attach(self, container: Handle, *, stdin: bool) -> int:
        """A connected stream socket that the caller owns.

        What is written becomes the container's input (where it has one and `stdin` is asked). What is read is the
        output from now on, in frames: 1 byte stream (1 stdout, 2 stderr), 4 bytes length big-endian, payload. With a
        terminal everything is stream 1. A reader that is too slow loses the attachment, not the container its speed.
        Frames towards the container: stream 0 is input (length 0: end of input), 3 is a resize of
        2 bytes rows, 2 bytes columns.
        """
        ...


@runtime_checkable
class CanPause(Protocol):
    async def pause(self, sandbox: Handle) -> None:
        """Freeze every process of the sandbox. Returns when all are frozen."""
        ...

    async def resume(self, sandbox: Handle) -> None: ...


@runtime_checkable
class CanConnect(Protocol):
    """Reach what listens in a sandbox, with no program in it: for probes, hooks and forwarded ports."""

    async def open_socket(self, sandbox: Handle, family: int, kind: int) -> int:
        """A new socket (AF_*, SOCK_*, as socket.socket takes them) of the sandbox's network namespace.

        Non-blocking, not inherited, not connected; the caller owns it.
        """
        ...


@runtime_checkable
class CanResize(Protocol):
    """Change limits of what runs, without a restart. Returns what the kernel then says.

    A limit that is None is lifted. Raises Conflict: the kernel refuses it now, as memory below what is in use; the
    limits are then as they were. No member may have more than its sandbox: that one grows first and shrinks last.
    """

    async def resize_sandbox(self, sandbox: Handle, limits: Limits) -> Limits: ...

    async def resize_container(self, sandbox: Handle, container: Handle, limits: Limits) -> Limits: ...


class Usage(Value):
    """Of one cgroup. Counters since it was made. None: this host's kernel does not tell."""

    cpu_usage_ns: int | None = None
    cpu_throttled_ns: int | None = None
    memory_usage_bytes: int | None = None
    memory_working_set_bytes: int | None = None  # usage less inactive file pages, as the kubelet counts
    memory_limit_bytes: int | None = None
    pids: int | None = None
    pids_limit: int | None = None
    oom_kills: int | None = None


class InterfaceUsage(Value):
    """Of one interface of a sandbox, since it was made."""

    name: str  # "eth0"
    received_bytes: int
    received_packets: int
    received_errors: int
    sent_bytes: int
    sent_packets: int
    sent_errors: int


class SandboxUsage(Value):
    at_ns: int  # CLOCK_REALTIME
    pod: Usage
    containers: Mapping[str, Usage]  # by container id
    overhead: Usage | None = None  # supervisor
    layers: Mapping[str, int] = {}  # by container id: bytes on disk of its writable layer
    interfaces: Sequence[InterfaceUsage] = ()  # without the loopback; none where the network is the host's


@runtime_checkable
class CanStats(Protocol):
    async def usage(self, sandbox: Handle, containers: Sequence[Handle]) -> SandboxUsage: ...


class NamespaceRow(Value):
    """One namespace that some member of a sandbox is in."""

    type: NamespaceName
    inode: int
    scope: Scope
    members: Sequence[str]  # container names, or "init"
    pinned_by: str  # a path, or a process: "/run/podd/pods/…/ns/net", "pid 4711 (web)"


class CgroupNode(Value):
    path: str  # from the hierarchy's root
    name: str  # its last part, or the container's name
    limits: Limits
    usage: Usage
    processes: Sequence[tuple[int, str]]  # pid, command line
    children: Sequence[CgroupNode] = ()


@runtime_checkable
class CanInspect(Protocol):
    """Tell what the kernel says, for `podd-cli ns` and `podd-cli tree`."""

    async def namespaces(self, sandbox: Handle, containers: Sequence[Handle]) -> Sequence[NamespaceRow]: ...

    async def cgroups(self, sandbox: Handle, containers: Sequence[Handle]) -> CgroupNode: ...


class Image(Value):
    """One image of an image service."""

    id: str  # "sha256:" and 64 hex digits: of its config
    names: Sequence[str] = ()  # with tags: "docker.io/library/busybox:1.36"; none where only its id is left
    digests: Sequence[str] = ()  # "docker.io/library/busybox@sha256:…", by which it was pulled
    size_bytes: int = 0  # of all its layers, unpacked
    created_at_ns: int | None = None  # CLOCK_REALTIME
    user: str = ""  # as the image says: "", "1000", "nobody", "1000:100", "app:app"
    labels: Mapping[str, str] = {}  # data: nothing here acts on them


class PullProgress(Value):
    """How far a pull is. total_bytes: of what is known to come, which may grow; None while nothing is."""

    done_bytes: int = 0
    total_bytes: int | None = None
    layer: str = ""  # which one there is news of; "" for the whole
    message: str = ""  # "writing manifest"
    queued: bool = False  # others are pulled first


Credentials = Mapping[str, Any]
"""As a docker config.json: {"auths": {"registry.example:5000/team": {"auth": base64 of user:password}}}."""


class ImageService(Protocol):
    """Where a driver's images are. Drivers that share a store offer services of the same `name`.

    Errors: Invalid: the reference, or the image, is not as it must be; NotFound: there is no such image; Denied: the
    registry, or a policy, refuses it; Conflict: it is in use; Unavailable: the registry, or the backend, does not
    answer, or the disk is full. The message is for people, and holds no password.
    """

    name: str  # "containers-storage:/var/lib/podd/storage", "docker:/var/run/docker.sock"

    async def find(self, reference: str) -> Image | None:
        """What is here by that name, digest or id. None: nothing. No network. Raises Invalid: it is no reference."""
        ...

    async def pull(
        self, reference: str, credentials: Sequence[Credentials], progress: Callable[[PullProgress], None]
    ) -> Image:
        """Fetch it, also where it is here already. Cancelled: what was fetched is removed, unless it was whole by then.

        credentials: tried in order, before those that the host has for the registry.
        """
        ...

    async def load(self, source: str, name: str, progress: Callable[[PullProgress], None]) -> Sequence[Image]:
        """Take in the images of an archive or an OCI layout on this host.

        source: an absolute path, perhaps with a transport before it ("oci:/srv/app:1"). name: of its one image;
        "": the names that they have there. Cancelled: the one under way is removed.
        """
        ...

    async def list(self) -> Sequence[Image]: ...

    async def remove(self, reference: str) -> Sequence[str]:
        """Take away a name, and with its last name the image; an id takes all. Returns what is gone: names and ids.

        Whether a pod uses it has been looked at before.
        """
        ...

    async def usage_bytes(self) -> int:
        """What all images take of the disk."""
        ...


@runtime_checkable
class CanImages(Protocol):
    """Run image references. A container is created only after its image is there: config.image_id says which."""

    images: ImageService


class NetworkStatus(Value):
    """Can new pods have an address now?"""

    ready: bool
    name: str = ""  # of the network: "podd", "bridge"
    reason: str = ""  # why not: "no network configuration in /etc/cni/net.d"
    remedy: str = ""


@runtime_checkable
class CanNetwork(Protocol):
    """Give pods addresses, and lead ports of the host to them."""

    async def network_status(self) -> NetworkStatus: ...

    async def publish(self, sandbox: Handle, ports: Sequence[PortMapping]) -> None:
        """Lead these ports of the host to the pod that runs, instead of those before: all, or all as it was.

        Raises Conflict: one is taken; Unsupported: this network maps no ports, or the sandbox was made when there was
        none; NotFound: it is gone.
        """
        ...
