"""The table of fields against Kubernetes' published schemas, and what podd says of a manifest against the table."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from podd.errors import Invalid
from podd.model import manifest
from podd.model.fields import FIELDS, RESOURCES, SECURITY, Treatment, is_security
from podd.model.fields import ROWS as ALL_ROWS
from podd.model.objects import ConfigMap, Secret
from podd.model.pod import Pod
from podd.model.problem import Problem
from podd.model.scalars import title
from podd.model.suggest import present, type_of

Schema = dict[str, Any]
Place = tuple[str | int, ...]

SPEC = importlib.util.find_spec("kubernetes_validate")
assert SPEC is not None, "kubernetes-validate carries the schemas: pip install podd[test]"
assert SPEC.origin is not None
DIRECTORIES = sorted(
    (Path(SPEC.origin).parent / "kubernetes-json-schema").glob("v*-local"),
    key=lambda path: [int(part) for part in path.name[1:].removesuffix("-local").split(".")],
)
NEWEST = DIRECTORIES[-1]

OWN_FIELDS = {("ObjectMeta", "uid"), ("ObjectMeta", "creationTimestamp")}
"""In podd's types because podd sets them; left unread in a manifest."""


@cache
def definitions(directory: Path) -> dict[str, Schema]:
    """By Kubernetes' name of the type, the parts of core/v1 and meta/v1."""
    document = json.loads((directory / "_definitions.json").read_text())
    every = document.get("$defs") or document["definitions"]
    wanted = ("io.k8s.api.core.v1.", "io.k8s.apimachinery.pkg.apis.meta.v1.", "io.k8s.apimachinery.pkg.api.resource.")
    return {name.rpartition(".")[2]: schema for name, schema in every.items() if name.startswith(wanted)}


def ref(schema: Schema) -> str:
    """The name of the type that it refers to, in whichever way; "" for a plain one."""
    for part in (schema, *schema.get("allOf", []), *schema.get("anyOf", []), *schema.get("oneOf", [])):
        if "$ref" in part:
            return str(part["$ref"]).rpartition(".")[2]
    return ""


def honoured_types() -> Iterator[inspect.StructType]:
    """Every object of podd's Pod, and of the documents beside it, once."""
    seen: dict[str, inspect.StructType] = {}

    def walk(kind: inspect.Type) -> None:
        kind = present(kind)
        if isinstance(kind, inspect.VarTupleType):
            walk(kind.item_type)
        elif isinstance(kind, inspect.StructType) and seen.setdefault(kind.cls.__name__, kind) is kind:
            for member in kind.fields:
                walk(member.type)

    for cls in (Pod, ConfigMap, Secret):
        walk(type_of(cls))
    return iter(seen.values())


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.name)
def test_no_field_is_unclassified(directory: Path) -> None:
    """Every leaf lies at or below a row: the walk goes on below honoured objects and ends at every other row."""
    schemas = definitions(directory)
    missing = []
    unseen, seen = ["Pod", "ConfigMap", "Secret"], set()
    while unseen:
        kind = unseen.pop()
        seen.add(kind)
        for name, schema in schemas[kind]["properties"].items():
            row = ALL_ROWS[kind].get(name)
            if row is None:
                missing.append(f"{kind}.{name}")
                continue
            inner = schema.get("items", schema)
            below = ref(inner)
            if row.treatment is Treatment.HONOURED and schemas.get(below, {}).get("properties") and below not in seen:
                unseen.append(below)
    assert missing == []
    assert seen <= set(ALL_ROWS)


def test_every_row_is_a_field_of_some_version() -> None:
    for kind, rows in ALL_ROWS.items():
        known = {
            name for directory in DIRECTORIES for name in definitions(directory).get(kind, {}).get("properties", {})
        }
        assert set(rows) - known == set(), kind


def test_the_honoured_fields_are_those_of_podds_types() -> None:
    types = {kind.cls.__name__: kind for kind in honoured_types()}
    assert set(types) == set(ALL_ROWS)
    for name, kind in types.items():
        honoured = {field for field, row in ALL_ROWS[name].items() if row.treatment is Treatment.HONOURED}
        own = {field for owner, field in OWN_FIELDS if owner == name}
        assert {member.encode_name for member in kind.fields} - own == honoured, name


