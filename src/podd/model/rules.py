"""What the values of a Pod must be: Kubernetes' rules, and those without which podd could not run it.

Each rule looks at values alone; whether this host or driver can do it is asked elsewhere.
Source: apimachinery's validation and core/validation of Kubernetes, by the effect of each rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from podd.model import annotations as own_annotations
from podd.model import handler_rules, quantity, security_rules
from podd.model.fields import RESOURCES, Treatment
from podd.model.ids import is_dns_label, is_dns_subdomain
from podd.model.pod import (
    MAX_PIDS,
    PIDS,
    ROOTFS,
    Container,
    ContainerPort,
    ObjectMeta,
    Pod,
    PodSpec,
    ResourceRequirements,
    Volume,
)
from podd.model.problem import Path, Rules

MAX_ANNOTATIONS_BYTES = 256 * 1024
MAX_GRACE_S = 2**31 - 1  # 68 years, within what every timer takes

_LABEL_TEXT = 'lower-case letters, digits and "-", a letter or digit at both ends, at most 63 characters'
_SUBDOMAIN_TEXT = 'lower-case letters, digits, "-" and ".", a letter or digit at both ends, at most 253 characters'
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
_PORT_NAME = re.compile(r"(?=[0-9-]*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?", re.ASCII)
_ENV_NAME = re.compile(r"[ -<>-~]+", re.ASCII)  # printable ASCII without "="
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check(rules: Rules, pod: Pod) -> None:
    """Tell everything that is wrong with the values, by path."""
    _metadata(rules, pod.metadata)
    _spec(rules, pod.spec)
    security_rules.check(rules, pod)
    handler_rules.check(rules, pod)
    own_annotations.check(rules, pod)


# ---- names -----------------------------------------------------------------------------------------------------------


def _metadata(rules: Rules, meta: ObjectMeta) -> None:
    at: Path = ("metadata",)
    if not is_dns_subdomain(meta.name):
        rules.error((*at, "name"), f'"{meta.name}" is not an RFC 1123 subdomain', _SUBDOMAIN_TEXT)
    if not is_dns_label(meta.namespace):
        rules.error((*at, "namespace"), f'"{meta.namespace}" is not an RFC 1123 label', _LABEL_TEXT)
    for key, value in meta.labels.items():
        _qualified_name(rules, (*at, "labels", key), key)
        if value and not _QUALIFIED.fullmatch(value):
            message = f'"{value}" is not a label value'
            rules.error((*at, "labels", key), message, 'at most 63 letters, digits, "-", "_" and "."')
    for key in meta.annotations:
        _qualified_name(rules, (*at, "annotations", key), key.lower())
    size = sum(len(key.encode()) + len(value.encode()) for key, value in meta.annotations.items())
    if size > MAX_ANNOTATIONS_BYTES:
        rules.error((*at, "annotations"), f"has {size} bytes, at most {MAX_ANNOTATIONS_BYTES} are allowed")


def _qualified_name(rules: Rules, at: Path, key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if not _QUALIFIED.fullmatch(name) or (slash and not is_dns_subdomain(prefix)):
        text = 'a name of at most 63 letters, digits, "-", "_" and ".", after a DNS subdomain and "/" if there is one'
        rules.error(at, f'"{key}" is not a qualified name', text)


def _unique(rules: Rules, names: Iterable[tuple[Path, str]], what: str) -> None:
    first: dict[str, Path] = {}
    for at, name in names:
        if name and first.setdefault(name, at) is not at:
            rules.error(at, f'"{name}" is given twice: {what}')


# ---- the pod ---------------------------------------------------------------------------------------------------------


def _spec(rules: Rules, spec: PodSpec) -> None:
    at: Path = ("spec",)
    if not spec.containers:
        rules.error((*at, "containers"), "at least one container is required")
    if not 0 <= spec.termination_grace_period_seconds <= MAX_GRACE_S:
        message = f"{spec.termination_grace_period_seconds} is not between 0 and {MAX_GRACE_S}"
        rules.error((*at, "terminationGracePeriodSeconds"), message)
    if spec.hostname and not is_dns_label(spec.hostname):
        rules.error((*at, "hostname"), f'"{spec.hostname}" is not an RFC 1123 label', _LABEL_TEXT)
    if spec.hostname and spec.host_network:
        rules.warning((*at, "hostname"), "has no effect: with hostNetwork a pod has the host's name")
    if spec.host_pid and spec.share_process_namespace:
        rules.error((*at, "shareProcessNamespace"), "excludes hostPID: a pod has one process namespace", "keep one")
    if spec.runtime_class_name is not None and not is_dns_subdomain(spec.runtime_class_name):
        rules.error((*at, "runtimeClassName"), f'"{spec.runtime_class_name}" is not the name of a driver')
    for number, volume in enumerate(spec.volumes):
        _volume(rules, (*at, "volumes", number), volume)
    _unique(
        rules, (((*at, "volumes", n, "name"), v.name) for n, v in enumerate(spec.volumes)), "volume names are unique"
    )
    members = [((*at, "containers", number), member) for number, member in enumerate(spec.containers)]
    _unique(rules, (((*path, "name"), member.name) for path, member in members), "container names are unique")
    for path, member in members:
        _container(rules, path, member, spec)
    _resources(rules, (*at, "resources"), spec.resources)
    _pod_resources(rules, (*at, "resources"), spec)


def _container(rules: Rules, at: Path, container: Container, spec: PodSpec) -> None:
    if not is_dns_label(container.name):
        rules.error((*at, "name"), f'"{container.name}" is not an RFC 1123 label', _LABEL_TEXT)
    _image(rules, at, container)
    for number, variable in enumerate(container.env):
        if not _ENV_NAME.fullmatch(variable.name):
            text = 'printable ASCII characters without "="'
            rules.error((*at, "env", number, "name"), f'"{variable.name}" is not the name of a variable', text)
    if container.working_dir:
        _absolute(rules, (*at, "workingDir"), container.working_dir)
    for number, port in enumerate(container.ports):
        _port(rules, (*at, "ports", number), port, spec.host_network)
    ports = (((*at, "ports", number, "name"), port.name) for number, port in enumerate(container.ports))
    _unique(rules, ports, "port names are unique in a container")
    _mounts(rules, (*at, "volumeMounts"), container, {volume.name for volume in spec.volumes})
    _resources(rules, (*at, "resources"), container.resources)


def _image(rules: Rules, at: Path, container: Container) -> None:
    image = container.image
    if not image:
        rules.error((*at, "image"), "required", 'for a driver without images, "rootfs:/" is the host\'s own root')
    elif image != image.strip() or _CONTROL.search(image):
        rules.error((*at, "image"), "has space around it or control characters in it")
    elif image.startswith(ROOTFS):
        _absolute(rules, (*at, "image"), image.removeprefix(ROOTFS))
        if not container.command and not container.args:
            rules.error((*at, "command"), "required: a rootfs: image says nothing of what to run")
    if container.command and not container.command[0]:
        rules.error((*at, "command", 0), "is empty: it names the program to run")


def _port(rules: Rules, at: Path, port: ContainerPort, host_network: bool) -> None:
    for name, number in (("containerPort", port.container_port), ("hostPort", port.host_port)):
        if number is not None and not 1 <= number <= 65535:
            rules.error((*at, name), f"{number} is not between 1 and 65535")
            return
    if port.name and not _PORT_NAME.fullmatch(port.name):
        text = 'at most 15 lower-case letters, digits and single "-", with a letter among them'
        rules.error((*at, "name"), f'"{port.name}" is not the name of a port', text)
    if port.host_port is None:
        return
    if not host_network:
        remedy = "use hostNetwork, or reach the port from inside the pod"
        rules.error((*at, "hostPort"), "podd does not map ports yet", remedy)
    elif port.host_port != port.container_port:
        rules.error((*at, "hostPort"), "must equal containerPort with hostNetwork")


# ---- volumes ---------------------------------------------------------------------------------------------------------


def _volume(rules: Rules, at: Path, volume: Volume) -> None:
    if not is_dns_label(volume.name):
        rules.error((*at, "name"), f'"{volume.name}" is not an RFC 1123 label', _LABEL_TEXT)
    sources = (volume.empty_dir, volume.host_path, volume.config_map, volume.secret)
    if sum(source is not None for source in (*sources, volume.downward_api, volume.projected)) != 1:
        rules.error(at, "a volume has exactly one source", "give emptyDir or hostPath")
    if volume.host_path is not None:
        _absolute(rules, (*at, "hostPath", "path"), volume.host_path.path)
    if volume.empty_dir is not None and volume.empty_dir.size_limit is not None:
        _amount(rules, (*at, "emptyDir", "sizeLimit"), volume.empty_dir.size_limit)


def _mounts(rules: Rules, at: Path, container: Container, volumes: set[str]) -> None:
    taken: set[tuple[str, ...]] = set()
    for number, mount in enumerate(container.volume_mounts):
        if mount.name not in volumes:
            known = ", ".join(sorted(volumes)) or "there are none"
            message, remedy = f'there is no volume "{mount.name}"', f"volumes of this pod: {known}"
            rules.error((*at, number, "name"), message, remedy, rests_on=("spec", "volumes"))
        path = (*at, number, "mountPath")
        if not _absolute(rules, path, mount.mount_path):
            continue
        parts = tuple(part for part in mount.mount_path.split("/") if part not in ("", "."))
        if ":" in mount.mount_path:
            rules.error(path, 'must not contain ":"')
        elif not parts:
            rules.error(path, "is the root of the container: a volume goes below it")
        elif parts[0] == "proc":
            rules.error(path, "is in the container's own /proc, which podd keeps")
        elif parts in taken:
            rules.error(path, f'"{mount.mount_path}" is given twice: mount paths are unique in a container')
        taken.add(parts)


def _absolute(rules: Rules, at: Path, path: str) -> bool:
    """True: it is an absolute path that stays where it says."""
    if not path.startswith("/"):
        rules.error(at, f'"{path}" is not an absolute path')
    elif ".." in path.split("/"):
        rules.error(at, 'must not contain ".."')
    elif _CONTROL.search(path):
        rules.error(at, "has control characters in it")
    else:
        return True
    return False


# ---- resources -------------------------------------------------------------------------------------------------------


def _amount(rules: Rules, at: Path, text: str) -> Fraction | None:
    try:
        amount = quantity.parse(text)
    except ValueError as exc:
        rules.error(at, str(exc))
        return None
    if amount < 0:
        rules.error(at, f"{text} is negative")
        return None
    return amount


def _resources(rules: Rules, at: Path, resources: ResourceRequirements) -> None:
    limits = {name: _resource(rules, (*at, "limits", name), name, text) for name, text in resources.limits.items()}
    for name, text in resources.requests.items():
        requested = _resource(rules, (*at, "requests", name), name, text)
        limit = limits.get(name)
        if requested is not None and limit is not None and requested > limit:
            rules.error((*at, "requests", name), f"{text} is more than the limit of {resources.limits[name]}")


def _resource(rules: Rules, at: Path, name: str, text: str) -> Fraction | None:
    row = RESOURCES.get(name)
    if row is None:
        known = ", ".join(known for known, row in RESOURCES.items() if row.treatment is Treatment.HONOURED)
        rules.error(at, "podd does not know this resource", f"it counts {known}")
        return None
    if row.treatment is Treatment.REFUSED and "limits" in at:
        rules.error(at, row.note)
    elif row.treatment is Treatment.REFUSED:
        rules.warning(at, f"has no effect: {row.note}")
    amount = _amount(rules, at, text)
    if amount is None:
        return None
    if name == PIDS and not 1 <= amount <= MAX_PIDS:
        rules.error(at, f"{text} is not between 1 and {MAX_PIDS}")
    elif name != "cpu" and amount.denominator != 1:
        _fraction(rules, at, text)
    return amount


def _fraction(rules: Rules, at: Path, text: str) -> None:
    """Of what is counted in whole units. 400m of memory is less than a byte, and was meant to be 400M."""
    if text.endswith("m"):
        rules.error(at, f"{text} is {text[:-1]} thousandths", f"did you mean {text[:-1]}M or {text[:-1]}Mi?")
    else:
        rules.warning(at, f"{text} is not a whole number, and is rounded up to {quantity.whole(text)}")


def _pod_resources(rules: Rules, at: Path, spec: PodSpec) -> None:
    """No member may have more than the pod; all together may not request more than it."""
    for name, text in spec.resources.limits.items():
        pod_limit = _known(text)
        for number, member in enumerate(spec.containers):
            own = _known(member.resources.limits.get(name, "0"))
            if pod_limit is not None and own is not None and own > pod_limit:
                path = ("spec", "containers", number, "resources", "limits", name)
                rules.error(path, f"{member.resources.limits[name]} is more than the pod's limit of {text}")
    for name, text in spec.resources.requests.items():
        pod_request = _known(text)
        requests = [_known(_requested(member.resources, name)) for member in spec.containers]
        total = sum((amount for amount in requests if amount is not None), Fraction(0))
        if pod_request is not None and total > pod_request:
            rules.error((*at, "requests", name), f"{text} is less than what the containers request together")


def _requested(resources: ResourceRequirements, name: str) -> str:
    return resources.requests.get(name, resources.limits.get(name, "0"))


def _known(text: str) -> Fraction | None:
    """None: it is no quantity, which is told where it stands."""
    try:
        return quantity.parse(text)
    except ValueError:
        return None
