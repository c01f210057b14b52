"""What members of a pod share, made once: pinned namespaces, the reaping init, /dev/shm."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, NoReturn

from podd.errors import BY_KIND, Invalid, Kind, Unavailable
from podd.linux import capabilities, mounts, namespaces
from podd.linux.cgroup import fork_into
from podd.linux.pause import pause_program
from podd.linux.syscalls import (
    CloneFlag,
    MountAttr,
    Prctl,
    Resolve,
    close_all_but,
    move_mount,
    openat2,
    prctl,
    set_process_name,
    unshare,
)
from podd.shim import credentials
from podd.shim.failure import as_message, doing
from podd.shim.nowhere import enter_mount_namespace
from podd.shim.plan import SandboxPlan

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

SYSCTLS = {"net": ("net/",), "ipc": ("kernel/shm", "kernel/msg", "kernel/sem", "fs/mqueue/")}
"""By the namespace that keeps them apart: what begins like this may be set in a sandbox that has its own."""


INIT_NAME = "podd-init"


class SandboxNamespaces(NamedTuple):
    inodes: dict[str, int]  # by name (net, ipc, uts, pid): those of scope pod and of scope node
    init_pid: int | None  # in the shim's pid namespace, a child of the shim; None unless the pid scope is "pod"


def shared_namespaces(plan: SandboxPlan) -> list[str]:
    """Which of net, ipc and uts are the pod's own."""
    scopes = {"net": plan["net"], "ipc": plan["ipc"], "uts": plan["uts"]}
    return [name for name, scope in scopes.items() if scope == "pod"]


def enter_namespaces(plan: SandboxPlan) -> None:
    """Move into those of net, ipc and uts that are the pod's own: what is mounted shows those of who mounts it."""
    with doing("namespaces of the sandbox"):
        for name in shared_namespaces(plan):
            namespaces.join(name, f"{plan['run_dir']}/ns/{name}")


def make_sandbox_namespaces(
    plan: SandboxPlan,
    ns_dir: str,
    init_cgroups: Sequence[int] = (),
    group: int | None = None,
    *,
    sibling: bool = False,
) -> SandboxNamespaces:
    """Make the sandbox's namespaces and pin each as <ns_dir>/<name>; start the init where pids are shared.

    To be called in the shim (single-threaded, in the host's mount namespace). ns_dir is made when missing.
    init_cgroups: descriptors open for writing on the cgroup.procs (v1: tasks) files that the init joins; group: the
    directory of a v2 cgroup that it is born in.
    The init is a child of the caller, who reaps it; when it ends, every member of the pid namespace is killed.
    sibling: it is a child of the caller's parent instead, who reaps it also when this fails; and the caller, being
    there for making alone, moves into the sandbox's namespaces itself, which spares a fork.
    Raises a podd.errors kind; nothing is then left pinned.
    """
    paths = {name: _sysctl_path(name, plan) for name in plan["sysctls"]}
    init = None
    try:
        os.makedirs(ns_dir, mode=0o700, exist_ok=True)
        own = shared_namespaces(plan)
        if own and sibling:
            _make(plan, own, ns_dir, paths)
        elif own:
            _in_child(lambda: _make(plan, own, ns_dir, paths))
        if plan["pid"] == "pod":
            init = _start_init(own, ns_dir, init_cgroups, group, sibling=sibling)
            with doing("pid namespace"):
                namespaces.pin("pid", f"{ns_dir}/pid", str(init))
        return SandboxNamespaces(_inodes(plan, ns_dir), init)
    except BaseException:
        if init is not None:
            os.kill(init, signal.SIGKILL)
            if not sibling:
                os.waitpid(init, 0)
        unpin_namespaces(ns_dir)
        raise


def unpin_namespaces(ns_dir: str) -> None:
    """Unmount and remove every pin and the directory. Of what is not there: quiet success."""
    with suppress(FileNotFoundError):
        for name in os.listdir(ns_dir):
            namespaces.unpin(f"{ns_dir}/{name}")
        os.rmdir(ns_dir)


def mount_shm(plan: SandboxPlan) -> None:
    """Mount the pod's /dev/shm, sized, on <run_dir>/shm; nothing where ipc is the node's. Again: nothing.

    What members write there is charged to the cgroup of who writes it, and stays with the pod's when that is gone.
    """
    path = f"{plan['run_dir']}/shm"
    if plan["ipc"] == "node" or os.path.ismount(path):
        return
    with doing("/dev/shm of the pod"):
        os.makedirs(path, mode=0o700, exist_ok=True)
        target = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        shm = mounts.tmpfs(0o1777, plan["shm_size_bytes"], mounts.NO_EXEC)
        move_mount(shm, target)
        os.close(shm)
        os.close(target)


def _inodes(plan: SandboxPlan, ns_dir: str) -> dict[str, int]:
    scopes = {"net": plan["net"], "ipc": plan["ipc"], "uts": plan["uts"], "pid": plan["pid"]}
    places = {"pod": ns_dir, "node": "/proc/self/ns"}
    return {name: os.stat(f"{places[scope]}/{name}").st_ino for name, scope in scopes.items() if scope in places}


# ---- the short-lived child -------------------------------------------------------------------------------------------