def test_the_types_are_those_of_the_schema() -> None:
    schemas = definitions(NEWEST)
    for kind in honoured_types():
        properties = schemas[kind.cls.__name__]["properties"]
        for member in kind.fields:
            assert json_type(present(member.type)) == schema_type(properties[member.encode_name]), member


def json_type(kind: inspect.Type) -> str:
    match kind:
        case inspect.StructType():
            return kind.cls.__name__
        case inspect.Metadata():
            return {"Mode": "integer"}.get(title(kind), title(kind))
        case inspect.VarTupleType(item_type=item):
            return f"list of {json_type(item)}"
        case inspect.DictType(value_type=value):
            return f"map of {json_type(value)}"
        case inspect.IntType():
            return "integer"
        case inspect.BoolType():
            return "boolean"
    return "string"


def schema_type(schema: Schema) -> str:
    if name := ref(schema):
        return {"Time": "string"}.get(name, name)
    kinds = schema.get("type", [])
    (kind,) = {kinds} if isinstance(kinds, str) else set(kinds) - {"null"}
    if kind == "array":
        return f"list of {schema_type(schema['items'])}"
    if kind == "object":
        return f"map of {schema_type(schema['additionalProperties'])}"
    return str(kind)


# ---- what is said of a manifest


def base() -> dict[str, Any]:
    """A good pod that has every object that podd knows."""
    profile = {"type": "RuntimeDefault"}
    member = {
        "name": "main",
        "image": "rootfs:/",
        "command": ["true"],
        "env": ENV,
        "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}],
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "1"}},
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
        "restartPolicy": "Never",
        "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
        "securityContext": {"capabilities": {"add": ["KILL"]}, "seccompProfile": profile},
        "volumeMounts": [{"name": "a", "mountPath": "/a"}],
        "lifecycle": {"postStart": {"exec": {"command": ["true"]}}, "preStop": {"sleep": {"seconds": 1}}},
        "livenessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "A", "value": "x"}]}},
        "readinessProbe": {"tcpSocket": {"port": 80}},
        "startupProbe": {"grpc": {"port": 80}},
    }
    context = {"seccompProfile": profile, "sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}
    spec = {
        "containers": [member],
        "securityContext": context,
        "os": {"name": "linux"},
        "resources": {"limits": {"cpu": "1"}},
        "volumes": VOLUMES,
        "imagePullSecrets": [{"name": "passwords"}],
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}],
        "dnsConfig": {"nameservers": ["192.0.2.1"], "options": [{"name": "ndots", "value": "2"}]},
    }
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}
    return copy.deepcopy(document)


