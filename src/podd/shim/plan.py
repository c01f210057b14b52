"""What the daemon's side tells the zygote and a shim, and what they answer: plain JSON objects.

Wire: each message is 4 bytes length (big endian, of the JSON that follows, at most MAX_MESSAGE) and UTF-8 JSON.
Descriptors ride by SCM_RIGHTS on the first byte of their message. A request is {"id": int, "verb": str, "args": {...}};
its answer {"id": int, "ok": {...}} or {"id": int, "error": {"kind": str, "message": str, "remedy": str}}, kind as in
podd.errors.
A notice has no id: {"event": "exited", "container": id, "exit": ExitRecord}. A connection may have many requests in
flight, answered in any order. Every verb is idempotent by the ids in its args.

Zygote verbs (over the socketpair the daemon's side gave it at exec; it ends when that closes):
    fork(sandbox: SandboxPlan) + 1 descriptor   -> {"pid": int, "starttime_ticks": int} + 1 descriptor, the shim's pidfd
        The descriptor given is the shim's first connection. The shim makes the sandbox at once and reports on that
        connection as if asked "create_sandbox" with request id 0.
    sweep(sandbox: SweepPlan)  -> {} when nothing of it is left.
        Works without a shim: kills the cgroup, unmounts, removes. Runs in a fork of its own, so sweeps do not queue.

Shim verbs:
    create_sandbox(sandbox: SandboxPlan)         -> SandboxReport       again: the same report
    create_container(container: ContainerPlan)   -> ContainerReport     held; many run at the same time
    start(containers: [id])                      -> {"started": [StartReport]}      all released in one go
    signal(containers: [id], signal: int)        -> {}
    resize(container: id or "", limits: LimitsPlan) -> {"limits": LimitsPlan}       "": of the pod
    status()                                     -> {"sandbox": SandboxReport, "containers": {id: ContainerState}}
    subscribe()                                  -> {}; notices of exits from now on come on this connection
    destroy_container(container: id)             -> {}
    exec(container: id, exec: ExecPlan) + 3 descriptors (none for tty) -> {"pid": int} (+ 1 descriptor: pty master)
        Its end comes as a notice {"event": "exec_exited", "exec": id, "exit": ExitRecord}.
    exec_wait(exec: id)                          -> ExitRecord
    exec_kill(exec: id)                          -> {}
    attach(container: id, stdin: bool)           -> {} + 1 descriptor (framing: podd.driver.contract.CanAttach)
    shutdown()                                   -> {} after everything is killed, unmounted and removed; then it exits
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

MAX_MESSAGE = 4 * 1024 * 1024


class LimitsPlan(TypedDict, total=False):
    """As podd.driver.contract.Limits; what is absent or None is not limited."""

    cpu_quota_us: int | None
    cpu_period_us: int
    cpu_shares: int | None
    memory_bytes: int | None
    pids: int | None


class RuntimePlan(TypedDict):
    """A program with the command line of runc."""

    path: str  # absolute
    name: str  # as it calls itself: "runc", "crun"


class SandboxPlan(TypedDict):
    id: str
    run_dir: (
        str  # <run_dir>/pods/<id>: pins in ns/, shm/, exits/, shim.sock, shim.json (this plan, the shim's identity)
    )
    containers_dir: str  # writable layers: <containers_dir>/<sandbox id>/<container id>/{upper,work}
    cgroup: str  # of the pod, relative to every hierarchy's mount point: "podd/pods/<id>"
    limits: LimitsPlan
    hostname: str  # "" leaves it (uts of the node)
    net: Literal["pod", "node"]
    ipc: Literal["pod", "node"]
    uts: Literal["pod", "node"]
    pid: Literal["pod", "container", "node"]
    runtime: RuntimePlan | None  # what makes its containers; None: the shim itself
    sysctls: dict[str, str]  # "net.ipv4.ip_unprivileged_port_start": "0"; applied inside the sandbox's namespaces
    shm_size_bytes: int
    log_directory: str
    meta: dict[str, str]  # pod uid, name, namespace: for owned() and for people


class SweepPlan(TypedDict):
    """The part of a SandboxPlan that names its places."""

    id: str
    run_dir: str  # ends in the id
    containers_dir: str
    cgroup: str  # ends in the id
    keep_logs: bool  # False: the log_directory that shim.json names goes too


class SandboxReport(TypedDict):
    id: str
    shim_pid: int
    starttime_ticks: int
    boot_id: str
    namespaces: dict[str, int]
    cgroup: str
    limits: LimitsPlan
    init_pid: int | None
    notes: list[str]  # what this host cannot do and was left out: "pids: this host has nothing to enforce it"


class MountPlan(TypedDict):
    host_path: str
    container_path: str
    read_only: bool
    recursive_read_only: bool  # with read_only: what is mounted below it too
    propagation: Literal["private", "host-to-container", "bidirectional"]
    sub_path: str  # "" for the whole; else what lies there below host_path: see podd.shim.subpath


class ContainerPlan(TypedDict):
    id: str
    name: str
    lowers: list[str]  # absolute directories that make its root, none of which is written to, the topmost first
    argv: list[str]  # complete and expanded; argv[0] is looked up in the container's PATH inside its root
    env: list[tuple[str, str]]
    working_dir: str
    mounts: list[MountPlan]
    tty: bool
    stdin: bool
    stdin_once: bool
    limits: LimitsPlan
    image_user: str  # who it is where uid is None: "", "1000", "nobody", "1000:100", "app:app"
    image_volumes: list[str]  # directories that can be written to whatever becomes of the root
    uid: int | None
    gid: int | None
    supplemental_groups: list[int]
    run_as_non_root: bool
    privileged: bool
    capabilities: int  # bit mask: permitted, effective and bounding; inheritable and ambient stay empty
    no_new_privileges: bool
    read_only_rootfs: bool
    seccomp_bpf: str  # base64 of struct sock_filter[]; "" for none
    seccomp_oci: dict[str, Any] | None  # the same for an OCI runtime: its linux.seccomp
    masked_paths: list[str]
    read_only_paths: list[str]
    rlimits: dict[str, tuple[int, int]]
    oom_score_adj: int | None
    pid_target: str  # the container, which runs, whose process namespace is to be its own; "" for one of its own
    log_path: str
    log_max_bytes: int
    log_max_files: int


class ContainerReport(TypedDict):
    """Of a held container, read from /proc and the cgroup files by its pid."""

    id: str
    pid: int
    starttime_ticks: int
    namespaces: dict[str, int]
    cgroup: str
    limits: LimitsPlan
    notes: list[str]


class StartReport(TypedDict):
    id: str
    pid: int
    started_at_ns: int
    released_ns: int  # CLOCK_MONOTONIC, taken by the process itself right before execve
    error: str  # "" or why execve failed


class ExitRecord(TypedDict):
    """Also what stands in <run_dir>/exits/<container id>.json, written before the notice is sent."""

    code: int
    signal: int
    oom_killed: bool
    started_at_ns: int | None
    finished_at_ns: int
    reason: str
    message: str


class ContainerState(TypedDict):
    state: Literal["created", "running", "exited"]
    name: str
    pid: int | None
    starttime_ticks: int | None
    started_at_ns: int | None
    exit: ExitRecord | None


class ExecPlan(TypedDict):
    id: str
    argv: list[str]
    env: list[tuple[str, str]]  # added to the container's
    tty: bool
    terminal_size: tuple[int, int]  # rows, columns
    bound: bool  # it ends when who asked for it hangs up
