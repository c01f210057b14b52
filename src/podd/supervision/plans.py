"""From what a driver is told to what a shim is told."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from podd.driver.contract import ContainerConfig, Exit, Limits, Observed, SandboxConfig, Security
from podd.driver.hookspecs import DriverPaths
from podd.errors import Invalid, NotFound, Unsupported
from podd.images.storage import ImageConfig, Storage
from podd.linux import capabilities
from podd.model import signals
from podd.model.value import Value
from podd.network.call import Wanted
from podd.shim.plan import ContainerPlan, ExitRecord, LimitsPlan, MountPlan, SandboxPlan, SweepPlan
from podd.supervision.section import Section

ROOTFS = "rootfs:"

MASKED_PROC = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
)
MASKED_SYS = ("/sys/devices/virtual/powercap", "/sys/firmware")
READ_ONLY_PROC = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What the kernel shows of the host through a container's /proc and /sys, hidden or made read-only as the container
engines do by agreement. Source: the defaults of containerd, CRI-O and Docker, 2025."""


class Places(Value):
    """Where this driver keeps things."""

    run_dir: str
    containers_dir: str
    cgroup_parent: str

    @classmethod
    def of(cls, paths: DriverPaths, cgroup_parent: str, apart: str = "") -> Places:
        """apart: the name of the part of each that is this driver's alone; what lies there is its own to sweep."""
        below = f"/{apart}" if apart else ""
        return cls(
            run_dir=f"{paths.run_dir}{below}/pods",
            containers_dir=f"{paths.state_dir}{below}/containers",
            cgroup_parent=f"{cgroup_parent}{below}",
        )

    def sandbox_dir(self, sandbox: str) -> str:
        return f"{self.run_dir}/{sandbox}"

    def cgroup(self, sandbox: str) -> str:
        return f"{self.cgroup_parent}/{sandbox}"

    def sweep_plan(self, sandbox: str) -> SweepPlan:
        return {
            "id": sandbox,
            "run_dir": self.sandbox_dir(sandbox),
            "containers_dir": self.containers_dir,
            "cgroup": self.cgroup(sandbox),
            "keep_logs": True,
        }


class Root(NamedTuple):
    """What a container's root is made of, and how that is to be run."""

    lowers: Sequence[str]
    image: ImageConfig = ImageConfig()
    image_id: str = ""  # "" for a directory


def sandbox_plan(config: SandboxConfig, places: Places) -> SandboxPlan:
    """Raises Unsupported: a namespace of a scope that is not to be had."""
    scopes = config.namespaces
    for name in ("net", "ipc", "uts"):
        if getattr(scopes, name) == "container":
            raise Unsupported(f"sandbox {config.id}: {name} namespaces of single containers: this driver shares them")
    return {
        "id": config.id,
        "run_dir": places.sandbox_dir(config.id),
        "containers_dir": places.containers_dir,
        "cgroup": places.cgroup(config.id),
        "limits": limits_plan(config.limits),
        "hostname": config.hostname if scopes.uts == "pod" else "",
        "net": "node" if scopes.net == "node" else "pod",
        "ipc": "node" if scopes.ipc == "node" else "pod",
        "uts": "node" if scopes.uts == "node" else "pod",
        "pid": scopes.pid,
        "runtime": None,
        "sysctls": dict(config.sysctls),
        "shm_size_bytes": config.shm_size_bytes,
        "log_directory": config.log_directory,
        "meta": {"uid": config.pod_uid, "name": config.pod_name, "namespace": config.pod_namespace},
    }


def wanted_network(config: SandboxConfig, places: Places) -> Wanted | None:
    """None where the pod has the host's network."""
    if config.namespaces.net == "node":
        return None
    return Wanted(
        sandbox=config.id,
        netns=f"{places.sandbox_dir(config.id)}/ns/net",
        pod_uid=config.pod_uid,
        pod_name=config.pod_name,
        pod_namespace=config.pod_namespace,
        ports=config.ports,
        ingress_bits=config.ingress_bits,
        egress_bits=config.egress_bits,
        dns=config.dns,
        annotations=config.annotations,
    )


def container_plan(config: ContainerConfig, root: Root, section: Section) -> ContainerPlan:
    """Without its seccomp filter, which is made elsewhere.

    Raises Invalid: no command, an unknown capability, a NUL.
    """
    security = config.security
    plan: ContainerPlan = {
        "id": config.id,
        "name": config.name,
        "lowers": [*root.lowers],
        "argv": argv(config, root.image),
        "env": [*root.image.env, *config.env],
        "working_dir": config.working_dir or posixpath.join("/", root.image.working_dir),
        "mounts": [
            MountPlan(
                host_path=mount.host_path,
                container_path=mount.container_path,
                read_only=mount.read_only,
                recursive_read_only=mount.recursive_read_only,
                propagation=mount.propagation,
                sub_path=mount.sub_path,
            )
            for mount in config.mounts
        ],
        "tty": config.tty,
        "stdin": config.stdin,
        "stdin_once": config.stdin_once,
        "limits": limits_plan(config.limits),
        "image_user": root.image.user,
        "image_volumes": image_volumes(config, root.image),
        "uid": security.uid,
        "gid": security.gid,
        "supplemental_groups": list(security.supplemental_groups),
        "run_as_non_root": security.run_as_non_root,
        "privileged": security.privileged,
        "capabilities": granted(config),
        "no_new_privileges": security.no_new_privileges,
        "read_only_rootfs": security.read_only_rootfs,
        "seccomp_bpf": "",
        "seccomp_oci": None,
        "masked_paths": masked_paths(security),
        "read_only_paths": read_only_paths(security),
        "rlimits": {},
        "oom_score_adj": config.oom_score_adj,
        "pid_target": config.pid_target or "",
        "log_path": config.log_path,
        "log_max_bytes": section.log_max_bytes or config.log_max_bytes,
        "log_max_files": section.log_max_files or config.log_max_files,
    }
    _refuse_nul(plan, config)
    return plan