ENV = [
    {"name": "A", "value": "x"},
    {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
    {"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
]

ITEMS = [{"key": "k", "path": "k"}]
FILES = [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]
VOLUMES = [
    {"name": "b", "hostPath": {"path": "/b"}},
    {"name": "a", "emptyDir": {"medium": "Memory"}},
    {"name": "c", "configMap": {"name": "c", "items": ITEMS}},
    {"name": "d", "secret": {"secretName": "s"}},
    {"name": "e", "downwardAPI": {"items": FILES}},
    {
        "name": "f",
        "projected": {
            "sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}, {"downwardAPI": {"items": FILES}}]
        },
    },
]

CONTAINER: Place = ("spec", "containers", 0)
SOURCES: Place = ("spec", "volumes", 5, "projected", "sources")

PLACES: dict[str, Place] = {
    "Pod": (),
    "ObjectMeta": ("metadata",),
    "PodSpec": ("spec",),
    "PodOS": ("spec", "os"),
    "LocalObjectReference": ("spec", "imagePullSecrets", 0),
    "HostAlias": ("spec", "hostAliases", 0),
    "PodDNSConfig": ("spec", "dnsConfig"),
    "PodDNSConfigOption": ("spec", "dnsConfig", "options", 0),
    "PodSecurityContext": ("spec", "securityContext"),
    "Sysctl": ("spec", "securityContext", "sysctls", 0),
    "Container": CONTAINER,
    "EnvVar": (*CONTAINER, "env", 0),
    "EnvVarSource": (*CONTAINER, "env", 1, "valueFrom"),
    "ObjectFieldSelector": (*CONTAINER, "env", 1, "valueFrom", "fieldRef"),
    "ResourceFieldSelector": (*CONTAINER, "env", 2, "valueFrom", "resourceFieldRef"),
    "ConfigMapKeySelector": (*CONTAINER, "env", 3, "valueFrom", "configMapKeyRef"),
    "SecretKeySelector": (*CONTAINER, "env", 4, "valueFrom", "secretKeyRef"),
    "EnvFromSource": (*CONTAINER, "envFrom", 0),
    "ConfigMapEnvSource": (*CONTAINER, "envFrom", 0, "configMapRef"),
    "SecretEnvSource": (*CONTAINER, "envFrom", 1, "secretRef"),
    "ContainerPort": (*CONTAINER, "ports", 0),
    "ResourceRequirements": (*CONTAINER, "resources"),
    "ContainerResizePolicy": (*CONTAINER, "resizePolicy", 0),
    "ContainerRestartRule": (*CONTAINER, "restartPolicyRules", 0),
    "ContainerRestartRuleOnExitCodes": (*CONTAINER, "restartPolicyRules", 0, "exitCodes"),
    "SecurityContext": (*CONTAINER, "securityContext"),
    "Capabilities": (*CONTAINER, "securityContext", "capabilities"),
    "SeccompProfile": (*CONTAINER, "securityContext", "seccompProfile"),
    "VolumeMount": (*CONTAINER, "volumeMounts", 0),
    "Lifecycle": (*CONTAINER, "lifecycle"),
    "LifecycleHandler": (*CONTAINER, "lifecycle", "postStart"),
    "ExecAction": (*CONTAINER, "lifecycle", "postStart", "exec"),
    "SleepAction": (*CONTAINER, "lifecycle", "preStop", "sleep"),
    "Probe": (*CONTAINER, "livenessProbe"),
    "HTTPGetAction": (*CONTAINER, "livenessProbe", "httpGet"),
    "HTTPHeader": (*CONTAINER, "livenessProbe", "httpGet", "httpHeaders", 0),
    "TCPSocketAction": (*CONTAINER, "readinessProbe", "tcpSocket"),
    "GRPCAction": (*CONTAINER, "startupProbe", "grpc"),
    "Volume": ("spec", "volumes", 1),
    "HostPathVolumeSource": ("spec", "volumes", 0, "hostPath"),
    "EmptyDirVolumeSource": ("spec", "volumes", 1, "emptyDir"),
    "ConfigMapVolumeSource": ("spec", "volumes", 2, "configMap"),
    "KeyToPath": ("spec", "volumes", 2, "configMap", "items", 0),
    "SecretVolumeSource": ("spec", "volumes", 3, "secret"),
    "DownwardAPIVolumeSource": ("spec", "volumes", 4, "downwardAPI"),
    "DownwardAPIVolumeFile": ("spec", "volumes", 4, "downwardAPI", "items", 0),
    "ProjectedVolumeSource": ("spec", "volumes", 5, "projected"),
    "VolumeProjection": (*SOURCES, 0),
    "ConfigMapProjection": (*SOURCES, 0, "configMap"),
    "SecretProjection": (*SOURCES, 1, "secret"),
    "DownwardAPIProjection": (*SOURCES, 2, "downwardAPI"),
}

NEEDED = {
    *(("Container", name) for name in ("image", "command", "restartPolicy")),
    *(("PodSpec", "volumes"), ("Volume", "emptyDir"), ("ExecAction", "command")),
    *(
        (kind, "name")
        for kind in ("ConfigMapKeySelector", "SecretKeySelector", "ConfigMapEnvSource", "SecretEnvSource")
    ),
    *((kind, "name") for kind in ("ConfigMapVolumeSource", "ConfigMapProjection", "SecretProjection")),
    *(("SecretVolumeSource", "secretName"), ("Sysctl", "value")),
    *(("EnvVarSource", "fieldRef"), ("EnvFromSource", "configMapRef"), ("DownwardAPIVolumeFile", "fieldRef")),
    *(("Probe", "httpGet"), ("LifecycleHandler", "exec"), ("VolumeProjection", "configMap")),
    ("PodDNSConfigOption", "name"),
    *(("ContainerRestartRule", "exitCodes"), ("ContainerRestartRuleOnExitCodes", "values")),
}
"""What the base cannot do without, by rules that go beyond its type."""


def problems(document: dict[str, Any]) -> list[Problem]:
    try:
        return list(manifest.parse(json.dumps(document)).remarks)
    except Invalid as exc:
        found = exc.facts["problems"]
        assert isinstance(found, list)
        return found


def with_field(kind: str, name: str, value: object) -> tuple[dict[str, Any], str]:
    """A good pod but for that, and the path of it."""
    document = base()
    inner: Any = document
    for part in PLACES[kind]:
        inner = inner[part]
    inner[name] = value
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in (*PLACES[kind], name))
    return document, path.removeprefix(".")


def sample(schema: Schema) -> object:
    """Something of its type that is not empty and not harmless."""
    kind = schema_type(schema) if not ref(schema) else ref(schema)
    if kind.startswith("list of"):
        return [sample(schema["items"])]
    if kind.startswith("map of"):
        return {"key": "value"}
    return {"string": "else", "integer": 5, "boolean": True, "number": 1.5}.get(kind, {"key": "value"})


ROWS = [(kind, name) for kind, rows in FIELDS.items() for name in rows]
LEVELS = {Treatment.REFUSED: "error", Treatment.NO_EFFECT: "warning", Treatment.IGNORED: "note"}


def test_the_base_is_good() -> None:
    assert problems(base()) == []
    assert set(PLACES) == set(FIELDS)


@pytest.mark.parametrize(("kind", "name"), ROWS, ids=[f"{kind}.{name}" for kind, name in ROWS])
def test_a_field_is_treated_as_its_row_says(kind: str, name: str) -> None:
    row = FIELDS[kind][name]
    schemas = [definitions(directory).get(kind, {}).get("properties", {}).get(name) for directory in DIRECTORIES]
    value = sample([schema for schema in schemas if schema][-1])
    if value in row.harmless:
        value = not value
    document, path = with_field(kind, name, value)
    said = [(problem.level, problem.message) for problem in problems(document) if problem.path == path]
    if row.treatment is Treatment.HONOURED:
        assert not any(message in ("unknown field", row.note) for _, message in said)
    elif value in row.harmless:
        assert said == []
    else:
        assert [level for level, _ in said] == [LEVELS[row.treatment]]
        assert row.note in said[0][1]


@pytest.mark.parametrize(("kind", "name"), ROWS, ids=[f"{kind}.{name}" for kind, name in ROWS])
def test_what_is_refused_can_be_left_out_unless_it_is_about_security(kind: str, name: str) -> None:
    if FIELDS[kind][name].treatment is not Treatment.REFUSED:
        return
    schemas = [definitions(directory).get(kind, {}).get("properties", {}).get(name) for directory in DIRECTORIES]
    value = sample([schema for schema in schemas if schema][-1])
    document, path = with_field(kind, name, not value if value in FIELDS[kind][name].harmless else value)
    text = json.dumps(document)
    if is_security(kind, name):
        with pytest.raises(Invalid):
            manifest.parse(text, strict=False)
        return
    read = manifest.parse(text, strict=False)
    said = [remark for remark in read.remarks if remark.path == path]
    assert [(remark.level, remark.message.partition(":")[0]) for remark in said] == [("warning", "is left out")]
    assert read.pods == manifest.parse(json.dumps(base())).pods


UNKNOWN = [
    ("PodSpec", "contianers", False),
    ("Container", "comand", False),
    ("PodSpec", "somethingElse", False),
    ("PodSpec", "hostUser", True),
    ("PodSpec", "runAsNonRoot", True),
    ("Container", "runAsNonRooot", True),
    ("Container", "securityContxt", True),
    ("SecurityContext", "somethingElse", True),
    ("VolumeMount", "readonly", True),
    ("VolumeMount", "somethingElse", False),
]


@pytest.mark.parametrize(("kind", "name", "must"), UNKNOWN)
def test_an_unknown_field_counts_as_the_one_that_was_meant(kind: str, name: str, must: bool) -> None:
    document, path = with_field(kind, name, "x")
    with pytest.raises(Invalid):
        manifest.parse(json.dumps(document))
    if must:
        with pytest.raises(Invalid, match="unknown field"):
            manifest.parse(json.dumps(document), strict=False)
    else:
        (remark,) = manifest.parse(json.dumps(document), strict=False).remarks
        assert (remark.path, remark.level) == (path, "warning")
        assert remark.message == "is left out: unknown field"


@pytest.mark.parametrize("strict", [True, False])
def test_an_impossible_value_is_refused_whoever_asks(strict: bool) -> None:
    document, _ = with_field("PodSpec", "restartPolicy", "Sometimes")
    with pytest.raises(Invalid, match="Sometimes"):
        manifest.parse(json.dumps(document), strict=strict)


def test_amounts_that_podd_does_not_do_are_left_out() -> None:
    amounts = {"cpu": "1", "hugepages-2Mi": "4Mi", "example.com/gpu": "1"}
    document, _ = with_field("Container", "resources", {"limits": amounts})
    with pytest.raises(Invalid):
        manifest.parse(json.dumps(document))
    read = manifest.parse(json.dumps(document), strict=False)
    member = read.pods[0].spec.containers[0]
    assert member.resources.limits == {"cpu": "1"}
    at = "spec.containers[0]"
    assert {remark.path for remark in read.remarks} == {
        f"{at}.resources.limits.hugepages-2Mi",
        f"{at}.resources.limits[example.com/gpu]",
    }


def test_a_volume_without_the_source_that_was_left_out_is_refused() -> None:
    document, _ = with_field("PodSpec", "volumes", [{"name": "a", "nfs": {"server": "x", "path": "/"}}])
    with pytest.raises(Invalid, match="exactly one source"):
        manifest.parse(json.dumps(document), strict=False)


def test_the_objects_and_fields_about_security_are_there() -> None:
    for each in SECURITY:
        kind, _, name = each.partition(".")
        assert kind in FIELDS
        assert not name or name in FIELDS[kind], each


HARMLESS = [(kind, name, value) for kind, name in ROWS for value in FIELDS[kind][name].harmless]


@pytest.mark.parametrize(("kind", "name", "value"), HARMLESS, ids=str)
def test_a_harmless_value_is_accepted_without_a_word(kind: str, name: str, value: object) -> None:
    document, _ = with_field(kind, name, 0 if value == "0" else value)
    assert problems(document) == []


@pytest.mark.parametrize(("kind", "name"), ROWS, ids=[f"{kind}.{name}" for kind, name in ROWS])
def test_null_is_as_if_it_were_not_there(kind: str, name: str) -> None:
    document, path = with_field(kind, name, None)
    types = {found.cls.__name__: found for found in honoured_types()}
    required = {member.encode_name for member in types[kind].fields if member.required}
    if name not in required | {"apiVersion", "kind"} and (kind, name) not in NEEDED:
        assert problems(document) == [], path


def test_every_resource_is_treated_as_its_row_says() -> None:
    for name, row in RESOURCES.items():
        document, _ = with_field("ResourceRequirements", "limits", {name: 1})
        refused = [problem.message for problem in problems(document)]
        assert refused == ([] if row.treatment is Treatment.HONOURED else [row.note])


def test_the_page_shows_the_table() -> None:
    script = Path(__file__).parents[2] / "tools" / "manifest_table.py"
    spec = importlib.util.spec_from_file_location("manifest_table", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run python tools/manifest_table.py"


def test_a_value_of_every_honoured_type_can_be_written_back() -> None:
    """What podd shows of a pod is a manifest that makes the same pod."""
    read = manifest.parse(json.dumps(base())).pods[0]
    assert manifest.parse(msgspec.json.encode(read)).pods[0] == read
