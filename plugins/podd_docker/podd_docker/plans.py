"""From what a driver is told to what dockerd is told. Pure."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping
from typing import Any

from podd.driver.contract import ContainerConfig, Limits, Mount, SandboxConfig
from podd.errors import Invalid, Unsupported
from podd.linux import capabilities
from podd.model import signals
from podd.supervision.plans import granted, masked_paths, read_only_paths
from podd_docker import groups, holder
from podd_docker.config import Section
from podd_docker.handles import SandboxState

Body = dict[str, Any]

OWNER = "io.podd.owner"  # which podd: its run directory
ID = "io.podd.id"
SANDBOX = "io.podd.sandbox"
KIND = "io.podd.kind"
POD_UID = "io.podd.pod.uid"
POD = "io.podd.pod"  # for people
NAME = "io.podd.name"
CONFIG = "io.podd.config"  # by which an object of the same name is known to be the same
SHAPE = "io.podd.shape"  # of a sandbox: what its members need to know
LOG = "io.podd.log"

HOLDER, MEMBER = "holder", "member"
MEMORY_LEAST = 6 << 20

_PROPAGATION = {"private": "rprivate", "host-to-container": "rslave", "bidirectional": "rshared"}


def name_of(of: str) -> str:
    """The name of the docker container for a sandbox's holder, or for a container: chosen before it is made."""
    return f"podd-{of}"


# ---- sandboxes -------------------------------------------------------------------------------------------------------


def holder_body(config: SandboxConfig, owner: str, section: Section, cgroup: str, seccomp: str) -> Body:
    """seccomp: the profile as JSON.

    Raises Unsupported: a namespace of a scope that is not to be had."""
    scopes = config.namespaces
    for name in ("net", "ipc"):
        if getattr(scopes, name) == "container":
            raise Unsupported(f"sandbox {config.id}: {name} namespaces of single containers: this driver shares them")
    host_config = {
        "CgroupParent": groups.as_parent(cgroup),
        "CgroupnsMode": "private",
        "IpcMode": "host" if scopes.ipc == "node" else "shareable",
        "UTSMode": "host" if scopes.uts == "node" else "",
        "Sysctls": dict(config.sysctls),
        "ShmSize": config.shm_size_bytes,
        "CapDrop": ["ALL"],
        "SecurityOpt": [f"seccomp={seccomp}", "no-new-privileges"],
        "ReadonlyRootfs": True,
        "LogConfig": {"Type": "none", "Config": {}},
        **_connected(config, section),
    }
    shape = {
        "cgroup": cgroup,
        "hostname": config.hostname,
        "namespaces": _scopes(config),
        "runtime": section.runtime,
    }
    labels = {
        KIND: HOLDER,
        ID: config.id,
        SANDBOX: config.id,
        OWNER: owner,
        POD_UID: config.pod_uid,
        POD: f"{config.pod_namespace}/{config.pod_name}",
        SHAPE: json.dumps(shape, sort_keys=True),
    }
    body: Body = {
        "Image": holder.IMAGE,
        # The runtime alone makes a network with nothing but a loopback; dockerd would start itself anew for it.
        "NetworkDisabled": section.network == "none" and scopes.net != "node",
        "ExposedPorts": {port: {} for port in host_config.get("PortBindings", ())},
        "Hostname": "" if scopes.uts == "node" else config.hostname,
        "Entrypoint": [holder.PROGRAM],
        "StopSignal": "SIGTERM",
        "Labels": labels,
        "HostConfig": host_config,
    }
    return _sealed(body)


def _connected(config: SandboxConfig, section: Section) -> Body:
    """Of the holder: its network, and what of the host leads there."""
    if config.namespaces.net == "node":
        return {"NetworkMode": "host"}
    if config.ingress_bits is not None or config.egress_bits is not None:
        raise Unsupported(
            f"sandbox {config.id}: dockerd limits no network",
            remedy="use another driver: see podd-cli drivers",
            field="metadata.annotations",
        )
    bindings: dict[str, list[Body]] = {}
    for port in config.ports:
        leads = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        bindings.setdefault(f"{port.container_port}/{port.protocol.lower()}", []).append(leads)
    body: Body = {"NetworkMode": section.network, "PortBindings": bindings}
    if section.is_resolving:
        dns = config.dns
        body |= {"Dns": list(dns.servers), "DnsSearch": list(dns.searches), "DnsOptions": list(dns.options)}
    return body


def _scopes(config: SandboxConfig) -> dict[str, str]:
    scopes = config.namespaces
    return {name: getattr(scopes, name) for name in ("net", "ipc", "uts", "pid")}


