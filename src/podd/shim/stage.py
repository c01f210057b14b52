"""What runs in a forked child between fork and exec.

The shim forks by `fork_container` or `fork_exec` and, in the child, calls `container_child` or `exec_child`, which
never return. They talk over `sync`, the child's end of a socketpair(AF_UNIX, SOCK_SEQPACKET), in JSON objects, one a
message:

    {"ready": true, "notes": [str]}     set up, about to wait on `hold`; with tty, the terminal's master rides along
    {"released_ns": int}                CLOCK_MONOTONIC right before execve
    end of file                         after released_ns: execve succeeded (sync is close-on-exec)
    {"error": str, "kind": str, "remedy": str}   at any time instead: it failed and exits 126 or 127
    end of file at any other time       it was killed

notes: what the host did not allow and was done without ("oom_score_adj -500: not permitted here").

The child is still Python while it is inside the container's namespaces. It is not dumpable, so nothing in there can
read or trace it or open its executable; it imports nothing any more; and it holds no descriptor that it was not given.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from fcntl import ioctl
from functools import partial
from termios import TIOCSCTTY
from typing import NamedTuple, NoReturn

from podd.errors import Conflict, Denied, Invalid
from podd.linux import namespaces
from podd.linux.cgroup import fork_into
from podd.linux.inroot import Root
from podd.linux.syscalls import (
    PIPEFS_MAGIC,
    SOCKFS_MAGIC,
    CloneFlag,
    close_all_but,
    filesystem_magic,
    join_new_session_keyring,
    setns,
    unshare,
)
from podd.linux.terminal import Terminal, open_terminal, resize
from podd.shim import credentials, program, rootfs
from podd.shim.failure import as_message, doing
from podd.shim.plan import ContainerPlan, ExecPlan, SandboxPlan
from podd.shim.sandbox import shared_namespaces

NAMELESS = (PIPEFS_MAGIC, SOCKFS_MAGIC)
EXIT_CANNOT_RUN = 126
EXIT_FAILED = 127


class ChildFds(NamedTuple):
    """What a child gets from the shim, all >= 3; every other descriptor is closed first of all."""

    sync: int
    hold: int  # two bytes b"go" release, end of file means die; -1: do not wait (exec)
    stdio: tuple[int, int, int] | None  # None: a terminal of the container's own devpts (plan["tty"])
    cgroups: Sequence[int]  # open for writing on cgroup.procs (v2) or tasks (v1: spares a global lock); gets b"0"


def warm() -> None:
    """Look up and cache what children need, so that every fork has it. Call once in the zygote."""
    rootfs.cgroup_views()
    credentials.warm()


def fork_container(
    sandbox: SandboxPlan, group: int | None = None, *, sibling: bool = False, beside: int | None = None
) -> int:
    """As os.fork(), with the child in the pid namespace that a container of this sandbox belongs in.

    group: the directory of a v2 cgroup that the child is born in. sibling: as `podd.linux.cgroup.fork_into`.
    beside: a pidfd of the first process of a container whose pid namespace it is to be, where each has its own.
    Raises Conflict: that process, or the init of the pod's pid namespace, has ended.
    """
    fork = _fork(group, sibling=sibling)
    if sandbox["pid"] == "node":
        return fork()
    if sandbox["pid"] == "container" and beside is not None:
        return _fork_beside(beside, fork, "container: the one whose processes it is to share has ended")
    if sandbox["pid"] == "container":
        return namespaces.fork_in_new_pid_namespace(fork)
    pin = os.open(f"{sandbox['run_dir']}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _fork_beside(pin, fork, "container: the init of the pod's pid namespace has ended")
    finally:
        os.close(pin)


def fork_exec(sandbox: SandboxPlan, pidfd: int, group: int | None = None, *, sibling: bool = False) -> int:
    """As os.fork(), with the child in the pid namespace of the container whose first process pidfd names.

    Raises Conflict: that process has ended.
    """
    fork = _fork(group, sibling=sibling)
    if sandbox["pid"] == "node":
        return fork()
    return _fork_beside(pidfd, fork, "exec: the container is not running")


def _fork_beside(fd: int, fork: Callable[[], int], dead: str) -> int:
    try:
        return namespaces.fork_in_pid_namespace(fd, fork)
    except OSError as exc:
        if exc.errno in (errno.ESRCH, errno.ENOMEM):  # no such process; a pid namespace whose first process has ended
            raise Conflict(dead) from exc
        raise


def _fork(group: int | None, *, sibling: bool) -> Callable[[], int]:
    return os.fork if group is None and not sibling else partial(fork_into, group, sibling=sibling)


def container_child(sandbox: SandboxPlan, plan: ContainerPlan, fds: ChildFds) -> NoReturn:
    """Become the container's first process: set everything up, report ready, wait for the release, exec."""
    try:
        notes: list[str] = []
        _leave_supervisor(fds)
        foreign = _host_settings(plan, notes)
        _enter_sandbox(sandbox)
        built = rootfs.build(sandbox, plan)
        with doing(f"workingDir {plan['working_dir']}", Invalid):
            os.fchdir(built.root.directory(plan["working_dir"] or "/"))
        rootfs.seal(built.root, plan)
        _run(built.root, built.terminal, plan, plan["argv"], {}, foreign, fds, notes)
    except BaseException as exc:  # noqa: BLE001 whatever it is, the parent must hear of it
        _fail(fds.sync, exc)


