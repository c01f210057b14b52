"""What the values of a Pod must be: Kubernetes' rules, and those without which podd could not run it.

Each rule looks at values alone; whether this host or driver can do it is asked elsewhere.
Source: apimachinery's validation and core/validation of Kubernetes, by the effect of each rule.
"""

from __future__ import annotations

import re
from fractions import Fraction

from podd.model import annotations as own_annotations
from podd.model import env_rules, handler_rules, quantity, security_rules, shapes, volume_rules
from podd.model.fields import RESOURCES, Treatment
from podd.model.ids import is_dns_subdomain
from podd.model.pod import (
    MAX_PIDS,
    PIDS,
    ROOTFS,
    Container,
    ContainerPort,
    Pod,
    PodSpec,
    ResourceRequirements,
)
from podd.model.problem import Path, Rules

MAX_GRACE_S = 2**31 - 1  # 68 years, within what every timer takes

_PORT_NAME = re.compile(r"(?=[0-9-]*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?", re.ASCII)


def check(rules: Rules, pod: Pod) -> None:
    """Tell everything that is wrong with the values, by path."""
    shapes.metadata(rules, pod.metadata)
    _spec(rules, pod.spec)
    security_rules.check(rules, pod)
    handler_rules.check(rules, pod)
    own_annotations.check(rules, pod)


# ---- the pod ---------------------------------------------------------------------------------------------------------


def _spec(rules: Rules, spec: PodSpec) -> None:
    at: Path = ("spec",)
    if not spec.containers:
        rules.error((*at, "containers"), "at least one container is required")
    if not 0 <= spec.termination_grace_period_seconds <= MAX_GRACE_S:
        message = f"{spec.termination_grace_period_seconds} is not between 0 and {MAX_GRACE_S}"
        rules.error((*at, "terminationGracePeriodSeconds"), message)
    if spec.hostname:
        shapes.label(rules, (*at, "hostname"), spec.hostname)
    if spec.hostname and spec.host_network:
        rules.warning((*at, "hostname"), "has no effect: with hostNetwork a pod has the host's name")
    if spec.host_pid and spec.share_process_namespace:
        rules.error((*at, "shareProcessNamespace"), "excludes hostPID: a pod has one process namespace", "keep one")
    if spec.runtime_class_name is not None and not is_dns_subdomain(spec.runtime_class_name):
        rules.error((*at, "runtimeClassName"), f'"{spec.runtime_class_name}" is not the name of a driver')
    volume_rules.check(rules, spec)
    members = [((*at, "containers", number), member) for number, member in enumerate(spec.containers)]
    shapes.unique(rules, (((*path, "name"), member.name) for path, member in members), "container names are unique")
    for path, member in members:
        _container(rules, path, member, spec)
    _resources(rules, (*at, "resources"), spec.resources)
    _pod_resources(rules, (*at, "resources"), spec)


def _container(rules: Rules, at: Path, container: Container, spec: PodSpec) -> None:
    shapes.label(rules, (*at, "name"), container.name)
    _image(rules, at, container)
    env_rules.check(rules, at, container, spec)
    if container.working_dir:
        shapes.absolute(rules, (*at, "workingDir"), container.working_dir)
    for number, port in enumerate(container.ports):
        _port(rules, (*at, "ports", number), port, spec.host_network)
    ports = (((*at, "ports", number, "name"), port.name) for number, port in enumerate(container.ports))
    shapes.unique(rules, ports, "port names are unique in a container")
    volume_rules.mounts(rules, at, container, spec)
    _resources(rules, (*at, "resources"), container.resources)


def _image(rules: Rules, at: Path, container: Container) -> None:
    image = container.image
    if not image:
        rules.error((*at, "image"), "required", 'for a driver without images, "rootfs:/" is the host\'s own root')
    elif image != image.strip() or shapes.CONTROL.search(image):
        rules.error((*at, "image"), "has space around it or control characters in it")
    elif image.startswith(ROOTFS):
        shapes.absolute(rules, (*at, "image"), image.removeprefix(ROOTFS))
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


# ---- resources -------------------------------------------------------------------------------------------------------


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
    amount = shapes.amount(rules, at, text)
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
