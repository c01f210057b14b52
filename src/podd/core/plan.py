"""From a Pod to what a driver is told: every default applied, every reference resolved, nothing left to guess.

Pure: the same pod, ids and host give the same configs, today and after a restart. Nothing is shared between two
calls, so nothing of one container can reach another. Where Kubernetes leaves a choice to the kubelet, the choice
is the kubelet's. The manifest was checked before (`podd.model.manifest`); what is impossible does not reach this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from podd.core import network, resources
from podd.core.environment import environment, expand, expand_whole
from podd.core.projection import Files, files, is_projected
from podd.core.sources import NOTHING, Sources
from podd.driver.contract import ContainerConfig, Mount, NamespaceScopes, Propagation, SandboxConfig, Security
from podd.errors import Invalid
from podd.model import hostnames
from podd.model.annotations import EGRESS, INGRESS
from podd.model.ids import ContainerId, PodUid, SandboxId
from podd.model.pod import Container, Pod, SeccompProfile, Volume, VolumeMount
from podd.model.quantity import whole
from podd.model.value import Value
from podd.model.volume_rules import parts_of

MESSAGES = ".messages"  # no volume has this name
NAME_MAX = 255  # of one part of a path, on every file system of Linux


class Host(Value):
    """What the plan must know of the host."""

    state_dir: str  # absolute
    log_dir: str  # absolute; "" keeps no logs
    memory_bytes: int  # all of it; scales oom_score_adj
    node_name: str = ""  # what pods are told
    cpus: int = 1
    storage_bytes: int = 0  # of the file system of state_dir


class EmptyDir(Value, tag_field="kind", tag=True):
    """A directory that lives as long as its pod."""

    name: str
    path: str  # absolute; `volume_path`
    medium: str  # "": a directory on disk; "Memory": a tmpfs
    size_limit_bytes: int | None  # of a Memory one never more than the pod's memory limit
    fs_group: int | None  # its group, with the set-group-id bit


class HostPath(Value, tag_field="kind", tag=True):
    """Something of the host, to be checked against its type, and made where the type says so."""

    name: str
    path: str
    type: str  # as in the manifest; "" checks nothing


class Projected(Value, tag_field="kind", tag=True):
    """Files that podd writes, and nobody else: never on a disk, and seen by every container read-only."""

    name: str
    path: str  # absolute; `volume_path`
    files: Files
    fs_group: int | None  # their group


VolumePlan = EmptyDir | HostPath | Projected


# ---- the sandbox -----------------------------------------------------------------------------------------------------


def sandbox_config(pod: Pod, sandbox_id: SandboxId, attempt: int, host: Host) -> SandboxConfig:
    """pod.metadata.uid must be set. attempt: 0 for the pod's first sandbox."""
    return SandboxConfig(
        id=sandbox_id,
        pod_uid=PodUid(pod.metadata.uid),
        pod_name=pod.metadata.name,
        pod_namespace=pod.metadata.namespace,
        attempt=attempt,
        hostname=hostnames.hostname(pod),
        domain=hostnames.domain(pod),
        namespaces=namespace_scopes(pod),
        limits=resources.pod_limits(pod.spec),
        sysctls={sysctl_name(sysctl.name): sysctl.value for sysctl in pod.spec.security_context.sysctls},
        log_directory=log_directory(pod, host.log_dir),
        labels=dict(pod.metadata.labels),
        annotations=dict(pod.metadata.annotations),
        ports=network.port_mappings(pod),
        dns=network.dns(pod),
        host_aliases=network.host_aliases(pod),
        ingress_bits=network.bits(pod, INGRESS),
        egress_bits=network.bits(pod, EGRESS),
    )


def namespace_scopes(pod: Pod) -> NamespaceScopes:
    """With the host's network goes the host's name: a program that asks for either means the same machine."""
    spec = pod.spec
    pid = "node" if spec.host_pid else "pod" if spec.share_process_namespace else "container"
    return NamespaceScopes(
        net="node" if spec.host_network else "pod",
        ipc="node" if spec.host_ipc else "pod",
        uts="node" if spec.host_network else "pod",
        pid=pid,  # type: ignore[arg-type]
    )


