"""What happens between the fork and the program of a container's process, or of an exec in one.

The attendant does beforehand all that can be done for somebody else: it builds the mount tree, looks up the user, finds
the program, and writes down the rest as a `podd.linux.script`, which the new process executes. They talk over `sync`,
the process's end of a socketpair(AF_UNIX, SOCK_SEQPACKET), in messages of 64-bit words:

    READY, then results    set up, about to wait on `hold`: the results of calls that the host may refuse
    s, ns, RELEASED        CLOCK_MONOTONIC right before execve
    end of file            after RELEASED: execve succeeded (sync is close-on-exec)
    a script's Failure     at any time instead: it failed and exits 126 or 127
    end of file at any other time       it was killed

Until it is the container's program the process is not dumpable, so nothing in there can trace it; its executable is a
few bytes that nobody else runs, its memory is the script, and it holds no descriptor that it was not given.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from termios import TIOCSCTTY
from typing import NamedTuple

from podd.errors import Conflict, Invalid
from podd.linux import namespaces
from podd.linux.inroot import Root
from podd.linux.mounts import NO_EXEC
from podd.linux.script import ANY, Result, Script
from podd.linux.spawn import spawn
from podd.linux.spawn import warm as warm_spawn
from podd.linux.syscalls import (
    PIPEFS_MAGIC,
    SOCKFS_MAGIC,
    CloneFlag,
    FsConfigCommand,
    MountAttr,
    Prctl,
    filesystem_magic,
    mount_attributes,
    prctl,
    setns,
)
from podd.linux.terminal import Terminal, open_terminal, resize
from podd.shim import credentials, program, rootfs
from podd.shim.credentials import Identity
from podd.shim.failure import doing
from podd.shim.nowhere import nowhere
from podd.shim.plan import ContainerPlan, ExecPlan, SandboxPlan
from podd.shim.rootfs import Proc, apart, tidy
from podd.shim.sandbox import enter_namespaces, shared_namespaces

NAMELESS = (PIPEFS_MAGIC, SOCKFS_MAGIC)
READY, RELEASED = b"ready\0\0\0", b"released"
EXIT_CANNOT_RUN = 126

# Plain numbers of system calls, each where its manual page has it.
_LAST_FD = 2**32 - 1
_CLOSE_RANGE_CLOEXEC = 4
_CLOCK_MONOTONIC = 1
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_FROM_FD, _BY_FDS = 0x04, 0x44  # MOVE_MOUNT_F_EMPTY_PATH, and T_EMPTY_PATH too
_COPY_TREE = 0x8001 | os.O_CLOEXEC  # OPEN_TREE_CLONE, AT_RECURSIVE
_KEYCTL_JOIN_SESSION_KEYRING = 1


class ChildFds(NamedTuple):
    """What the process gets from the shim, all >= 3; every other descriptor is closed first of all."""

    sync: int
    hold: int  # two bytes b"go" release, end of file means die; -1: do not wait (exec)
    stdio: tuple[int, int, int] | None  # None: a terminal of the container's own devpts (plan["tty"])
    cgroups: Sequence[int]  # open for writing on cgroup.procs (v2) or tasks (v1: spares a global lock); gets b"0"


class Birth(NamedTuple):
    """Where a process is born, and whose child it is."""

    group: int | None = None  # the directory of a v2 cgroup
    beside: int | None = None  # a pidfd of the first process of a container whose pid namespace is to be its own
    sibling: bool = False  # it is the child of the caller's parent: as `podd.linux.cgroup.fork_into`


class Staged(NamedTuple):
    """A process on its way to its program."""

    pid: int
    script: Script
    notes: list[str]  # what the host did not allow and was done without
    refused: list[str]  # the same, where the result that READY has in this place is negative
    master: int  # of its terminal, owned by the caller; -1: it has none
    identity: Identity


class Program(NamedTuple):
    """What is to be executed, by whom."""

    path: bytes
    argv: list[bytes]
    environment: list[bytes]  # NAME=value
    identity: Identity
    capabilities: int
    terminal: Terminal | None


def warm() -> None:
    """Look up and cache what every attendant needs. Call once in the zygote."""
    nowhere()
    rootfs.cgroup_views()
    credentials.warm()
    warm_spawn()


def prepare(sandbox: SandboxPlan) -> None:
    """Have the calling process be one that can start containers and execs: once, after the sandbox was made."""
    enter_namespaces(sandbox)
    prctl(Prctl.SET_SECUREBITS, 0)  # else the supervisor's would take its rights from what it executes


def start_container(sandbox: SandboxPlan, plan: ContainerPlan, fds: ChildFds, birth: Birth) -> Staged:
    """Start the container's first process, which is held until the release. After `prepare`.

    Raises a podd.errors kind; Conflict: whose processes it is to share has ended.
    """
    notes: list[str] = []
    foreign = _runs_foreign_formats()
    with tidy() as kept:
        own = os.open("/proc/self/ns", os.O_PATH | os.O_CLOEXEC)
        with apart():
            built = rootfs.build(sandbox, plan)
            with doing(f"workingDir {plan['working_dir']}", Invalid):
                place = built.root.directory(plan["working_dir"] or "/")
            identity = credentials.resolve_identity(built.root, plan)
            found = _find(place, built.terminal, identity, plan, plan["argv"], {}, foreign, notes)
            rootfs.seal(built.root, plan)
            mount_namespace = os.open("mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=own)
        needs = (mount_namespace, place, built.proc.place, *(fd for _, fd in built.proc.masks))
        script, keep, refused = _begin(plan, fds, found, needs)
        script.doing("namespaces of the sandbox")
        script.call("unshare", CloneFlag.CGROUP)
        script.call("setns", mount_namespace, CloneFlag.MNT)
        _mount_proc(script, built.proc, max(keep) + _SPARE)
        script.call("fchdir", place)
        _end(script, plan, fds, found, refused)
        pid = _spawn(script, keep, sandbox, birth)
        return Staged(pid, script, notes, list(refused), _kept_master(found.terminal, kept), identity)


def start_exec(
    sandbox: SandboxPlan,
    plan: ContainerPlan,
    request: ExecPlan,
    pidfd: int,
    identity: Identity,
    fds: ChildFds,
    birth: Birth,
) -> Staged:
    """Start one more process in a running container, with the same rights and no more. After `prepare`.

    pidfd: the container's first process. identity: who that was when it was made, whatever the container has written
    into its /etc/passwd since. fds.hold is usually -1; fds.stdio is None for request["tty"].
    Raises a podd.errors kind; Conflict: that process has ended.
    """
    notes: list[str] = []
    foreign = _runs_foreign_formats()
    with tidy() as kept:
        with apart():
            with doing("namespaces of the container", Conflict):
                setns(pidfd, CloneFlag.MNT)
            root = Root.at("/")
            terminal = _exec_terminal(root, request) if request["tty"] else None
            with doing(f"workingDir {plan['working_dir']}", Invalid):
                place = root.open(plan["working_dir"] or "/", os.O_PATH | os.O_DIRECTORY)
            found = _find(place, terminal, identity, plan, request["argv"], dict(request["env"]), foreign, notes)
        script, keep, refused = _begin(plan, fds, found, (pidfd, place))
        script.doing("namespaces of the container", Conflict)
        joined = namespaces.flags(shared_namespaces(sandbox)) | CloneFlag.CGROUP | CloneFlag.MNT
        script.call("setns", pidfd, joined)
        script.call("fchdir", place)
        _end(script, plan, fds, found, refused)
        pid = _spawn(script, keep, sandbox, birth._replace(beside=pidfd))
        return Staged(pid, script, notes, list(refused), _kept_master(terminal, kept), identity)


def look(plan: ContainerPlan, argv: list[str], more_env: Mapping[str, str], pidfd: int, identity: Identity) -> Program:
    """What a process would be in the container of the first process that pidfd names. After `prepare`.

    identity: as of `start_exec`.

    Raises a podd.errors kind: it cannot be; Conflict: that process has ended.
    """
    foreign = _runs_foreign_formats()
    with tidy(), apart():
        with doing("namespaces of the container", Conflict):
            setns(pidfd, CloneFlag.MNT)
        root = Root.at("/")
        with doing(f"workingDir {plan['working_dir']}", Invalid):
            place = root.open(plan["working_dir"] or "/", os.O_PATH | os.O_DIRECTORY)
        return _find(place, None, identity, plan, argv, more_env, foreign, [])


def _exec_terminal(root: Root, request: ExecPlan) -> Terminal:
    with doing("terminal"):
        terminal = open_terminal(root.open("/dev/pts", symlinks=False))
        resize(terminal.master, *request["terminal_size"])
        return terminal


def _kept_master(terminal: Terminal | None, kept: set[int]) -> int:
    if terminal is None:
        return -1
    kept.add(terminal.master)
    return terminal.master


# ---- where it is born ------------------------------------------------------------------------------------------------


def _spawn(script: Script, keep: set[int], sandbox: SandboxPlan, birth: Birth) -> int:
    """Start the process in the pid namespace that it belongs in."""
    start = partial(spawn, script, keep, birth.group, sibling=birth.sibling)
    if sandbox["pid"] == "node":
        return start()
    if birth.beside is not None:
        return _start_in(birth.beside, start, "the container whose processes it is to share has ended")
    if sandbox["pid"] == "container":
        return namespaces.fork_in_new_pid_namespace(start)
    pin = os.open(f"{sandbox['run_dir']}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _start_in(pin, start, "container: the init of the pod's pid namespace has ended")
    finally:
        os.close(pin)


def _start_in(fd: int, start: Callable[[], int], dead: str) -> int:
    try:
        return namespaces.fork_in_pid_namespace(fd, start)
    except OSError as exc:
        if exc.errno in (errno.ESRCH, errno.ENOMEM):  # no such process; a pid namespace whose first process has ended
            raise Conflict(dead) from exc
        raise


# ---- what is found out beforehand ------------------------------------------------------------------------------------


def _runs_foreign_formats() -> bool:
    """Whether the host runs programs that it has no format of its own for."""
    return os.access("/proc/sys/fs/binfmt_misc/register", os.F_OK)


def _find(
    place: int,
    terminal: Terminal | None,
    identity: Identity,
    plan: ContainerPlan,
    argv: list[str],
    more_env: Mapping[str, str],
    foreign: bool,
    notes: list[str],
) -> Program:
    """What it runs, as the container's own files have it. place: its working directory."""
    os.fchdir(place)
    if os.getcwd()[:1] != "/":  # "(unreachable)": not below the root
        raise Invalid(f"workingDir {plan['working_dir']}: outside the container's root")
    mask = credentials.held(plan, notes)
    variables = environment(plan, more_env, identity.home, tty=terminal is not None)
    encoded_argv, encoded_env = _encoded(argv, variables)
    with credentials.as_user(identity, mask):
        path = program.find(argv[0] if argv else "", variables["PATH"])
        program.check(path, foreign=foreign)
    return Program(os.fsencode(path), encoded_argv, encoded_env, identity, mask, terminal)


