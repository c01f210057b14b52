"""Every rule on volumes, their mounts, and values from elsewhere, from both sides of its border."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podd.errors import Invalid
from podd.model import manifest

V = "spec.volumes[0]"
C = "spec.containers[0]"
ENV = f"{C}.env[0].valueFrom"
MOUNT = f"{C}.volumeMounts[0]"

Json = dict[str, Any]


def problems(volume: Json | None = None, **member: Any) -> list[tuple[str, str]]:
    """Errors of a pod with that volume, and with that in its one container."""
    volumes = [{"name": "v", **({"emptyDir": {}} if volume is None else volume)}]
    container = {"name": "c", "image": "rootfs:/", "command": ["true"], **member}
    spec = {"containers": [container], "volumes": volumes}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}
    try:
        manifest.parse(json.dumps(pod))
    except Invalid as exc:
        return [(p.path, p.message) for p in exc.facts["problems"] if p.level == "error"]  # type: ignore[attr-defined]
    return []


def config_map(*items: Json, **more: Any) -> list[tuple[str, str]]:
    return problems({"configMap": {"name": "m", "items": list(items), **more}})


def projected(*sources: Json, **more: Any) -> list[tuple[str, str]]:
    return problems({"projected": {"sources": list(sources), **more}})


def file(path: str, key: str = "k", **more: Any) -> Json:
    return {"key": key, "path": path, **more}


def told(field: str, path: str = "f") -> Json:
    return {"path": path, "fieldRef": {"fieldPath": field}}


def downward(*items: Json) -> list[tuple[str, str]]:
    return problems({"downwardAPI": {"items": list(items)}})


def mount(**fields: Any) -> list[tuple[str, str]]:
    privileged = fields.pop("privileged", False)
    return problems(
        volumeMounts=[{"name": "v", "mountPath": "/v", **fields}], securityContext={"privileged": privileged}
    )


def env(**value_from: Any) -> list[tuple[str, str]]:
    return problems(env=[{"name": "E", "valueFrom": value_from}])


def field(path: str, **more: Any) -> list[tuple[str, str]]:
    return env(fieldRef={"fieldPath": path, **more})


def resource(name: str, **more: Any) -> list[tuple[str, str]]:
    return env(resourceFieldRef={"resource": name, **more})


GOOD = {
    "all keys": config_map(optional=True),
    "items": config_map(file("a/b"), file("a/c", mode=0), file("d", key="A.b-c_d", mode=0o777), defaultMode=0o400),
    "secret": problems({"secret": {"secretName": "s.t", "defaultMode": 0o400}}),
    "downward": downward(
        told("metadata.labels"), told("metadata.annotations['a/B']", "g/h"), told("metadata.uid", "u")
    ),
    "a file of what a container may use": downward(
        {"path": "f", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}}
    ),
    "projected": projected(
        {"configMap": {"name": "m", "items": [file("a")]}},
        {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [told("metadata.name", "b")]}},
        defaultMode=0,
    ),
    "nothing projected": projected(),
    "sub path": mount(subPath="a/b..c/.d"),
    "sub path of variables": mount(subPathExpr="$(POD)/x"),
    "propagation": mount(mountPropagation="HostToContainer", readOnly=True, recursiveReadOnly="Disabled"),
    "both ways": mount(mountPropagation="Bidirectional", privileged=True),
    "all below read only": mount(readOnly=True, recursiveReadOnly="Enabled", mountPropagation="None"),
    "fields": [each for path in ("metadata.uid", "status.podIPs", "metadata.labels['a/b']") for each in field(path)],
    "resources": [each for name in ("limits.memory", "requests.ephemeral-storage") for each in resource(name)],
    "divisor": resource("limits.memory", divisor="1Mi", containerName="c"),
    "key": env(secretKeyRef={"name": "s", "key": "a.b", "optional": True}),
    "all of it": problems(envFrom=[{"prefix": "A-", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}}]),
}


@pytest.mark.parametrize("found", GOOD.values(), ids=GOOD)
def test_good(found: list[tuple[str, str]]) -> None:
    assert found == []


KEPT = 'must not begin with "..": such names are kept for the files that podd swaps'

BAD = {
    "no name": (problems({"configMap": {}}), f"{V}.configMap.name", '"" is not an RFC 1123 subdomain'),
    "no secret": (problems({"secret": {}}), f"{V}.secret.secretName", '"" is not an RFC 1123 subdomain'),
    "key": (
        config_map(file("a", key="a/b")),
        f"{V}.configMap.items[0].key",
        '"a/b" is not a key of a ConfigMap or Secret',
    ),
    "path out": (config_map(file("a/../b")), f"{V}.configMap.items[0].path", 'must not contain ".."'),
    "path of podd": (config_map(file("..a")), f"{V}.configMap.items[0].path", KEPT),
    "path of the host": (
        config_map(file("/a")),
        f"{V}.configMap.items[0].path",
        '"/a" is an absolute path: it goes below the volume',
    ),
    "no path": (config_map(file("")), f"{V}.configMap.items[0].path", "required"),
    "path of nothing": (config_map(file("./")), f"{V}.configMap.items[0].path", '"./" names nothing'),
    "long path": (
        config_map(file("x" * 256)),
        f"{V}.configMap.items[0].path",
        "is longer than a path of Linux may be: 255 bytes a part, 4095 in all",
    ),
    "mode": (
        config_map(file("a", mode=512)),
        f"{V}.configMap.items[0].mode",
        "512 is not between 0 and 511 (octal 777)",
    ),
    "negative mode": (
        config_map(defaultMode=-1),
        f"{V}.configMap.defaultMode",
        "-1 is not between 0 and 511 (octal 777)",
    ),
    "mode of all": (
        projected(defaultMode=755),
        f"{V}.projected.defaultMode",
        "755 is not between 0 and 511 (octal 777)",
    ),
    "one path twice": (
        config_map(file("a/b"), file("a//./b")),
        f"{V}.configMap.items[1].path",
        '"a//./b" is given twice: a volume has one file of a name',
    ),
    "one path of two sources": (
        projected({"configMap": {"name": "m", "items": [file("a")]}}, {"secret": {"name": "s", "items": [file("a")]}}),
        f"{V}.projected.sources[1].secret.items[0].path",
        '"a" is given twice: a volume has one file of a name',
    ),
    "a file in a file": (
        config_map(file("a"), file("a/b")),
        f"{V}.configMap.items[1].path",
        '"a/b" and "a": one is a directory where the other is a file',
    ),
    "two projections in one": (
        projected({"configMap": {"name": "m"}, "secret": {"name": "s"}}),
        f"{V}.projected.sources[0]",
        "has exactly one of configMap, secret and downwardAPI",
    ),
    "file of nothing": (
        downward({"path": "a"}),
        f"{V}.downwardAPI.items[0]",
        "has exactly one of fieldRef and resourceFieldRef",
    ),
    "file of an address": (
        downward(told("status.podIP")),
        f"{V}.downwardAPI.items[0].fieldRef.fieldPath",
        '"status.podIP" cannot be told',
    ),
    "file of no container": (
        downward({"path": "a", "resourceFieldRef": {"resource": "limits.cpu"}}),
        f"{V}.downwardAPI.items[0].resourceFieldRef.containerName",
        "required",
    ),
    "both sub paths": (mount(subPath="a", subPathExpr="b"), f"{MOUNT}.subPathExpr", "excludes subPath"),
    "sub path out": (mount(subPath="a/.."), f"{MOUNT}.subPath", 'must not contain ".."'),
    "sub path of the host": (
        mount(subPath="/a"),
        f"{MOUNT}.subPath",
        '"/a" is an absolute path: it goes below the volume',
    ),
    "sub path of variables out": (mount(subPathExpr="../$(A)"), f"{MOUNT}.subPathExpr", 'must not contain ".."'),
    "both ways without privilege": (
        mount(mountPropagation="Bidirectional"),
        f"{MOUNT}.mountPropagation",
        "Bidirectional is for privileged containers alone",
    ),
    "all below, and it writable": (
        mount(recursiveReadOnly="IfPossible"),
        f"{MOUNT}.recursiveReadOnly",
        "needs readOnly: true",
    ),
    "all below, and more to come": (
        mount(readOnly=True, recursiveReadOnly="Enabled", mountPropagation="HostToContainer"),
        f"{MOUNT}.recursiveReadOnly",
        "excludes mountPropagation HostToContainer: what comes later could be written",
    ),
    "two values": (
        problems(env=[{"name": "E", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        ENV,
        "excludes value",
    ),
    "value from nothing": (
        env(),
        ENV,
        "has exactly one of fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef",
    ),
    "value from all labels": (
        field("metadata.labels"),
        f"{ENV}.fieldRef.fieldPath",
        '"metadata.labels" cannot be told',
    ),
    "value from no label": (field("metadata.labels['']"), f"{ENV}.fieldRef.fieldPath", '"" is not a qualified name'),
    "value from another version": (
        field("metadata.name", apiVersion="v2"),
        f"{ENV}.fieldRef.apiVersion",
        '"v2" is not v1',
    ),
    "resource": (resource("limits.pods"), f"{ENV}.resourceFieldRef.resource", '"limits.pods" cannot be told'),
    "resource of nobody": (
        resource("limits.cpu", containerName="x"),
        f"{ENV}.resourceFieldRef.containerName",
        'there is no container "x"',
    ),
    "no divisor": (
        resource("limits.memory", divisor="1m"),
        f"{ENV}.resourceFieldRef.divisor",
        "1m is no divisor of memory",
    ),
    "value of no map": (
        env(configMapKeyRef={"key": "k"}),
        f"{ENV}.configMapKeyRef.name",
        '"" is not an RFC 1123 subdomain',
    ),
    "value of no key": (
        env(secretKeyRef={"name": "s", "key": "..k"}),
        f"{ENV}.secretKeyRef.key",
        '"..k" is not a key of a ConfigMap or Secret',
    ),
    "all of nothing": (problems(envFrom=[{}]), f"{C}.envFrom[0]", "has exactly one of configMapRef and secretRef"),
    "prefix": (
        problems(envFrom=[{"prefix": "a=", "secretRef": {"name": "s"}}]),
        f"{C}.envFrom[0].prefix",
        '"a=" cannot begin the name of a variable',
    ),
}


@pytest.mark.parametrize(("found", "path", "message"), BAD.values(), ids=BAD)
def test_bad(found: list[tuple[str, str]], path: str, message: str) -> None:
    assert found == [(path, message)]