def sysctl_name(name: str) -> str:
    """With dots between the parts, as sysctl(8) does: in the form with slashes a dot is part of a name, and back."""
    first = re.search(r"[./]", name)
    return name.translate(str.maketrans("./", "/.")) if first and first[0] == "/" else name


def log_directory(pod: Pod, log_dir: str) -> str:
    """<log_dir>/<namespace>_<name>_<uid>. A name that is too long for one part of a path is cut; the uid tells."""
    if not log_dir:
        return ""
    meta = pod.metadata
    room = NAME_MAX - len(f"{meta.namespace}__{meta.uid}")
    return f"{log_dir}/{meta.namespace}_{meta.name[:room]}_{meta.uid}"


def log_path(pod: Pod, name: str, attempt: int, host: Host) -> str:
    """Of one instance of a container; "" where no logs are kept."""
    logs = log_directory(pod, host.log_dir)
    return f"{logs}/{name}/{attempt}.log" if logs else ""


# ---- a container -----------------------------------------------------------------------------------------------------


def container_config(
    pod: Pod,
    container: Container,
    container_id: ContainerId,
    sandbox_id: SandboxId,
    attempt: int,
    host: Host,
    sources: Sources = NOTHING,
) -> ContainerConfig:
    """attempt: 0 for the first instance of this container, then one more with each restart.

    Raises NotFound, Invalid: what its environment or a subPathExpr refers to is not there, or cannot be used.
    """
    env = environment(pod, container, sources)
    return ContainerConfig(
        id=container_id,
        sandbox_id=sandbox_id,
        name=container.name,
        attempt=attempt,
        image=container.image,
        command=[expand(word, env) for word in container.command],
        args=[expand(word, env) for word in container.args],
        env=list(env.items()),
        working_dir=container.working_dir,
        mounts=[*mounts(pod, container, host, env), *_message_mount(pod, container, container_id, host)],
        tty=container.tty,
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        limits=resources.container_limits(container),
        security=security(pod, container, host),
        log_path=log_path(pod, container.name, attempt, host),
        oom_score_adj=resources.oom_score_adj(pod.spec, container, host.memory_bytes),
    )


def security(pod: Pod, container: Container, host: Host) -> Security:
    """The container's own security context over the pod's over the defaults."""
    of_pod, own = pod.spec.security_context, container.security_context
    user = own.run_as_user if own.run_as_user is not None else of_pod.run_as_user
    group = own.run_as_group if own.run_as_group is not None else of_pod.run_as_group
    non_root = own.run_as_non_root if own.run_as_non_root is not None else of_pod.run_as_non_root
    groups = (*of_pod.supplemental_groups, *(() if of_pod.fs_group is None else (of_pod.fs_group,)))
    return Security(
        uid=user,
        gid=group,
        supplemental_groups=list(dict.fromkeys(groups)),
        run_as_non_root=bool(non_root),
        privileged=bool(own.privileged),
        capabilities_add=own.capabilities.add if own.capabilities else (),
        capabilities_drop=own.capabilities.drop if own.capabilities else (),
        no_new_privileges=own.allow_privilege_escalation is False,
        read_only_rootfs=bool(own.read_only_root_filesystem),
        seccomp=seccomp(bool(own.privileged), own.seccomp_profile or of_pod.seccomp_profile, host),
        unmasked_proc=own.proc_mount == "Unmasked",
    )


def seccomp(privileged: bool, profile: SeccompProfile | None, host: Host) -> str:
    """As the contract writes it. Nobody filters a privileged container; who asks for nothing gets RuntimeDefault."""
    if privileged:
        return "unconfined"
    match profile:
        case SeccompProfile(type="Unconfined"):
            return "unconfined"
        case SeccompProfile(type="Localhost", localhost_profile=str() as name):
            return f"localhost/{host.state_dir}/seccomp/{name}"
    return "runtime/default"


# ---- volumes ---------------------------------------------------------------------------------------------------------


_PROPAGATION: dict[str | None, Propagation] = {
    None: "private",
    "None": "private",
    "HostToContainer": "host-to-container",
    "Bidirectional": "bidirectional",
}