def exec_child(sandbox: SandboxPlan, plan: ContainerPlan, request: ExecPlan, pidfd: int, fds: ChildFds) -> NoReturn:
    """Become one more process of a running container, with the same rights and no more, and exec.

    pidfd: the container's first process. fds.hold is usually -1; fds.stdio is None for request["tty"].
    """
    try:
        notes: list[str] = []
        _leave_supervisor(fds, pidfd)
        foreign = _host_settings(plan, notes)
        with doing("namespaces of the container", Conflict):
            setns(pidfd, namespaces.flags(shared_namespaces(sandbox)) | CloneFlag.CGROUP | CloneFlag.MNT)
        root = Root.at("/")
        terminal = None
        if request["tty"]:
            with doing("terminal"):
                terminal = open_terminal(root.open("/dev/pts", symlinks=False))
                resize(terminal.master, *request["terminal_size"])
        with doing(f"workingDir {plan['working_dir']}", Invalid):
            os.fchdir(root.open(plan["working_dir"] or "/", os.O_PATH | os.O_DIRECTORY))
        _run(root, terminal, plan, request["argv"], dict(request["env"]), foreign, fds, notes)
    except BaseException as exc:  # noqa: BLE001 whatever it is, the parent must hear of it
        _fail(fds.sync, exc)


# ---- steps -----------------------------------------------------------------------------------------------------------


def _leave_supervisor(fds: ChildFds, *more: int) -> None:
    """Shed what a fork inherits: descriptors, signal handlers, the way to import, the session."""
    stdio = fds.stdio or ()
    close_all_but((0, 1, 2, *more, fds.sync, *stdio, *fds.cgroups, *((fds.hold,) if fds.hold >= 0 else ())))
    credentials.guard_process()
    gc.disable()
    sys.meta_path.clear()  # an import from now on would read the container's files
    sys.path.clear()
    credentials.reset_signals()
    os.umask(0o022)
    os.setsid()
    with doing("session keyring"):
        join_new_session_keyring()
    with doing("cgroup"):
        for fd in fds.cgroups:
            os.write(fd, b"0")


def _host_settings(plan: ContainerPlan, notes: list[str]) -> bool:
    """What is set through the host's /proc, before any of the container's files is in sight.

    Returns whether the host runs foreign program formats.
    """
    score = plan["oom_score_adj"]
    if score is not None:
        with doing(f"oom_score_adj {score}", Invalid), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            try:
                file.write(b"%d" % score)
            except PermissionError:
                notes.append(f"oom_score_adj {score}: not permitted here")
    return os.access("/proc/sys/fs/binfmt_misc/register", os.F_OK)


def _enter_sandbox(sandbox: SandboxPlan) -> None:
    with doing("namespaces of the sandbox"):
        for name in shared_namespaces(sandbox):
            namespaces.join(name, f"{sandbox['run_dir']}/ns/{name}")
        unshare(CloneFlag.CGROUP)