def environment(plan: ContainerPlan, more: Mapping[str, str], home: str, *, tty: bool) -> dict[str, str]:
    """The plan's variables and nothing of podd's, completed as container runtimes do."""
    variables = {"PATH": program.DEFAULT_PATH, "HOSTNAME": os.uname().nodename, "HOME": home}
    if tty:
        variables["TERM"] = "xterm"
    variables.update(plan["env"])
    variables.update(more)
    return variables


def _encoded(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[list[bytes], list[bytes]]:
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
    return arguments, [name + b"=" + value for name, value in variables.items()]


# ---- what the process does itself ------------------------------------------------------------------------------------

_SPARE = 32
"""Descriptors that the process opens itself; those that the script calls by name come after as many."""


def _begin(
    plan: ContainerPlan, fds: ChildFds, found: Program, needs: Sequence[int]
) -> tuple[Script, set[int], dict[str, Result]]:
    """A script that sheds what is the supervisor's; the descriptors that it keeps; what the host may refuse."""
    stdio = (found.terminal.slave,) if found.terminal else fds.stdio or ()
    keep = {fds.sync, *stdio, *fds.cgroups, *needs, *((fds.hold,) if fds.hold >= 0 else ())}
    script, refused = Script(fds.sync), {}
    script.doing("supervisor")
    credentials.guard(script)
    _close_all_but(script, {0, 1, 2, *keep})
    credentials.default_signals(script)
    script.call("umask", 0o022)
    script.call("setsid")
    script.doing("session keyring")
    script.call("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, 0)
    script.doing("cgroup")
    for fd in fds.cgroups:
        script.call("write", fd, b"0", 1)
    if (score := plan["oom_score_adj"]) is not None:  # through the host's /proc, which is still in sight
        script.doing(f"oom_score_adj {score}", Invalid)
        file = script.call("openat", _AT_FDCWD, b"/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        text = b"%d" % score
        refused[f"oom_score_adj {score}: not permitted here"] = script.call("write", file, text, len(text), least=ANY)
    return script, keep, refused


def _mount_proc(script: Script, proc: Proc, spare: int) -> None:
    """Mount /proc, which shows the pid namespace of who does it. spare: two numbers of descriptors that are free."""
    new, mount = spare, spare + 1
    script.doing("/proc")
    script.call("dup3", script.call("fsopen", b"proc", 1), new, os.O_CLOEXEC)
    script.call("fsconfig", new, FsConfigCommand.SET_STRING, b"source", b"proc", 0)
    script.call("fsconfig", new, FsConfigCommand.CREATE, 0, 0, 0)
    script.call("dup3", script.call("fsmount", new, 1, NO_EXEC), mount, os.O_CLOEXEC)
    script.call("move_mount", mount, b"", proc.place, b"", _BY_FDS)
    script.doing("masked and read-only paths")
    sealed = mount_attributes(MountAttr.RDONLY)
    for path in map(os.fsencode, proc.read_only):
        script.call("dup3", script.call("open_tree", mount, path, _COPY_TREE), new, os.O_CLOEXEC)
        script.call("mount_setattr", new, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, sealed, len(sealed))
        script.call("move_mount", new, b"", mount, path, _FROM_FD)
    for name, mask in proc.masks:
        script.call("move_mount", mask, b"", mount, os.fsencode(name), _FROM_FD)


def _end(script: Script, plan: ContainerPlan, fds: ChildFds, found: Program, refused: dict[str, Result]) -> None:
    """The part that the first and every further process have in common: who it is, what it runs, when."""
    _set_stdio(script, fds, found)
    refused |= credentials.limit_resources(script, plan)
    _close_all_but(script, {0, 1, 2, fds.sync, *((fds.hold,) if fds.hold >= 0 else ())})
    credentials.assume(script, found.identity, plan, found.capabilities)
    script.doing("release")
    script.call("write", fds.sync, [_word(READY), *refused.values()], 8 + 8 * len(refused))
    script.call("close_range", 3, _LAST_FD, _CLOSE_RANGE_CLOEXEC)
    if fds.hold >= 0:
        script.call("read", fds.hold, bytes(2), 2, least=2)
    released = [0, 0, _word(RELEASED)]
    script.call("clock_gettime", _CLOCK_MONOTONIC, released)
    script.call("write", fds.sync, released, 24)
    script.call("execve", found.path, [*found.argv, 0], [*found.environment, 0], status=EXIT_CANNOT_RUN)


def _word(tag: bytes) -> int:
    return int.from_bytes(tag, sys.byteorder)


def _close_all_but(script: Script, keep: set[int]) -> None:
    first = 0
    for fd in sorted(keep):
        if fd > first:
            script.call("close_range", first, fd - 1, 0)
        first = fd + 1
    script.call("close_range", first, _LAST_FD, 0)


def _set_stdio(script: Script, fds: ChildFds, found: Program) -> None:
    """Descriptors 0 to 2; pipes and the terminal go to the container's user, so that he can open /dev/stdout.

    Nothing that has a name on the host changes its owner: not a FIFO, and not the host's /dev/null.
    """
    script.doing("stdio")
    source = fds.stdio
    if found.terminal is not None:
        slave = found.terminal.slave
        source = (slave, slave, slave)
        script.call("ioctl", slave, TIOCSCTTY, 0)
        script.call("fchown", slave, found.identity.uid, -1)
    if source is None:
        raise Invalid("stdio: neither descriptors nor a terminal")
    for number, fd in enumerate(source):
        if filesystem_magic(fd) in NAMELESS:
            script.call("fchown", fd, found.identity.uid, -1)
        script.call("dup3", fd, number, 0)
