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


Mode = Annotated[int, msgspec.Meta(title="Mode")]
"""Of a file. A manifest may write it in octal, 0644, as YAML of Kubernetes does."""

IntOrString = Annotated[int | str, msgspec.Meta(title="IntOrString")]
"""The number of a port, or the name of one."""


ROOTFS = "rootfs:"
"""How an image begins that is a directory of the host."""

PIDS = "podd.io/pids"
"""podd's own resource: how many processes."""
MAX_PIDS = 4 * 1024 * 1024  # the kernel's PID_MAX_LIMIT


class Struct(Value, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Base of all manifest objects."""


# ---- values from elsewhere -------------------------------------------------------------------------------------------


class ObjectFieldSelector(Struct):
    field_path: str
    api_version: str = "v1"


class ResourceFieldSelector(Struct):
    resource: str
    container_name: str = ""
    divisor: Quantity = "0"


class ConfigMapKeySelector(Struct):
    key: str
    name: str = ""
    optional: bool = False


class SecretKeySelector(Struct):
    key: str
    name: str = ""
    optional: bool = False


class EnvVarSource(Struct):
    """Exactly one is given."""

    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: ConfigMapKeySelector | None = None
    secret_key_ref: SecretKeySelector | None = None


class EnvVar(Struct):
    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class ConfigMapEnvSource(Struct):
    name: str = ""
    optional: bool = False


class SecretEnvSource(Struct):
    name: str = ""
    optional: bool = False


class EnvFromSource(Struct):
    prefix: str = ""
    config_map_ref: ConfigMapEnvSource | None = None
    secret_ref: SecretEnvSource | None = None


# ---- probes and hooks ------------------------------------------------------------------------------------------------


class ExecAction(Struct):
    command: tuple[str, ...] = ()


class HTTPHeader(Struct):
    name: str
    value: str


class HTTPGetAction(Struct):
    port: IntOrString
    path: str = ""
    host: str = ""
    scheme: Literal["", "HTTP", "HTTPS"] = ""
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPSocketAction(Struct):
    port: IntOrString
    host: str = ""


class GRPCAction(Struct):
    port: int
    service: str = ""


class SleepAction(Struct):
    seconds: int


class Probe(Struct):
    """Exactly one of exec, http_get, tcp_socket and grpc is given."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(Struct):
    """Exactly one is given."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Struct):
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class ContainerRestartRuleOnExitCodes(Struct):
    operator: Literal["In", "NotIn"]
    values: tuple[int, ...] = ()


class ContainerRestartRule(Struct):
    action: Literal["Restart", "RestartAllContainers"]
    exit_codes: ContainerRestartRuleOnExitCodes | None = None


# ---- containers ------------------------------------------------------------------------------------------------------


class VolumeMount(Struct):
    name: str
    mount_path: str
    read_only: bool = False
    recursive_read_only: Literal["Disabled", "IfPossible", "Enabled"] | None = None
    mount_propagation: Literal["None", "HostToContainer", "Bidirectional"] | None = None
    sub_path: str = ""
    sub_path_expr: str = ""


class ContainerResizePolicy(Struct):
    resource_name: str
    restart_policy: Literal["NotRequired", "RestartContainer"]


class ContainerPort(Struct):
    container_port: int
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    host_port: int | None = None
    host_ip: str = msgspec.field(default="", name="hostIP")


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
    env_from: tuple[EnvFromSource, ...] = ()
    working_dir: str = ""
    ports: tuple[ContainerPort, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    security_context: SecurityContext = SecurityContext()
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    volume_mounts: tuple[VolumeMount, ...] = ()
    lifecycle: Lifecycle | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    resize_policy: tuple[ContainerResizePolicy, ...] = ()
    restart_policy: RestartPolicy | None = None
    restart_policy_rules: tuple[ContainerRestartRule, ...] = ()
    termination_message_path: str = "/dev/termination-log"
    termination_message_policy: Literal["File", "FallbackToLogsOnError"] = "File"


class EmptyDirVolumeSource(Struct):
    medium: Literal["", "Memory"] = ""
    size_limit: Quantity | None = None


class HostPathVolumeSource(Struct):
    path: str
    type: Literal[
        "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"
    ] = ""


class KeyToPath(Struct):
    key: str
    path: str
    mode: Mode | None = None


class ConfigMapVolumeSource(Struct):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: Mode = 0o644
    optional: bool = False


class SecretVolumeSource(Struct):
    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: Mode = 0o644
    optional: bool = False


class DownwardAPIVolumeFile(Struct):
    """Exactly one of the references is given."""

    path: str
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: Mode | None = None


class DownwardAPIVolumeSource(Struct):
    items: tuple[DownwardAPIVolumeFile, ...] = ()
    default_mode: Mode = 0o644


class ConfigMapProjection(Struct):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class SecretProjection(Struct):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class DownwardAPIProjection(Struct):
    items: tuple[DownwardAPIVolumeFile, ...] = ()


class VolumeProjection(Struct):
    """Exactly one is given."""

    config_map: ConfigMapProjection | None = None
    secret: SecretProjection | None = None
    downward_api: DownwardAPIProjection | None = msgspec.field(default=None, name="downwardAPI")


class ProjectedVolumeSource(Struct):
    sources: tuple[VolumeProjection, ...] = ()
    default_mode: Mode = 0o644


class Volume(Struct):
    """One of the sources must be given."""

    name: str
    empty_dir: EmptyDirVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = msgspec.field(default=None, name="downwardAPI")
    projected: ProjectedVolumeSource | None = None


class HostAlias(Struct):
    ip: str
    hostnames: tuple[str, ...] = ()


class PodDNSConfigOption(Struct):
    name: str = ""
    value: str | None = None


class PodDNSConfig(Struct):
    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[PodDNSConfigOption, ...] = ()


class PodOS(Struct):
    name: Literal["linux"]


class LocalObjectReference(Struct):
    name: str = ""


class PodSpec(Struct):
    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restart_policy: RestartPolicy = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    hostname: str = ""
    hostname_override: str | None = None
    subdomain: str = ""
    set_hostname_as_fqdn: bool | None = msgspec.field(default=None, name="setHostnameAsFQDN")
    host_aliases: tuple[HostAlias, ...] = ()
    dns_policy: Literal["", "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"] = ""
    dns_config: PodDNSConfig | None = None
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
