"""The rules of `podd.model.rules` on one container: its image, ports, how it restarts, what it leaves behind."""

from __future__ import annotations

import re

from podd.errors import Invalid
from podd.model.image import parse
from podd.model.pod import (
    ROOTFS,
    Container,
    ContainerPort,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
)
from podd.model.problem import Path, Rules
from podd.model.shapes import CONTROL, absolute, between, label, unique
from podd.model.totals import is_sidecar

MAX_RESTART_RULES = 20
MAX_EXIT_CODE = 255

_PORT_NAME = re.compile(r"(?=[0-9-]*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?", re.ASCII)


def check(rules: Rules, at: Path, container: Container) -> None:
    label(rules, (*at, "name"), container.name)
    _image(rules, at, container)
    if container.working_dir:
        absolute(rules, (*at, "workingDir"), container.working_dir)
    for number, port in enumerate(container.ports):
        _port(rules, (*at, "ports", number), port)
    ports = (((*at, "ports", number, "name"), port.name) for number, port in enumerate(container.ports))
    unique(rules, ports, "port names are unique in a container")
    _restarts(rules, at, container)
    _resizes(rules, (*at, "resizePolicy"), container)
    _termination_message(rules, (*at, "terminationMessagePath"), container)


def check_init(rules: Rules, at: Path, container: Container) -> None:
    if container.resize_policy and not is_sidecar(container):
        remedy = "remove it, or make it a sidecar by restartPolicy: Always"
        rules.error((*at, "resizePolicy"), "an init container runs to its end, and is not resized", remedy)


def _image(rules: Rules, at: Path, container: Container) -> None:
    image = container.image
    if not image:
        rules.error((*at, "image"), "required", 'for a driver without images, "rootfs:/" is the host\'s own root')
    elif image != image.strip() or CONTROL.search(image):
        rules.error((*at, "image"), "has space around it or control characters in it")
    elif image.startswith(ROOTFS):
        absolute(rules, (*at, "image"), image.removeprefix(ROOTFS))
        if not container.command and not container.args:
            rules.error((*at, "command"), "required: a rootfs: image says nothing of what to run")
    else:
        _image_name(rules, (*at, "image"), image)
    if container.command and not container.command[0]:
        rules.error((*at, "command", 0), "is empty: it names the program to run")


def _image_name(rules: Rules, at: Path, image: str) -> None:
    try:
        parse(image)
    except Invalid as exc:
        rules.error(at, exc.message, exc.remedy)


def _port(rules: Rules, at: Path, port: ContainerPort) -> None:
    between(rules, (*at, "containerPort"), port.container_port, 1, 65535)
    if port.name and not _PORT_NAME.fullmatch(port.name):
        text = 'at most 15 lower-case letters, digits and single "-", with a letter among them'
        rules.error((*at, "name"), f'"{port.name}" is not the name of a port', text)


# ---- how it restarts -------------------------------------------------------------------------------------------------


def _restarts(rules: Rules, at: Path, container: Container) -> None:
    asked = container.restart_policy_rules
    if not asked:
        return
    if container.restart_policy is None:
        remedy = "it says what is done with the exit codes that no rule names"
        rules.error((*at, "restartPolicy"), "required with restartPolicyRules", remedy)
    if container.restart_policy == "Always":
        rules.warning((*at, "restartPolicyRules"), "has no effect: with restartPolicy Always every end is a restart")
    if len(asked) > MAX_RESTART_RULES:
        rules.error((*at, "restartPolicyRules"), f"has {len(asked)} rules, at most {MAX_RESTART_RULES} are allowed")
    for number, rule in enumerate(asked):
        _restart_rule(rules, (*at, "restartPolicyRules", number), rule)


def _restart_rule(rules: Rules, at: Path, rule: ContainerRestartRule) -> None:
    if rule.action == "RestartAllContainers":
        message = "podd restarts the container that ended, and not yet all of its pod"
        rules.error((*at, "action"), message, "write Restart, or end the whole pod with it by podd.io/keystone")
    if rule.exit_codes is None:
        rules.error((*at, "exitCodes"), "required", "operator In or NotIn, and values")
    else:
        _exit_codes(rules, (*at, "exitCodes", "values"), rule.exit_codes)


def _exit_codes(rules: Rules, at: Path, codes: ContainerRestartRuleOnExitCodes) -> None:
    if not codes.values:
        rules.error(at, "at least one exit code is required")
    for number, code in enumerate(codes.values):
        between(rules, (*at, number), code, 0, MAX_EXIT_CODE)
    unique(rules, (((*at, n), str(code)) for n, code in enumerate(codes.values)), "exit codes are a set")


# ---- what can be changed while it runs, and what it leaves behind ----------------------------------------------------


def _resizes(rules: Rules, at: Path, container: Container) -> None:
    names = [policy.resource_name for policy in container.resize_policy]
    for number, name in enumerate(names):
        if name not in ("cpu", "memory"):
            rules.error((*at, number, "resourceName"), f'"{name}" cannot be resized', "cpu and memory can")
    each = (((*at, number, "resourceName"), name) for number, name in enumerate(names))
    unique(rules, each, "a resource has one resize policy")


def _termination_message(rules: Rules, at: Path, container: Container) -> None:
    path = container.termination_message_path
    if not absolute(rules, at, path):
        return
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts:
        rules.error(at, "is the root of the container, and no file")
    elif parts[0] == "proc":
        rules.error(at, "is in the container's own /proc, which podd keeps")
