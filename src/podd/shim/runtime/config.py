"""A plan in the words of the OCI runtime specification 1.0: config.json, and the process of an exec."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from podd.linux.capabilities import mask_of, names_of
from podd.linux.syscalls import capget
from podd.shim.credentials import NOFILE, Identity
from podd.shim.plan import ContainerPlan, SandboxPlan
from podd.shim.rootfs import DEVICES
from podd.shim.sandbox import shared_namespaces

VERSION = "1.0.2"
_NAMES = {"net": "network", "ipc": "ipc", "uts": "uts", "pid": "pid"}
_NO_EXEC = ["nosuid", "noexec", "nodev"]
_PROPAGATION = {"private": "rprivate", "host-to-container": "rslave", "bidirectional": "rshared"}


class Bind(NamedTuple):
    """What is mounted from the host, at `source` in the mount namespace that the runtime is started in.

    options: the attributes that its mount has ("ro", "nosuid"), which a runtime may take from it if they are not named.
    """

    source: str
    path: str
    mode: int  # st_mode
    device: int = 0  # st_rdev
    propagation: str = "private"
    options: Sequence[str] = ()


class User(NamedTuple):
    """Who a process is, with which capabilities, and how soon it is to be killed for want of memory."""

    identity: Identity
    capabilities: int
    oom_score_adj: int | None = None  # None: as it is


def oom_score_adj(plan: ContainerPlan, notes: list[str]) -> int | None:
    """What this host lets it be: lowering it takes a capability that podd may lack, and then a runtime fails."""
    wanted = plan["oom_score_adj"]
    if wanted is None or capget().effective & mask_of(["SYS_RESOURCE"]):
        return wanted
    with open("/proc/self/oom_score_adj", "rb", buffering=0) as file:
        own = int(file.read())
    if wanted >= own:
        return wanted
    notes.append(f"oom_score_adj {wanted}: not permitted here")
    return None


class Given(NamedTuple):
    """What a plan leaves open. root: the directory that is to be the container's, ready but for its mounts."""

    root: str
    binds: Sequence[Bind]
    user: User
    environment: Mapping[str, str]
    pid_namespace: str  # the path of another container's, to share; "" for one as the sandbox has it


def container(sandbox: SandboxPlan, plan: ContainerPlan, given: Given) -> dict[str, Any]:
    """config.json."""
    privileged = plan["privileged"]
    shares = any(bind.propagation == "bidirectional" for bind in given.binds)
    linux = {
        "namespaces": _namespaces(sandbox, given.pid_namespace),
        "cgroupsPath": f"/{sandbox['cgroup']}/{plan['id']}",
        "rootfsPropagation": "rshared" if shares else "rslave",
        "maskedPaths": plan["masked_paths"],
        "readonlyPaths": plan["read_only_paths"],
        "resources": {"devices": _devices(given.binds, privileged=privileged)},
    }
    if plan["seccomp_oci"] is not None:
        linux["seccomp"] = plan["seccomp_oci"]
    return {
        "ociVersion": VERSION,
        "root": {"path": given.root, "readonly": plan["read_only_rootfs"]},
        "process": process(plan, plan["argv"], given.environment, given.user, tty=plan["tty"]),
        "mounts": _mounts(given.binds, privileged=privileged),
        "linux": linux,
    }


def process(
    plan: ContainerPlan,
    argv: Sequence[str],
    environment: Mapping[str, str],
    user: User,
    *,
    tty: bool,
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The process of a container or of an exec in one. size: of its terminal, rows and columns."""
    identity, names = user.identity, [f"CAP_{name}" for name in names_of(user.capabilities)]
    held = names if identity.uid == 0 else []
    made: dict[str, Any] = {
        "terminal": tty,
        "user": {"uid": identity.uid, "gid": identity.gid, "additionalGids": list(identity.groups), "umask": 0o022},
        "args": list(argv),
        "env": [f"{name}={value}" for name, value in environment.items()],
        "cwd": plan["working_dir"] or "/",
        "capabilities": {"bounding": names, "effective": held, "permitted": held, "inheritable": [], "ambient": []},
        "noNewPrivileges": plan["no_new_privileges"],
        "rlimits": _rlimits(plan),
    }
    if user.oom_score_adj is not None:
        made["oomScoreAdj"] = user.oom_score_adj
    if size is not None:
        made["consoleSize"] = {"height": size[0], "width": size[1]}
    return made


def _namespaces(sandbox: SandboxPlan, beside: str) -> list[dict[str, str]]:
    """The pod's by their pins; those of the node are left out, as the runtime is in them already."""
    pinned = shared_namespaces(sandbox) + (["pid"] if sandbox["pid"] == "pod" else [])
    shared = [{"type": _NAMES[name], "path": f"{sandbox['run_dir']}/ns/{name}"} for name in pinned]
    own = [{"type": "mount"}, {"type": "cgroup"}]
    if sandbox["pid"] == "container":
        own.append({"type": "pid", "path": beside} if beside else {"type": "pid"})
    return shared + own


def _mounts(binds: Sequence[Bind], *, privileged: bool) -> list[dict[str, Any]]:
    """Outer places first: the host's /dev, where it is given, comes before what is mounted in it."""
    read_only = [] if privileged else ["ro"]
    dev = _mount("/dev", "tmpfs", ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"])
    host_dev = [_bind(bind) for bind in binds if bind.path == "/dev"]
    return [
        _mount("/proc", "proc", _NO_EXEC),
        *(host_dev or [dev]),
        _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        _mount("/dev/mqueue", "mqueue", _NO_EXEC),
        _mount("/sys", "sysfs", [*_NO_EXEC, *read_only]),
        _mount("/sys/fs/cgroup", "cgroup", [*_NO_EXEC, "relatime", *read_only]),
        *(_bind(bind) for bind in binds if bind.path != "/dev"),
    ]


def _mount(path: str, kind: str, options: Sequence[str]) -> dict[str, Any]:
    return {"destination": path, "type": kind, "source": kind, "options": list(options)}


def _bind(bind: Bind) -> dict[str, Any]:
    """Mounts below it keep what they have."""
    options = ["rbind", _PROPAGATION[bind.propagation], *bind.options]
    return {"destination": bind.path, "type": "bind", "source": bind.source, "options": options}


def _devices(binds: Sequence[Bind], *, privileged: bool) -> list[dict[str, Any]]:
    """What may be opened. Devices that are mounted by name may be used, as the pod's author has asked for it."""
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    known = [("c", major, minor) for major, minor in DEVICES.values()]
    terminals = [("c", 5, 2), ("c", 136, None)]
    asked = [
        ("b" if stat.S_ISBLK(bind.mode) else "c", os.major(bind.device), os.minor(bind.device))
        for bind in binds
        if stat.S_ISBLK(bind.mode) or stat.S_ISCHR(bind.mode)
    ]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for kind, major, minor in (*known, *terminals, *asked):
        rule = {"allow": True, "type": kind, "major": major, "minor": minor, "access": "rwm"}
        rules.append({key: value for key, value in rule.items() if value is not None})
    return rules


def _rlimits(plan: ContainerPlan) -> list[dict[str, Any]]:
    """As far as this host lets: what is beyond would make the runtime fail."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = {"RLIMIT_NOFILE": (min(NOFILE, most), most), **plan["rlimits"]}
    return [{"type": name, "soft": soft, "hard": hard} for name, (soft, hard) in limits.items()]