# ---- containers ------------------------------------------------------------------------------------------------------


def member_body(
    config: ContainerConfig,
    *,
    owner: str,
    section: Section,
    sandbox: SandboxState,
    image: Mapping[str, Any],
    seccomp: str,
    target: str,
    binds: Mapping[int, str],
    files: Mapping[str, str],
    least_oom_score_adj: int,
) -> Body:
    """image: its config, as dockerd inspects it. seccomp: the profile as JSON, or "unconfined". target: docker's id of
    the container whose processes it shares; "" for none. binds: by the index of a mount, what to bind in its place.
    files: of the pod, by where they belong. least_oom_score_adj: less is not to be had here.

    Raises Unsupported, Invalid: naming the field.
    """
    body: Body = {
        "Image": config.image_id or config.image,
        "User": user(config, image),
        "Entrypoint": list(config.command) or None,
        "Cmd": list(config.args) or None,
        "Env": [f"{name}={value}" for name, value in config.env],
        "WorkingDir": config.working_dir,
        "Tty": config.tty,
        "OpenStdin": config.stdin,
        "StdinOnce": config.stdin_once,
        "AttachStdin": config.stdin,
        "Healthcheck": {"Test": ["NONE"]},  # probes are podd's
        "Labels": _member_labels(config, owner, section),
        "HostConfig": {
            "CgroupParent": groups.as_parent(sandbox.cgroup),
            "CgroupnsMode": "private",
            **({"Runtime": sandbox.runtime} if sandbox.runtime else {}),
            **_joined(sandbox, target),
            **limits_body(config.limits),
            **_security(config, seccomp),
            "Mounts": [
                *(_mount(config, mount, binds.get(index)) for index, mount in enumerate(config.mounts)),
                *_mounted_files(config, files),
            ],
            "OomScoreAdj": max(config.oom_score_adj or 0, least_oom_score_adj),
            "LogConfig": _log_config(config, section),
            "RestartPolicy": {"Name": "no"},
        },
    }
    if sandbox.namespaces.net == "node" and sandbox.namespaces.uts != "node":
        body["Hostname"] = sandbox.hostname  # else dockerd takes the holder's, or the host's
    return _sealed(body)


def _member_labels(config: ContainerConfig, owner: str, section: Section) -> dict[str, str]:
    log = {
        "path": config.log_path,
        "max_bytes": section.log_max_bytes or config.log_max_bytes,
        "max_files": section.log_max_files or config.log_max_files,
    }
    return {
        KIND: MEMBER,
        ID: config.id,
        SANDBOX: config.sandbox_id,
        OWNER: owner,
        NAME: config.name,
        LOG: json.dumps(log),
    }


def _joined(sandbox: SandboxState, target: str) -> Body:
    scopes, shared = sandbox.namespaces, f"container:{sandbox.docker_id}"
    pid = {"pod": shared, "node": "host"}.get(scopes.pid) or (f"container:{target}" if target else "")
    return {
        "NetworkMode": "host" if scopes.net == "node" else shared,
        "IpcMode": "host" if scopes.ipc == "node" else shared,
        "UTSMode": "host" if scopes.uts == "node" else "",
        "PidMode": pid,
    }


def limits_body(limits: Limits) -> Body:
    """Swap is not given on top of memory."""
    body: Body = {}
    if limits.cpu_quota_us is not None:
        body |= {"CpuQuota": limits.cpu_quota_us, "CpuPeriod": limits.cpu_period_us}
    if limits.cpu_shares is not None:
        body["CpuShares"] = limits.cpu_shares
    if limits.memory_bytes is not None:
        if limits.memory_bytes < MEMORY_LEAST:
            raise Invalid(f"memory limit of {limits.memory_bytes} bytes: dockerd gives no less than {MEMORY_LEAST}")
        body |= {"Memory": limits.memory_bytes, "MemorySwap": limits.memory_bytes}
    if limits.pids is not None:
        body["PidsLimit"] = limits.pids
    return body


def _security(config: ContainerConfig, seccomp: str) -> Body:
    security = config.security
    groups = {"GroupAdd": [str(group) for group in security.supplemental_groups]}
    if security.privileged:
        return {**groups, "Privileged": True, "ReadonlyRootfs": security.read_only_rootfs}
    return {
        **groups,
        "CapDrop": ["ALL"],
        "CapAdd": capabilities.names_of(granted(config)),
        "SecurityOpt": [f"seccomp={seccomp}", *(["no-new-privileges"] if security.no_new_privileges else [])],
        "ReadonlyRootfs": security.read_only_rootfs,
        "MaskedPaths": masked_paths(security),  # in full: the defaults of an old dockerd have holes
        "ReadonlyPaths": read_only_paths(security),
    }


