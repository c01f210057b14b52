"""The rules of `podd.model.rules` on probes and lifecycle hooks.

Source: core/validation of Kubernetes, by the effect of each rule. Where a cluster would take what its kubelet then
cannot run, as a port's name that the container has not, podd refuses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from podd.model import signals
from podd.model.pod import (
    Container,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    IntOrString,
    Lifecycle,
    LifecycleHandler,
    Pod,
    PodSpec,
    Probe,
    SleepAction,
    TCPSocketAction,
)
from podd.model.problem import Path, Rules

MAX_INT32 = 2**31 - 1

_HEADER_NAME = re.compile(r"[-A-Za-z0-9]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # a header's value may have tabs in it
_SPACE = re.compile(r"[\x00-\x20\x7f]")

Action = ExecAction | HTTPGetAction | TCPSocketAction | GRPCAction | SleepAction

_NOT_OF_INIT = "an init container that ends has no use for it"
_SIDECAR = "restartPolicy: Always makes a sidecar of it, which may have one"
_DEFAULTS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def check(rules: Rules, pod: Pod) -> None:
    spec = pod.spec
    for number, container in enumerate(spec.init_containers):
        at: Path = ("spec", "initContainers", number)
        if container.restart_policy == "Always":
            _container(rules, at, container, spec)
        else:
            _none(rules, at, container)
    for number, container in enumerate(spec.containers):
        _container(rules, ("spec", "containers", number), container, spec)


def _none(rules: Rules, at: Path, container: Container) -> None:
    """Of an init container that the others wait for."""
    for name, value in {**_probes(container), "lifecycle": container.lifecycle}.items():
        if value is not None:
            rules.error((*at, name), _NOT_OF_INIT, _SIDECAR)


def _container(rules: Rules, at: Path, container: Container, spec: PodSpec) -> None:
    for name, probe in _probes(container).items():
        if probe is not None:
            _probe(rules, (*at, name), probe, container, readiness=name == "readinessProbe")
    if container.lifecycle is not None:
        _lifecycle(rules, (*at, "lifecycle"), container.lifecycle, container, spec)


def _probes(container: Container) -> dict[str, Probe | None]:
    return {
        "livenessProbe": container.liveness_probe,
        "readinessProbe": container.readiness_probe,
        "startupProbe": container.startup_probe,
    }


def _probe(rules: Rules, at: Path, probe: Probe, container: Container, *, readiness: bool) -> None:
    handlers = {
        "exec": probe.exec,
        "httpGet": probe.http_get,
        "tcpSocket": probe.tcp_socket,
        "grpc": probe.grpc,
    }
    _handler(rules, at, handlers, container)
    if not 0 <= probe.initial_delay_seconds <= MAX_INT32:
        rules.error((*at, "initialDelaySeconds"), f"{probe.initial_delay_seconds} is not between 0 and {MAX_INT32}")
    counts = {
        "timeoutSeconds": probe.timeout_seconds,
        "periodSeconds": probe.period_seconds,
        "successThreshold": probe.success_threshold,
        "failureThreshold": probe.failure_threshold,
    }
    for name, count in counts.items():
        if count == 0:
            rules.warning((*at, name), f"0 means {_DEFAULTS[name]}, the default")
        elif not 1 <= count <= MAX_INT32:
            rules.error((*at, name), f"{count} is not between 1 and {MAX_INT32}")
    if not readiness and probe.success_threshold > 1:
        rules.error((*at, "successThreshold"), "must be 1: of these probes one success is enough")
    _probe_grace(rules, (*at, "terminationGracePeriodSeconds"), probe, readiness=readiness)


def _probe_grace(rules: Rules, at: Path, probe: Probe, *, readiness: bool) -> None:
    grace = probe.termination_grace_period_seconds
    if grace is None:
        return
    if readiness:
        rules.error(at, "a readiness probe ends no container")
    elif not 1 <= grace <= MAX_INT32:
        rules.error(at, f"{grace} is not between 1 and {MAX_INT32}")


def _lifecycle(rules: Rules, at: Path, lifecycle: Lifecycle, container: Container, spec: PodSpec) -> None:
    hooks: dict[str, LifecycleHandler | None] = {"postStart": lifecycle.post_start, "preStop": lifecycle.pre_stop}
    for name, hook in hooks.items():
        if hook is None:
            continue
        handlers = {"exec": hook.exec, "httpGet": hook.http_get, "tcpSocket": hook.tcp_socket, "sleep": hook.sleep}
        _handler(rules, (*at, name), handlers, container)
        if hook.sleep is not None:
            _sleep(rules, (*at, name, "sleep", "seconds"), hook.sleep, spec)
    if lifecycle.stop_signal is not None:
        _stop_signal(rules, (*at, "stopSignal"), lifecycle.stop_signal, spec)


def _sleep(rules: Rules, at: Path, sleep: SleepAction, spec: PodSpec) -> None:
    grace = spec.termination_grace_period_seconds
    if not 0 <= sleep.seconds <= grace:
        message = f"{sleep.seconds} is not between 0 and terminationGracePeriodSeconds ({grace})"
        rules.error(at, message, rests_on=("spec", "terminationGracePeriodSeconds"))


def _stop_signal(rules: Rules, at: Path, name: str, spec: PodSpec) -> None:
    if not signals.is_name(name):
        meant = signals.nearest(name)
        rules.error(
            at, f'"{name}" is not the name of a signal', f"write {meant}" if meant else "as SIGTERM, SIGRTMIN+3"
        )
    elif spec.os is None:
        rules.error(at, "needs spec.os.name: which signals there are depends on it", "set spec.os.name: linux")


# ---- handlers --------------------------------------------------------------------------------------------------------


def _handler(rules: Rules, at: Path, handlers: Mapping[str, Action | None], container: Container) -> None:
    given = {name: action for name, action in handlers.items() if action is not None}
    if len(given) != 1:
        said = f"has {' and '.join(given)}: exactly one is wanted" if given else "says nothing of what to do"
        rules.error(at, said, f"give {', '.join(list(handlers)[:-1])} or {list(handlers)[-1]}")
    for name, action in given.items():
        match action:
            case ExecAction():
                _exec(rules, (*at, name, "command"), action)
            case HTTPGetAction():
                _http(rules, (*at, name), action, container)
            case TCPSocketAction():
                _port(rules, (*at, name, "port"), action.port, container)
                _host(rules, (*at, name, "host"), action.host)
            case GRPCAction():
                _port(rules, (*at, name, "port"), action.port, container)


def _exec(rules: Rules, at: Path, action: ExecAction) -> None:
    if not action.command:
        rules.error(at, "required: the program to run, and its arguments")
    elif not action.command[0]:
        rules.error((*at, 0), "is empty: it names the program to run")


def _http(rules: Rules, at: Path, action: HTTPGetAction, container: Container) -> None:
    _port(rules, (*at, "port"), action.port, container)
    _host(rules, (*at, "host"), action.host)
    for number, header in enumerate(action.http_headers):
        if not _HEADER_NAME.fullmatch(header.name):
            text = 'letters, digits and "-"'
            rules.error((*at, "httpHeaders", number, "name"), f'"{header.name}" is not the name of a header', text)
        if _CONTROL.search(header.value):
            rules.error((*at, "httpHeaders", number, "value"), "has control characters in it")


def _host(rules: Rules, at: Path, host: str) -> None:
    if _SPACE.search(host) or "/" in host:
        rules.error(at, f'"{host}" is neither an address nor the name of a host')


def _port(rules: Rules, at: Path, port: IntOrString, container: Container) -> None:
    if isinstance(port, int):
        if not 1 <= port <= 65535:
            rules.error(at, f"{port} is not between 1 and 65535")
        return
    names = [known.name for known in container.ports if known.name]
    if port not in names:
        known = f"it has {', '.join(names)}" if names else "give a number, or name one of its ports so"
        rules.error(at, f'the container has no port "{port}"', known, rests_on=(*at[:3], "ports"))