def mounts(pod: Pod, container: Container, host: Host, env: Mapping[str, str]) -> Sequence[Mount]:
    """Outer paths before inner ones, so that no mount hides another. What podd writes, containers only read."""
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    wanted = [
        Mount(
            host_path=_host_path(pod, volumes[mount.name], host),
            container_path=mount.mount_path,
            read_only=mount.read_only or is_projected(volumes[mount.name]),
            recursive_read_only=mount.recursive_read_only in ("IfPossible", "Enabled"),
            propagation=_PROPAGATION[mount.mount_propagation],
            sub_path=_sub_path(mount, env),
        )
        for mount in container.volume_mounts
    ]
    return sorted(wanted, key=lambda mount: len(PurePosixPath(mount.container_path).parts))


def messages_directory(pod: Pod, host: Host) -> str:
    """Where the termination messages of the pod's containers lie, and nothing else."""
    return volume_path(host, pod.metadata.uid, MESSAGES)


def message_path(pod: Pod, container_id: ContainerId, host: Host) -> str:
    """Of one instance of a container."""
    return f"{messages_directory(pod, host)}/{container_id}"


def _message_mount(pod: Pod, container: Container, container_id: ContainerId, host: Host) -> Iterator[Mount]:
    """In the host's own /dev, which a privileged container has, and one that mounts another there, nothing is made."""
    path = container.termination_message_path
    foreign_dev = container.security_context.privileged or any(
        PurePosixPath(mount.mount_path) == PurePosixPath("/dev") for mount in container.volume_mounts
    )
    if not (foreign_dev and PurePosixPath(path).is_relative_to("/dev")):
        yield Mount(host_path=message_path(pod, container_id, host), container_path=path)


def _sub_path(mount: VolumeMount, env: Mapping[str, str]) -> str:
    """Raises NotFound: a variable is not there; Invalid: with the values that they have it leads elsewhere."""
    if not mount.sub_path_expr:
        return mount.sub_path
    path = expand_whole(mount.sub_path_expr, env)
    if path.startswith("/") or ".." in path.split("/") or "\0" in path or not parts_of(path):
        raise Invalid(f"subPathExpr {mount.sub_path_expr} of {mount.mount_path}: leads to no place in the volume")
    return path


def volumes(pod: Pod, host: Host, sources: Sources = NOTHING) -> tuple[VolumePlan, ...]:
    """What must be there before the first container is created. Raises as `projection.files`."""
    return tuple(_volume(pod, volume, host, sources) for volume in pod.spec.volumes)


def projected(pod: Pod, volume: Volume, host: Host, sources: Sources) -> Projected:
    """Of a volume that podd writes, and may write again while the pod runs. Raises as `projection.files`."""
    return Projected(
        name=volume.name,
        path=_host_path(pod, volume, host),
        files=files(pod, volume, sources),
        fs_group=pod.spec.security_context.fs_group,
    )


def volume_path(host: Host, uid: str, name: str) -> str:
    """Where a volume that podd makes lies: <state_dir>/volumes/<pod uid>/<volume name>."""
    return f"{host.state_dir}/volumes/{uid}/{name}"


def _host_path(pod: Pod, volume: Volume, host: Host) -> str:
    return volume.host_path.path if volume.host_path else volume_path(host, pod.metadata.uid, volume.name)


def _volume(pod: Pod, volume: Volume, host: Host, sources: Sources) -> VolumePlan:
    if is_projected(volume):
        return projected(pod, volume, host, sources)
    path = _host_path(pod, volume, host)
    if volume.host_path:
        return HostPath(name=volume.name, path=path, type=volume.host_path.type)
    assert volume.empty_dir is not None, "the manifest was checked: a volume has one source"
    bounds = [whole(volume.empty_dir.size_limit or "0")]
    if volume.empty_dir.medium == "Memory":
        bounds.append(resources.pod_limits(pod.spec).memory_bytes or 0)
    return EmptyDir(
        name=volume.name,
        path=path,
        medium=volume.empty_dir.medium,
        size_limit_bytes=min(filter(None, bounds), default=None),  # 0 is no limit, as in Kubernetes
        fs_group=pod.spec.security_context.fs_group,
    )
