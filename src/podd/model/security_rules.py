"""The rules of `podd.model.rules` on what a member may do: users, capabilities, profiles, sysctls."""

from __future__ import annotations

import re

from podd.model.pod import ROOTFS, Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext
from podd.model.problem import Path, Rules

MAX_ID = 2**31 - 1

CAPABILITIES = frozenset(
    word
    for line in (
        "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE",
        "DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD",
        "NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN",
        "SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME",
        "SYS_TTY_CONFIG WAKE_ALARM",
    )
    for word in line.split()
)

_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9]", re.ASCII)
_IPC_SYSCTL = re.compile(r"kernel\.(shm[a-z_]+|msg[a-z_]+|sem)|fs\.mqueue\..+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"


def check(rules: Rules, pod: Pod) -> None:
    spec = pod.spec
    at: Path = ("spec", "securityContext")
    _ids(rules, at, spec.security_context)
    for number, group in enumerate(spec.security_context.supplemental_groups):
        _id(rules, (*at, "supplementalGroups", number), group)
    _id(rules, (*at, "fsGroup"), spec.security_context.fs_group)
    _seccomp(rules, (*at, "seccompProfile"), spec.security_context.seccomp_profile)
    _sysctls(rules, (*at, "sysctls"), spec)
    for where, containers in (("initContainers", spec.init_containers), ("containers", spec.containers)):
        for number, container in enumerate(containers):
            path = ("spec", where, number, "securityContext")
            _container(rules, path, container.security_context)
            _non_root(rules, path, container, spec.security_context)
    _annotations(rules, pod)


def _container(rules: Rules, at: Path, own: SecurityContext) -> None:
    _ids(rules, at, own)
    _seccomp(rules, (*at, "seccompProfile"), own.seccomp_profile)
    if own.privileged and own.allow_privilege_escalation is False:
        rules.error((*at, "allowPrivilegeEscalation"), "cannot be false where privileged is true")
    if own.proc_mount == "Unmasked":
        message = "Unmasked needs hostUsers: false, and podd does not make user namespaces yet"
        rules.error((*at, "procMount"), message)
    for verb in ("add", "drop"):
        names = getattr(own.capabilities, verb, ())
        for number, name in enumerate(names):
            _capability(rules, (*at, "capabilities", verb, number), name)


def _non_root(rules: Rules, at: Path, container: Container, of_pod: PodSecurityContext) -> None:
    own = container.security_context
    non_root = own.run_as_non_root if own.run_as_non_root is not None else of_pod.run_as_non_root
    user = own.run_as_user if own.run_as_user is not None else of_pod.run_as_user
    if not non_root:
        return
    if user == 0:
        rules.error((*at, "runAsUser"), "is 0, and runAsNonRoot forbids root", "give another user")
    elif user is None and container.image.startswith(ROOTFS):
        rules.error((*at, "runAsUser"), "required with runAsNonRoot: a rootfs: image runs as root")


def _ids(rules: Rules, at: Path, context: SecurityContext | PodSecurityContext) -> None:
    _id(rules, (*at, "runAsUser"), context.run_as_user)
    _id(rules, (*at, "runAsGroup"), context.run_as_group)


def _id(rules: Rules, at: Path, number: int | None) -> None:
    if number is not None and not 0 <= number <= MAX_ID:
        rules.error(at, f"{number} is not between 0 and {MAX_ID}")


def _capability(rules: Rules, at: Path, name: str) -> None:
    if name in CAPABILITIES or name == "ALL":
        return
    plain = name.upper().removeprefix("CAP_")
    remedy = f'write "{plain}"' if plain in CAPABILITIES or plain == "ALL" else ""
    rules.error(at, f'"{name}" is not a capability', remedy)


def _seccomp(rules: Rules, at: Path, profile: SeccompProfile | None) -> None:
    if profile is None:
        return
    name = profile.localhost_profile
    at = (*at, "localhostProfile")
    if profile.type != "Localhost":
        if name is not None:
            rules.error(at, f"is for type Localhost, and the type is {profile.type}")
    elif not name:
        rules.error(at, "required with type Localhost")
    elif name.startswith("/") or ".." in name.split("/") or _CONTROL.search(name):
        rules.error(at, f'"{name}" is not a path below the directory of profiles', 'relative, and without ".."')


def _sysctls(rules: Rules, at: Path, spec: PodSpec) -> None:
    seen = set()
    for number, sysctl in enumerate(spec.security_context.sysctls):
        path = (*at, number, "name")
        name = sysctl.name.replace("/", ".")
        if len(name) > 253 or not _SYSCTL.fullmatch(name):
            rules.error(path, f'"{sysctl.name}" is not the name of a sysctl')
        elif name in seen:
            rules.error(path, f'"{sysctl.name}" is given twice')
        elif name.startswith("net."):
            if spec.host_network:
                rules.error(path, "with hostNetwork it would be the host's")
        elif _IPC_SYSCTL.fullmatch(name):
            if spec.host_ipc:
                rules.error(path, "with hostIPC it would be the host's")
        else:
            known = "net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.*"
            rules.error(path, f'"{sysctl.name}" is the whole host\'s', f"a pod has its own {known}")
        seen.add(name)
        if _CONTROL.search(sysctl.value):
            rules.error((*at, number, "value"), "has control characters in it")


def _annotations(rules: Rules, pod: Pod) -> None:
    """Those that older Kubernetes took security settings from."""
    for key, value in pod.metadata.annotations.items():
        at: Path = ("metadata", "annotations", key)
        if key.startswith(_APPARMOR) and value != "unconfined":
            rules.error(at, "podd does not set AppArmor profiles yet")
        elif key == _SECCOMP or key.startswith("container.seccomp.security.alpha.kubernetes.io/"):
            rules.error(at, "is read by no Kubernetes since 1.27", "set securityContext.seccompProfile")
