"""The rules on probes and hooks, from both sides of their borders."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podd.errors import Invalid
from podd.model import manifest

Found = list[tuple[str, str, str]]
Said = tuple[str, Found]

TRUE = {"exec": {"command": ["true"]}}
GET = {"httpGet": {"port": 80}}


def check(member: dict[str, Any] | None = None, init: dict[str, Any] | None = None, **spec: Any) -> Found:
    """Level, path and message of all that is said of a good pod with that laid over it."""
    good = {"image": "rootfs:/", "command": ["true"]}
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {
            "containers": [{"name": "c", **good, "ports": [{"name": "http", "containerPort": 80}], **(member or {})}],
            "initContainers": [] if init is None else [{"name": "i", **good, **init}],
            **spec,
        },
    }
    try:
        found = manifest.parse(json.dumps(document)).remarks
    except Invalid as exc:
        found = exc.facts["problems"]  # type: ignore[assignment]
    return [(p.level, p.path, f"{p.message}; {p.remedy}" if p.remedy else p.message) for p in found]


def ready(handler: dict[str, Any] | None = None, **fields: Any) -> Found:
    return check({"readinessProbe": {**(TRUE if handler is None else handler), **fields}})


def live(**fields: Any) -> Found:
    return check({"livenessProbe": {**TRUE, **fields}})


def hook(name: str = "preStop", **handler: Any) -> Found:
    return check({"lifecycle": {name: handler}})


def http(**fields: Any) -> Found:
    return ready({"httpGet": {"port": 80, **fields}})


def signal(name: str, **spec: Any) -> Found:
    return check({"lifecycle": {"stopSignal": name}}, **spec)


LINUX = {"os": {"name": "linux"}}

GOOD = {
    "exec": ready(TRUE),
    "httpGet": http(path="healthz?x=y", scheme="HTTPS", host="::1", httpHeaders=[{"name": "X-A", "value": "b\tc"}]),
    "a port by name": http(port="http"),
    "tcpSocket": ready({"tcpSocket": {"port": 65535}}),
    "grpc": ready({"grpc": {"port": 1, "service": "x"}}),
    "the smallest numbers": ready(
        initialDelaySeconds=0, timeoutSeconds=1, periodSeconds=1, successThreshold=1, failureThreshold=1
    ),
    "several successes": ready(successThreshold=5),
    "grace of a liveness probe": live(terminationGracePeriodSeconds=1),
    "a startup probe": check({"startupProbe": {**GET, "failureThreshold": 30, "terminationGracePeriodSeconds": 60}}),
    "a sidecar": check(
        init={"restartPolicy": "Always", "startupProbe": TRUE, "readinessProbe": TRUE, "lifecycle": {"preStop": TRUE}}
    ),
    "hooks": check({"lifecycle": {"postStart": GET, "preStop": {"tcpSocket": {"port": "http"}}}}),
    "no sleep": hook(sleep={"seconds": 0}),
    "sleep to the end": hook(sleep={"seconds": 30}),
    "a signal": signal("SIGUSR1", **LINUX),
    "a real-time signal": signal("SIGRTMIN+3", **LINUX),
}


@pytest.mark.parametrize("found", GOOD.values(), ids=list(GOOD))
def test_good(found: Found) -> None:
    assert found == []


C = "spec.containers[0]"
PROBE = f"{C}.readinessProbe"
HOOK = f"{C}.lifecycle.preStop"
INIT = "spec.initContainers[0]"
NO_INIT = (
    "an init container that ends has no use for it; restartPolicy: Always makes a sidecar of it, which may have one"
)
NO_HANDLER = "says nothing of what to do; give exec, httpGet, tcpSocket or"

BAD: dict[str, tuple[Found, str, str]] = {
    "no handler": (ready({}), PROBE, f"{NO_HANDLER} grpc"),
    "two handlers": (
        ready({**TRUE, **GET}),
        PROBE,
        "has exec and httpGet: exactly one is wanted; give exec, httpGet, tcpSocket or grpc",
    ),
    "a hook without handler": (hook(), HOOK, f"{NO_HANDLER} sleep"),
    "no command": (
        ready({"exec": {}}),
        f"{PROBE}.exec.command",
        "required: the program to run, and its arguments",
    ),
    "an empty command": (
        hook(exec={"command": [""]}),
        f"{HOOK}.exec.command[0]",
        "is empty: it names the program to run",
    ),
    "port 0": (http(port=0), f"{PROBE}.httpGet.port", "0 is not between 1 and 65535"),
    "port 65536": (
        ready({"tcpSocket": {"port": 65536}}),
        f"{PROBE}.tcpSocket.port",
        "65536 is not between 1 and 65535",
    ),
    "grpc port": (ready({"grpc": {"port": -1}}), f"{PROBE}.grpc.port", "-1 is not between 1 and 65535"),
    "a port that is not there": (
        http(port="web"),
        f"{PROBE}.httpGet.port",
        'the container has no port "web"; it has http',
    ),
    "a port where there are none": (
        check({"ports": [], "readinessProbe": {"tcpSocket": {"port": "web"}}}),
        f"{PROBE}.tcpSocket.port",
        'the container has no port "web"; give a number, or name one of its ports so',
    ),
    "a header's name": (
        http(httpHeaders=[{"name": "X Y", "value": ""}]),
        f"{PROBE}.httpGet.httpHeaders[0].name",
        '"X Y" is not the name of a header; letters, digits and "-"',
    ),
    "a header's value": (
        http(httpHeaders=[{"name": "X", "value": "a\r\nb: c"}]),
        f"{PROBE}.httpGet.httpHeaders[0].value",
        "has control characters in it",
    ),
    "a url as host": (
        http(host="http://x"),
        f"{PROBE}.httpGet.host",
        '"http://x" is neither an address nor the name of a host',
    ),
    "a negative delay": (
        ready(initialDelaySeconds=-1),
        f"{PROBE}.initialDelaySeconds",
        "-1 is not between 0 and 2147483647",
    ),
    "a negative period": (ready(periodSeconds=-1), f"{PROBE}.periodSeconds", "-1 is not between 1 and 2147483647"),
    "a long timeout": (
        ready(timeoutSeconds=2**31),
        f"{PROBE}.timeoutSeconds",
        "2147483648 is not between 1 and 2147483647",
    ),
    "several successes of liveness": (
        live(successThreshold=2),
        f"{C}.livenessProbe.successThreshold",
        "must be 1: of these probes one success is enough",
    ),
    "several successes of startup": (
        check({"startupProbe": {**TRUE, "successThreshold": 2}}),
        f"{C}.startupProbe.successThreshold",
        "must be 1: of these probes one success is enough",
    ),
    "grace of readiness": (
        ready(terminationGracePeriodSeconds=5),
        f"{PROBE}.terminationGracePeriodSeconds",
        "a readiness probe ends no container",
    ),
    "no grace": (
        live(terminationGracePeriodSeconds=0),
        f"{C}.livenessProbe.terminationGracePeriodSeconds",
        "0 is not between 1 and 2147483647",
    ),
    "sleep over the end": (
        hook(sleep={"seconds": 31}),
        f"{HOOK}.sleep.seconds",
        "31 is not between 0 and terminationGracePeriodSeconds (30)",
    ),
    "sleep backwards": (
        hook("postStart", sleep={"seconds": -1}),
        f"{C}.lifecycle.postStart.sleep.seconds",
        "-1 is not between 0 and terminationGracePeriodSeconds (30)",
    ),
    "no signal": (
        signal("TERM", **LINUX),
        f"{C}.lifecycle.stopSignal",
        '"TERM" is not the name of a signal; write SIGTERM',
    ),
    "no signal at all": (
        signal("9", **LINUX),
        f"{C}.lifecycle.stopSignal",
        '"9" is not the name of a signal; as SIGTERM, SIGRTMIN+3',
    ),
    "a signal of no system": (
        signal("SIGTERM"),
        f"{C}.lifecycle.stopSignal",
        "needs spec.os.name: which signals there are depends on it; set spec.os.name: linux",
    ),
    "a probe of an init container": (check(init={"readinessProbe": TRUE}), f"{INIT}.readinessProbe", NO_INIT),
    "a startup probe of one": (check(init={"startupProbe": TRUE}), f"{INIT}.startupProbe", NO_INIT),
    "a liveness probe of one": (check(init={"livenessProbe": TRUE}), f"{INIT}.livenessProbe", NO_INIT),
    "hooks of one": (check(init={"lifecycle": {}}), f"{INIT}.lifecycle", NO_INIT),
    "a sidecar's wrong probe": (
        check(init={"restartPolicy": "Always", "startupProbe": {}}),
        f"{INIT}.startupProbe",
        f"{NO_HANDLER} grpc",
    ),
}


@pytest.mark.parametrize(("found", "path", "message"), BAD.values(), ids=list(BAD))
def test_bad(found: Found, path: str, message: str) -> None:
    assert found == [("error", path, message)]


@pytest.mark.parametrize(
    ("field", "default"),
    [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)],
)
def test_what_a_cluster_replaces_is_said(field: str, default: int) -> None:
    assert ready(**{field: 0}) == [("warning", f"{PROBE}.{field}", f"0 means {default}, the default")]
