"""What the values of a Pod must be: Kubernetes' rules, and those without which podd could not run it.

Each rule looks at values alone; whether this host or driver can do it is asked elsewhere.
Source: apimachinery's validation and core/validation of Kubernetes, by the effect of each rule.
"""

from __future__ import annotations

from podd.model import annotations as own_annotations
from podd.model import (
    container_rules,
    env_rules,
    handler_rules,
    network_rules,
    resource_rules,
    security_rules,
    shapes,
    volume_rules,
)
from podd.model.ids import is_dns_subdomain
from podd.model.pod import Pod, PodSpec
from podd.model.problem import Path, Rules

MAX_SECONDS = 2**31 - 1  # 68 years, within what every timer takes


def check(rules: Rules, pod: Pod) -> None:
    """Tell everything that is wrong with the values, by path."""
    shapes.metadata(rules, pod.metadata)
    _spec(rules, pod.spec)
    _containers(rules, pod.spec)
    network_rules.check(rules, pod)
    security_rules.check(rules, pod)
    handler_rules.check(rules, pod)
    own_annotations.check(rules, pod)


def _spec(rules: Rules, spec: PodSpec) -> None:
    at: Path = ("spec",)
    grace, deadline = spec.termination_grace_period_seconds, spec.active_deadline_seconds
    shapes.between(rules, (*at, "terminationGracePeriodSeconds"), grace, 0, MAX_SECONDS)
    if deadline is not None:
        shapes.between(rules, (*at, "activeDeadlineSeconds"), deadline, 1, MAX_SECONDS)
    if spec.host_pid and spec.share_process_namespace:
        rules.error((*at, "shareProcessNamespace"), "excludes hostPID: a pod has one process namespace", "keep one")
    if spec.runtime_class_name is not None and not is_dns_subdomain(spec.runtime_class_name):
        rules.error((*at, "runtimeClassName"), f'"{spec.runtime_class_name}" is not the name of a driver')
    volume_rules.check(rules, spec)
    resource_rules.check(rules, (*at, "resources"), spec.resources)
    resource_rules.check_pod(rules, (*at, "resources"), spec)


def _containers(rules: Rules, spec: PodSpec) -> None:
    at: Path = ("spec",)
    if not spec.containers:
        rules.error((*at, "containers"), "at least one container is required")
    containers = [((*at, "containers", number), container) for number, container in enumerate(spec.containers)]
    first = [((*at, "initContainers", number), container) for number, container in enumerate(spec.init_containers)]
    names = (((*path, "name"), container.name) for path, container in (*first, *containers))
    shapes.unique(rules, names, "container names are unique")
    for path, container in (*first, *containers):
        container_rules.check(rules, path, container)
        env_rules.check(rules, path, container, spec)
        volume_rules.mounts(rules, path, container, spec)
        resource_rules.check(rules, (*path, "resources"), container.resources)
    for path, container in first:
        container_rules.check_init(rules, path, container)
