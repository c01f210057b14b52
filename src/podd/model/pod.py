"""A Pod as its manifest gives it: the part of Kubernetes' core/v1 that podd honours, field for field.

Field names in Python are Kubernetes' in snake case; on the wire they are Kubernetes' own. A field that is not
here is refused, or accepted with a named warning, by `podd.model.manifest`; it is never dropped in silence.
Quantities (cpu, memory) stay as written; `podd.model.quantity` gives them meaning. How every field of core/v1 is
treated, those that are not here included, stands in `podd.model.fields`.
Source: the Kubernetes API reference, Pod v1 core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from podd.model.value import Value

RestartPolicy = Literal["Always", "OnFailure", "Never"]

Quantity = Annotated[str, msgspec.Meta(title="Quantity")]
"""An amount as written, "250m" or "1.5Gi"; a manifest may also write it as a number."""


ROOTFS = "rootfs:"
"""How an image begins that is a directory of the host."""

PIDS = "podd.io/pids"
"""podd's own resource: how many processes."""
MAX_PIDS = 4 * 1024 * 1024  # the kernel's PID_MAX_LIMIT


class Struct(Value, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Base of all manifest objects."""


class EnvVar(Struct):
    name: str
    value: str = ""


class VolumeMount(Struct):
    name: str
    mount_path: str
    read_only: bool = False


class ContainerPort(Struct):
    container_port: int
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    host_port: int | None = None


class ResourceRequirements(Struct):
    """limits and requests by resource name (cpu, memory; podd adds podd.io/pids), as written."""

    limits: Mapping[str, Quantity] = {}
    requests: Mapping[str, Quantity] = {}


class Capabilities(Struct):
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SeccompProfile(Struct):
    type: Literal["RuntimeDefault", "Unconfined", "Localhost"]
    localhost_profile: str | None = None


class SecurityContext(Struct):
    """A container's; what is None falls back to the pod's, then to podd's default."""

    allow_privilege_escalation: bool | None = None
    capabilities: Capabilities | None = None
    privileged: bool | None = None
    read_only_root_filesystem: bool | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    run_as_user: int | None = None
    seccomp_profile: SeccompProfile | None = None
    proc_mount: Literal["Default", "Unmasked"] | None = None


class Sysctl(Struct):
    name: str
    value: str


class PodSecurityContext(Struct):
    fs_group: int | None = None
    fs_group_change_policy: Literal["Always", "OnRootMismatch"] | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    run_as_user: int | None = None
    seccomp_profile: SeccompProfile | None = None
    supplemental_groups: tuple[int, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()


class Container(Struct):
    name: str
    image: str = ""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    working_dir: str = ""
    ports: tuple[ContainerPort, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    security_context: SecurityContext = SecurityContext()
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    volume_mounts: tuple[VolumeMount, ...] = ()


class EmptyDirVolumeSource(Struct):
    medium: Literal["", "Memory"] = ""
    size_limit: Quantity | None = None


class HostPathVolumeSource(Struct):
    path: str
    type: Literal[
        "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"
    ] = ""


class Volume(Struct):
    """One of the sources must be given."""

    name: str
    empty_dir: EmptyDirVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None


class PodOS(Struct):
    name: Literal["linux"]


class PodSpec(Struct):
    containers: tuple[Container, ...]
    volumes: tuple[Volume, ...] = ()
    restart_policy: RestartPolicy = "Always"
    termination_grace_period_seconds: int = 30
    hostname: str = ""
    host_network: bool = False
    host_ipc: bool = msgspec.field(default=False, name="hostIPC")
    host_pid: bool = msgspec.field(default=False, name="hostPID")
    share_process_namespace: bool = False
    security_context: PodSecurityContext = PodSecurityContext()
    resources: ResourceRequirements = ResourceRequirements()
    os: PodOS | None = None
    runtime_class_name: str | None = None


class ObjectMeta(Struct):
    name: str
    namespace: str = "default"
    uid: str = ""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    creation_timestamp: str | None = None


class Pod(Struct, omit_defaults=False, kw_only=True):
    api_version: Literal["v1"] = "v1"
    kind: Literal["Pod"] = "Pod"
    metadata: ObjectMeta
    spec: PodSpec