def user(config: ContainerConfig, image: Mapping[str, Any]) -> str:
    """As dockerd takes it. Raises Invalid: runAsNonRoot, and it would be root, or nobody can tell."""
    security = config.security
    images = str(image.get("User") or "")
    name, _, group = images.partition(":")
    if security.uid is not None:
        name, group = str(security.uid), ""
    if security.gid is not None:
        group = str(security.gid)
    if security.run_as_non_root:
        _check_not_root(config, name)
    return f"{name or '0'}:{group}" if group else name


def _check_not_root(config: ContainerConfig, user: str) -> None:
    if user.isdecimal() and int(user) != 0:
        return
    if user in ("", "0", "root"):
        what = "runAsNonRoot is set, and the image will run as root"
    else:
        what = f"runAsNonRoot is set, and the image has a user by name ({user}): cannot verify that it is not root"
    raise Invalid(f"container {config.name}: {what}", remedy="set runAsUser to a number", field="securityContext")


def _mount(config: ContainerConfig, mount: Mount, bound: str | None) -> Body:
    if mount.recursive_read_only:
        raise Unsupported(
            f"container {config.name}: mount {mount.container_path}: recursiveReadOnly: dockerd does not promise it",
            remedy="use another driver: see podd-cli drivers",
            field="volumeMounts",
        )
    return {
        "Type": "bind",
        "Source": bound or mount.host_path,
        "Target": mount.container_path,
        "ReadOnly": mount.read_only,
        "BindOptions": {"Propagation": _PROPAGATION[mount.propagation]},
    }


def _mounted_files(config: ContainerConfig, files: Mapping[str, str]) -> list[Body]:
    """Writable unless the root is not. What the container mounts there itself comes first."""
    taken = {posixpath.normpath(mount.container_path) for mount in config.mounts}
    return [
        {"Type": "bind", "Source": source, "Target": target, "ReadOnly": config.security.read_only_rootfs}
        for target, source in sorted(files.items())
        if target not in taken
    ]


def _log_config(config: ContainerConfig, section: Section) -> Body:
    if not config.log_path:
        return {"Type": "none", "Config": {}}
    size = section.log_max_bytes or config.log_max_bytes
    count = section.log_max_files or config.log_max_files
    return {"Type": "json-file", "Config": {"max-size": str(size), "max-file": str(count)}}


# ---- checks ----------------------------------------------------------------------------------------------------------


def check(config: ContainerConfig) -> None:
    """Raises Unsupported: an image that is a directory; Invalid: what no program can be given."""
    if config.image.startswith("rootfs:"):
        raise Unsupported(
            f"container {config.name}: image {config.image!r}: dockerd runs images, not directories",
            remedy="use the reference of an image, or a driver that runs directories: see podd-cli drivers",
            field="image",
            capability="rootfs_directory",
        )
    texts = {
        "command": [*config.command, *config.args],
        "env": [part for pair in config.env for part in pair],
        "workingDir": [config.working_dir],
        "image": [config.image],
        "volumeMounts": [part for mount in config.mounts for part in (mount.host_path, mount.container_path)],
    }
    for field, values in texts.items():
        if any("\0" in value for value in values):
            raise Invalid(f"container {config.name}: {field} holds a NUL character", field=field)
    for name, _ in config.env:
        if not name or "=" in name:
            raise Invalid(f"container {config.name}: env {name!r} is no name of a variable", field="env")


def stop_signal(image: Mapping[str, Any]) -> int | None:
    """That the image wants. None: none, or one that there is not."""
    return signals.parse(str(image.get("StopSignal") or ""))


def argv0(config: ContainerConfig, image: Mapping[str, Any]) -> str:
    """The program that will be executed, as it is written. Raises Invalid: there is none."""
    entrypoint = list(config.command) or list(image.get("Entrypoint") or ())
    words = entrypoint + (list(config.args) or ([] if config.command else list(image.get("Cmd") or ())))
    if not words:
        raise Invalid(
            f"container {config.name}: no command: image {config.image} has neither entrypoint nor cmd",
            remedy="set command (or args)",
            field="command",
        )
    return str(words[0])


def _sealed(body: Body) -> Body:
    """With a label by which the same request is known again."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    body["Labels"][CONFIG] = digest
    return body