def stored(config: ContainerConfig, storage: Storage) -> Root:
    """Of the container's image. Blocks. Raises as Storage.layers and Storage.config."""
    found = storage.find(config.image_id or config.image)
    if found is None:
        raise NotFound(
            f"container {config.name}: image {config.image!r}: it is not here",
            remedy=f"podd-cli image pull {config.image}",
            field="image",
        )
    return Root(storage.layers(found.id), storage.config(found.id), found.id)


def directory(config: ContainerConfig) -> str | None:
    """That an image "rootfs:/directory" names. That it exists is looked at by the shim. None: it is a reference."""
    if not config.image.startswith(ROOTFS):
        return None
    directory = config.image.removeprefix(ROOTFS)
    if not directory.startswith("/"):
        raise Invalid(
            f"container {config.name}: image {config.image!r}: {directory!r} is not an absolute path",
            remedy="use image: rootfs:/some/directory",
            field="image",
        )
    return directory


def argv(config: ContainerConfig, image: ImageConfig) -> list[str]:
    """As Kubernetes has it: a command replaces all that the image says, args alone replace its cmd."""
    said = (*image.entrypoint, *(config.args or image.cmd))
    words = [*config.command, *config.args] if config.command else [*said]
    if not words:
        whose = "a directory" if config.image.startswith(ROOTFS) else f"image {config.image!r}"
        raise Invalid(
            f"container {config.name}: no command: {whose} has no entrypoint of its own",
            remedy="set command (or args)",
            field="command",
        )
    return words


def image_volumes(config: ContainerConfig, image: ImageConfig) -> list[str]:
    """The directories of their own that the image wants, outer ones first; not those where the pod mounts something,
    nor where the system is."""
    wanted = {posixpath.normpath(posixpath.join("/", path.lstrip("/"))) for path in image.volumes} - {"/"}
    taken = [posixpath.normpath(mount.container_path) for mount in config.mounts] + ["/proc", "/sys", "/dev"]
    return sorted(path for path in wanted if not any(f"{path}/".startswith(f"{one}/") for one in taken))


def stop_signal(root: Root) -> int | None:
    """That the image wants. None: none, or one that there is not."""
    return signals.parse(root.image.stop_signal) if root.image.stop_signal else None


def masked_paths(security: Security) -> list[str]:
    if security.privileged:
        return []
    return [*MASKED_SYS] if security.unmasked_proc else [*MASKED_PROC, *MASKED_SYS]


def read_only_paths(security: Security) -> list[str]:
    return [] if security.privileged or security.unmasked_proc else [*READ_ONLY_PROC]


def limits_plan(limits: Limits) -> LimitsPlan:
    return {
        "cpu_quota_us": limits.cpu_quota_us,
        "cpu_period_us": limits.cpu_period_us,
        "cpu_shares": limits.cpu_shares,
        "memory_bytes": limits.memory_bytes,
        "pids": limits.pids,
    }


def limits(plan: LimitsPlan) -> Limits:
    return msgspec.convert(dict(plan), Limits)


def observed(namespaces: Mapping[str, int], cgroup: str, found: LimitsPlan) -> Observed:
    return Observed(namespaces=namespaces, cgroup=cgroup, limits=limits(found))


def exit_of(record: ExitRecord) -> Exit:
    return msgspec.convert(record, Exit)


def granted(config: ContainerConfig) -> int:
    """The mask of its capabilities. Raises Invalid: there is no such capability."""
    security = config.security
    if security.privileged:
        return capabilities.ALL
    try:
        return capabilities.granted(security.capabilities_add, security.capabilities_drop)
    except Invalid as exc:
        raise Invalid(f"container {config.name}: {exc.message}", remedy=exc.remedy, **exc.facts) from exc


def _refuse_nul(plan: ContainerPlan, config: ContainerConfig) -> None:
    mounts = plan["mounts"]
    texts = {
        "command": plan["argv"],
        "env": [part for pair in plan["env"] for part in pair],
        "workingDir": [plan["working_dir"]],
        "image": [config.image, plan["image_user"], *plan["image_volumes"]],
        "volumeMounts": [path for m in mounts for path in (m["host_path"], m["container_path"], m["sub_path"])],
    }
    for field, values in texts.items():
        if any("\0" in value for value in values):
            raise Invalid(f"container {config.name}: {field} holds a NUL character", field=field)
    for name, _ in plan["env"]:
        if not name or "=" in name:
            raise Invalid(f"container {config.name}: env {name!r} is no name of a variable", field="env")