def _in_child(work: Callable[[], None]) -> None:
    """Run work in a fork and wait for it; its error is raised here."""
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _report(write, work)
    os.close(write)
    with open(read, "rb") as pipe:
        message = pipe.read()
    _, status = os.waitpid(pid, 0)
    if message:
        error = json.loads(message)
        raise BY_KIND[Kind(error["kind"])](error["error"], remedy=error["remedy"])
    if status != 0:
        raise Unavailable(f"sandbox: its helper was ended by status {status}")


def _report(write: int, work: Callable[[], None]) -> NoReturn:
    try:
        prctl(Prctl.SET_PDEATHSIG, signal.SIGKILL)
        work()
        os._exit(0)
    except BaseException as exc:  # noqa: BLE001 whatever it is, the parent must hear of it
        os.write(write, json.dumps(as_message(exc)).encode())
        os._exit(1)


def _make(plan: SandboxPlan, own: Sequence[str], ns_dir: str, sysctls: dict[str, str]) -> None:
    with doing("namespaces"):
        unshare(namespaces.flags(own))
    if plan["hostname"] and "uts" in own:
        with doing(f"hostname {plan['hostname']}", Invalid):
            socket.sethostname(plan["hostname"])
    if "net" in own:
        with doing("interface lo"):
            _bring_up("lo")
    if sysctls:
        _apply(sysctls, plan["sysctls"])
    for name in own:
        with doing(f"pin of {name}"):
            namespaces.pin(name, f"{ns_dir}/{name}")


def _bring_up(interface: str) -> None:
    """Set IFF_UP. Source: netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = struct.pack("16sH14x", interface.encode(), 0)
        flags = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", interface.encode(), flags | _IFF_UP))


def _sysctl_path(name: str, plan: SandboxPlan) -> str:
    """The file below /proc/sys of a sysctl that belongs to one of the sandbox's own namespaces.

    With "." as the first separator the two are exchanged, as sysctl(8) has it: net/ipv4/conf/eth0.1/rp_filter.
    Raises Invalid: the value or the name is malformed, or the sysctl is not the sandbox's to set.
    """
    value = plan["sysctls"][name]
    first, _, _ = name.partition(".")
    path = name if "/" in first else name.translate({ord("."): "/", ord("/"): "."})
    if any(part in ("", ".", "..") for part in path.split("/")) or not path.isprintable():
        raise Invalid(f'sysctl "{name}": malformed name')
    if not value.isprintable():
        raise Invalid(f"sysctl {name}: its value has control characters")
    if not path.startswith(tuple(prefix for own in shared_namespaces(plan) for prefix in SYSCTLS.get(own, ()))):
        raise Invalid(
            f"sysctl {name}: it would change the node, not the pod",
            remedy="set it on the host, or give the pod its own network or ipc namespace",
        )
    return path


def _apply(paths: dict[str, str], values: dict[str, str]) -> None:
    """Write each value through a procfs of our own, on which nothing can be mounted and no name redirected."""
    proc = mounts.filesystem("proc", attributes=mounts.NO_EXEC)
    inside = Resolve.BENEATH | Resolve.NO_XDEV | Resolve.NO_SYMLINKS
    for name, path in paths.items():
        with doing(f"sysctl {name} = {values[name]}", Invalid):
            fd = openat2(proc, f"sys/{path}", os.O_WRONLY, inside)
            os.write(fd, values[name].encode())
            os.close(fd)


# ---- the init of a shared pid namespace ------------------------------------------------------------------------------


def _start_init(own: Sequence[str], ns_dir: str, cgroups: Sequence[int], group: int | None, *, sibling: bool) -> int:
    """Fork the init and wait until it has shed everything; its pid."""
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = namespaces.fork_in_new_pid_namespace(partial(fork_into, group, sibling=sibling))
    if pid == 0:
        _become_init(write, own, ns_dir, cgroups)
    os.close(write)
    with open(read, "rb") as pipe:
        message = pipe.read()
    if message:
        if not sibling:
            os.waitpid(pid, 0)
        error = json.loads(message)
        raise BY_KIND[Kind(error["kind"])](error["error"], remedy=error["remedy"])
    return pid


def _become_init(write: int, own: Sequence[str], ns_dir: str, cgroups: Sequence[int]) -> NoReturn:
    """Reap and nothing else: no file, no right, no memory to speak of.

    With SIGCHLD ignored the kernel reaps every orphan by itself. From inside the namespace no signal without a handler
    reaches its first process.
    """
    try:
        credentials.guard_process()
        program = _pause_program()
        for fd in cgroups:
            os.write(fd, b"0")
        for name in own:
            namespaces.join(name, f"{ns_dir}/{name}")
        unshare(CloneFlag.CGROUP)
        enter_mount_namespace(mounts.tmpfs(0o555, 4096, mounts.NO_EXEC | MountAttr.RDONLY))
        os.setsid()
        credentials.reset_signals()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        set_process_name(INIT_NAME)
        capabilities.limit_bounding_set(0)
        capabilities.hold(0, 0)
        prctl(Prctl.SET_NO_NEW_PRIVS, 1)
        if program is not None:
            close_all_but((program, write))
            os.execve(program, [INIT_NAME], {})
        close_all_but(())
    except BaseException as exc:  # noqa: BLE001 whatever it is, the parent must hear of it
        os.write(write, json.dumps(as_message(exc)).encode())
        os._exit(1)
    while True:
        signal.pause()


def _pause_program() -> int | None:
    """None: the init has to stay what it is, an interpreter that waits."""
    try:
        return pause_program(INIT_NAME)
    except OSError:
        return None