def _run(
    root: Root,
    terminal: Terminal | None,
    plan: ContainerPlan,
    argv: list[str],
    more_env: Mapping[str, str],
    foreign: bool,
    fds: ChildFds,
    notes: list[str],
) -> NoReturn:
    """The part that the first and every further process have in common: who it is, what it runs, when."""
    identity = credentials.resolve_identity(root, plan)
    credentials.limit_resources(plan, notes)
    with doing("stdio"):
        _set_stdio(terminal.slave if terminal else None, fds, identity.uid)
    environment = _environment(plan, more_env, identity.home, tty=terminal is not None)
    search = environment["PATH"]
    encoded_argv, encoded_env = _encoded(argv, environment)
    path = ""

    def prepare() -> None:
        nonlocal path
        if os.getcwd()[:1] != "/":  # "(unreachable)": not below the root
            raise Invalid(f"workingDir {plan['working_dir']}: outside the container's root")
        path = program.find(argv[0] if argv else "", search)
        program.check(path, foreign=foreign)

    credentials.assume(identity, plan, notes, prepare)
    _report_ready(fds.sync, terminal, notes)
    close_all_but((0, 1, 2, fds.sync, *((fds.hold,) if fds.hold >= 0 else ())))
    for fd in (fds.sync, fds.hold) if fds.hold >= 0 else (fds.sync,):
        os.set_inheritable(fd, False)
    if fds.hold >= 0 and os.read(fds.hold, 2) != b"go":
        os._exit(EXIT_FAILED)
    os.write(fds.sync, b'{"released_ns": %d}' % time.monotonic_ns())
    with doing(f'command "{argv[0]}"', program.NotRunnable):
        os.execve(path, encoded_argv, encoded_env)


def _set_stdio(slave: int | None, fds: ChildFds, uid: int) -> None:
    """Descriptors 0 to 2; pipes and the terminal go to the container's user, so that he can open /dev/stdout.

    Nothing that has a name on the host changes its owner: not a FIFO, and not the host's /dev/null.
    """
    if slave is not None:
        ioctl(slave, TIOCSCTTY, 0)
        os.fchown(slave, uid, -1)
    source = (slave, slave, slave) if slave is not None else fds.stdio
    if source is None:
        raise Invalid("stdio: neither descriptors nor a terminal")
    for number, fd in enumerate(source):
        if filesystem_magic(fd) in NAMELESS:
            os.fchown(fd, uid, -1)
        os.dup2(fd, number)


def _environment(plan: ContainerPlan, more: Mapping[str, str], home: str, *, tty: bool) -> dict[str, str]:
    """The plan's variables and nothing of podd's, completed as container runtimes do."""
    environment = {"PATH": program.DEFAULT_PATH, "HOSTNAME": os.uname().nodename, "HOME": home}
    if tty:
        environment["TERM"] = "xterm"
    environment.update(plan["env"])
    environment.update(more)
    return environment


def _encoded(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[list[bytes], dict[bytes, bytes]]:
    """As the kernel takes them. Raises Invalid: it cannot take them, which is better known before the release."""
    try:
        arguments = [os.fsencode(argument) for argument in argv]
        variables = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
    except UnicodeEncodeError as exc:
        raise Invalid(f"command and environment: not valid text: {exc.object!r}") from exc
    for name, value in variables.items():
        if not name or b"=" in name or b"\0" in name + value:
            raise Invalid(f"environment variable {name!r}: a name without '=' and a value without NUL are needed")
    for argument in arguments:
        if b"\0" in argument:
            raise Invalid(f"argument {argument!r}: it holds a NUL")
    return arguments, variables


def _report_ready(sync: int, terminal: Terminal | None, notes: list[str]) -> None:
    message = json.dumps({"ready": True, "notes": notes}).encode() if notes else b'{"ready": true, "notes": []}'
    if terminal is None:
        os.write(sync, message)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=os.dup(sync)) as channel:
        channel.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", terminal.master))])


def _fail(sync: int, exc: BaseException) -> NoReturn:
    try:
        os.write(sync, json.dumps(as_message(exc)).encode())
    finally:
        os._exit(EXIT_CANNOT_RUN if isinstance(exc, program.NotRunnable | Denied) else EXIT_FAILED)
