"""What pods take from elsewhere: variables and files, by tables; missing ones in the kubelet's words."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.core import plan, sources
from podd.core.environment import environment
from podd.core.plan import Host, Projected
from podd.core.projection import File
from podd.core.sources import Sources
from podd.driver.contract import ContainerConfig, Mount
from podd.errors import Invalid, NotFound, PoddError
from podd.model.ids import ContainerId, SandboxId
from podd.model.objects import ConfigMap, Secret
from podd.model.pod import Pod

HOST = Host(state_dir="/var/lib/podd", log_dir="", memory_bytes=8 * 2**30)
UID = "0b5f2a52-6e0d-4f0a-9b57-1d8a7f1f3c11"
VOLUME = f"/var/lib/podd/volumes/{UID}/v"

Json = dict[str, Any]


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def config_map(name: str, **data: str) -> ConfigMap:
    document = {"metadata": {"name": name, "namespace": "prod"}, "data": data, "binaryData": {"blob": b64(b"\0")}}
    return msgspec.convert(document, ConfigMap)


def secret(name: str, **data: bytes) -> Secret:
    document = {"metadata": {"name": name, "namespace": "prod"}, "data": {key: b64(c) for key, c in data.items()}}
    return msgspec.convert(document, Secret)


THERE = Sources(
    config_maps={"m": config_map("m", color="$(A)blue", size="large")},
    secrets={"s": secret("s", password=b"hunter2", raw=b"\xff", nul=b"a\0b")},
    node_name="host1",
    host_ips=("192.0.2.7", "2001:db8::7"),
    pod_ips=("10.0.0.4", "fd00::4"),
    cpus=4,
    memory_bytes=8 * 2**30,
    storage_bytes=100 * 10**9,
)


def pod(spec: Json | None = None, **container: Any) -> Pod:
    member = {"name": "main", "image": "rootfs:/", "command": ["true"], **container}
    labels = {"app": "web", "a": 'say "hi"\n'}
    annotations = {"x/note": "ü\x01\u200b\\"}
    meta = {"name": "web", "namespace": "prod", "uid": UID, "labels": labels, "annotations": annotations}
    return msgspec.convert({"metadata": meta, "spec": {"containers": [member], **(spec or {})}}, Pod)


def env_of(of: Pod, there: Sources = THERE) -> dict[str, str]:
    return environment(of, of.spec.containers[0], there)


def value(source: Json, there: Sources = THERE, spec: Json | None = None, **container: Any) -> str | None:
    return env_of(pod(spec, env=[{"name": "E", "valueFrom": source}], **container), there).get("E")


def config(of: Pod, there: Sources = THERE) -> ContainerConfig:
    ids = ContainerId("fedcba9876543210"), SandboxId("0123456789abcdef")
    return plan.container_config(of, of.spec.containers[0], *ids, 0, HOST, there)


# ---- the pod itself --------------------------------------------------------------------------------------------------

FIELDS = {
    "metadata.name": "web",
    "metadata.namespace": "prod",
    "metadata.uid": UID,
    "metadata.labels['app']": "web",
    "metadata.labels['none']": "",
    "metadata.annotations['x/note']": "ü\x01\u200b\\",
    "spec.nodeName": "host1",
    "spec.serviceAccountName": "default",
    "status.hostIP": "192.0.2.7",
    "status.hostIPs": "192.0.2.7,2001:db8::7",
    "status.podIP": "10.0.0.4",
    "status.podIPs": "10.0.0.4,fd00::4",
}


@pytest.mark.parametrize(("path", "expected"), FIELDS.items(), ids=FIELDS)
def test_fields(path: str, expected: str) -> None:
    assert value({"fieldRef": {"fieldPath": path}}) == expected


def test_a_pod_in_the_hosts_network_has_its_addresses() -> None:
    assert value({"fieldRef": {"fieldPath": "status.podIPs"}}, spec={"hostNetwork": True}) == "192.0.2.7,2001:db8::7"


@pytest.mark.parametrize("path", ["status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs"])
def test_without_an_address_there_is_nothing_to_tell(path: str) -> None:
    assert value({"fieldRef": {"fieldPath": path}}, Sources()) == ""


LIMITS = {"limits": {"cpu": "1500m", "memory": "100Mi"}, "requests": {"cpu": "250m"}}

RESOURCES = [
    # resource, divisor, resources of the container, of the pod, told
    ("limits.cpu", None, LIMITS, {}, "2"),
    ("limits.cpu", "1m", LIMITS, {}, "1500"),
    ("requests.cpu", None, LIMITS, {}, "1"),
    ("requests.cpu", "1m", LIMITS, {}, "250"),
    ("requests.memory", "1Mi", LIMITS, {}, "100"),
    ("limits.memory", None, LIMITS, {}, str(100 * 2**20)),
    ("limits.memory", "1M", LIMITS, {}, "105"),
    ("limits.memory", "1Gi", LIMITS, {}, "1"),
    ("limits.cpu", None, {}, {}, "4"),
    ("limits.cpu", None, {"limits": {"cpu": "0"}}, {}, "4"),
    ("limits.memory", "1Gi", {}, {}, "8"),
    ("limits.memory", "1Mi", {}, {"limits": {"memory": "64Mi"}}, "64"),
    ("limits.ephemeral-storage", "1G", {}, {}, "100"),
    ("requests.memory", None, {}, {}, "0"),
]


@pytest.mark.parametrize(("name", "divisor", "own", "of_pod", "told"), RESOURCES)
def test_resources(name: str, divisor: str | None, own: Json, of_pod: Json, told: str) -> None:
    ref = {"resource": name, **({"divisor": divisor} if divisor else {})}
    assert value({"resourceFieldRef": ref}, spec={"resources": of_pod}, resources=own) == told


def test_resources_of_another_container() -> None:
    other = {"name": "other", "image": "rootfs:/", "resources": {"limits": {"cpu": "7"}}}
    ref = {"resourceFieldRef": {"resource": "limits.cpu", "containerName": "other"}}
    assert value(ref, spec={"initContainers": [other]}) == "7"


@given(st.text())
def test_quoted_text_is_read_by_others_as_it_was(text: str) -> None:
    """Escapes that JSON and Go have in common mean the same; the others are Go's alone."""
    quoted = sources.quoted(text)
    assert quoted.isprintable()
    if not any(escape in quoted.replace("\\\\", "") for escape in ("\\x", "\\U", "\\a", "\\v")):
        assert json.loads(quoted) == text


# ---- variables -------------------------------------------------------------------------------------------------------


def test_all_keys_with_a_prefix_then_env_over_them() -> None:
    env_from = [
        {"configMapRef": {"name": "m"}},
        {"prefix": "P_", "configMapRef": {"name": "m"}},
        {"secretRef": {"name": "absent", "optional": True}},
    ]
    env = [{"name": "A", "value": "1"}, {"name": "size", "value": "$(P_size), $(A), $(color), $(none)"}]
    assert env_of(pod(envFrom=env_from, env=env)) == {
        "color": "$(A)blue",
        "size": "large, 1, $(A)blue, $(none)",
        "P_color": "$(A)blue",
        "P_size": "large",
        "A": "1",
    }


def test_a_later_source_counts() -> None:
    there = Sources(config_maps={"m": config_map("m", k="1"), "n": config_map("n", k="2")})
    env_from = [{"configMapRef": {"name": "m"}}, {"configMapRef": {"name": "n"}}]
    assert env_of(pod(envFrom=env_from), there) == {"k": "2"}


def test_values_from_keys() -> None:
    assert value({"configMapKeyRef": {"name": "m", "key": "size"}}) == "large"
    assert value({"secretKeyRef": {"name": "s", "key": "password"}}) == "hunter2"
    for ref in ({"name": "m", "key": "none"}, {"name": "none", "key": "size"}):
        assert value({"configMapKeyRef": {**ref, "optional": True}}) is None


def test_command_and_args_use_what_came_from_elsewhere() -> None:
    env = [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}}]
    made = config(pod(command=["$(P)"], args=["$(color)"], env=env, envFrom=[{"configMapRef": {"name": "m"}}]))
    assert (made.command, made.args) == (["hunter2"], ["$(A)blue"])


MISSING: dict[str, tuple[Json, type[PoddError], str]] = {
    "map": ({"configMapKeyRef": {"name": "x", "key": "k"}}, NotFound, 'configmap "x" not found'),
    "secret": ({"secretKeyRef": {"name": "x", "key": "k"}}, NotFound, 'secret "x" not found'),
    "key": ({"configMapKeyRef": {"name": "m", "key": "k"}}, NotFound, "couldn't find key k in ConfigMap prod/m"),
    "binary": (
        {"configMapKeyRef": {"name": "m", "key": "blob"}},
        NotFound,
        "couldn't find key blob in ConfigMap prod/m",
    ),
    "key of a secret": ({"secretKeyRef": {"name": "s", "key": "k"}}, NotFound, "couldn't find key k in Secret prod/s"),
    "bytes": ({"secretKeyRef": {"name": "s", "key": "raw"}}, Invalid, "key raw in Secret prod/s is not text"),
    "nul": ({"secretKeyRef": {"name": "s", "key": "nul"}}, Invalid, "key nul in Secret prod/s holds a NUL character"),
}


@pytest.mark.parametrize(("source", "kind", "message"), MISSING.values(), ids=MISSING)
def test_missing_values(source: Json, kind: type[PoddError], message: str) -> None:
    with pytest.raises(kind) as caught:
        value(source)
    assert caught.value.message == message


def test_missing_objects_of_env_from() -> None:
    with pytest.raises(NotFound, match=r'^secret "x" not found'):
        env_of(pod(envFrom=[{"secretRef": {"name": "x"}}]))


# ---- files -----------------------------------------------------------------------------------------------------------


def files(source: Json, there: Sources = THERE, **spec: Any) -> dict[str, tuple[bytes, int]]:
    (made,) = plan.volumes(pod({"volumes": [{"name": "v", **source}], **spec}), HOST, there)
    assert isinstance(made, Projected)
    assert made.path == VOLUME
    return {path: (file.content, file.mode) for path, file in made.files.items()}


def test_files_of_a_config_map() -> None:
    assert files({"configMap": {"name": "m"}}) == {
        "color": (b"$(A)blue", 0o644),
        "size": (b"large", 0o644),
        "blob": (b"\0", 0o644),
    }
    items = [{"key": "size", "path": "a//./b"}, {"key": "blob", "path": "c", "mode": 0}]
    assert files({"configMap": {"name": "m", "items": items, "defaultMode": 0o400}}) == {
        "a/b": (b"large", 0o400),
        "c": (b"\0", 0),
    }


def test_files_of_a_secret() -> None:
    assert files({"secret": {"secretName": "s", "items": [{"key": "raw", "path": "r"}]}}) == {"r": (b"\xff", 0o644)}


def test_files_of_a_pods_own_fields() -> None:
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "notes", "fieldRef": {"fieldPath": "metadata.annotations"}, "mode": 0o600},
        {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}},
    ]
    assert files({"downwardAPI": {"items": items}}) == {
        "labels": (b'a="say \\"hi\\"\\n"\napp="web"', 0o644),
        "notes": ('x/note="ü\\x01\\u200b\\\\"'.encode(), 0o600),
        "cpu": (b"4000", 0o644),
    }


def test_files_of_several_sources() -> None:
    listed = [
        {"configMap": {"name": "m", "items": [{"key": "size", "path": "d/size"}]}},
        {"secret": {"name": "s", "items": [{"key": "password", "path": "d/p", "mode": 0o400}]}},
        {"secret": {"name": "absent", "optional": True}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    assert files({"projected": {"sources": listed, "defaultMode": 0o440}}) == {
        "d/size": (b"large", 0o440),
        "d/p": (b"hunter2", 0o400),
        "name": (b"web", 0o440),
    }


def test_the_group_reads_them() -> None:
    of = {"securityContext": {"fsGroup": 7}}
    source = {"secret": {"secretName": "s", "defaultMode": 0o400, "items": [{"key": "raw", "path": "r"}]}}
    assert files(source, **of) == {"r": (b"\xff", 0o440)}
    (made,) = plan.volumes(pod({"volumes": [{"name": "v", **source}], **of}), HOST, THERE)
    assert isinstance(made, Projected)
    assert made.fs_group == 7


def test_what_may_be_missing_is_not_there() -> None:
    assert files({"configMap": {"name": "x", "optional": True}}) == {}
    items = [{"key": "none", "path": "a"}, {"key": "size", "path": "b"}]
    assert files({"configMap": {"name": "m", "optional": True, "items": items}}) == {"b": (b"large", 0o644)}


BROKEN: dict[str, tuple[Json, str]] = {
    "map": ({"configMap": {"name": "x"}}, 'configmap "x" not found'),
    "secret": ({"secret": {"secretName": "x"}}, 'secret "x" not found'),
    "source": ({"projected": {"sources": [{"secret": {"name": "x"}}]}}, 'secret "x" not found'),
    "key": (
        {"configMap": {"name": "m", "items": [{"key": "k", "path": "a"}]}},
        "references non-existent config key: k",
    ),
    "key of a secret": (
        {"secret": {"secretName": "s", "items": [{"key": "k", "path": "a"}]}},
        "references non-existent secret key: k",
    ),
    "a file in a file": (
        {
            "projected": {
                "sources": [
                    {"configMap": {"name": "m"}},
                    {"secret": {"name": "s", "items": [{"key": "raw", "path": "size/raw"}]}},
                ]
            }
        },
        "size/raw and size: one is a directory where the other is a file",
    ),
}


@pytest.mark.parametrize(("source", "said"), BROKEN.values(), ids=BROKEN)
def test_volumes_that_cannot_be(source: Json, said: str) -> None:
    with pytest.raises((NotFound, Invalid)) as caught:
        files(source)
    assert caught.value.message == f'MountVolume.SetUp failed for volume "v" : {said}'


def test_a_file_does_not_show_what_it_holds() -> None:
    assert repr(File(content=b"hunter2", mode=0o400)) == "File(7 bytes, 400)"


# ---- mounts ----------------------------------------------------------------------------------------------------------


def mounted(volume: Json, **mount: Any) -> Mount:
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "UP", "value": ".."}]
    of = pod({"volumes": [{"name": "v", **volume}]}, volumeMounts=[{"name": "v", "mountPath": "/v", **mount}], env=env)
    (made,) = (each for each in config(of).mounts if each.container_path == "/v")
    return made


def test_what_podd_writes_is_read_only() -> None:
    assert mounted({"configMap": {"name": "m"}}, subPath="size") == Mount(
        host_path=VOLUME, container_path="/v", read_only=True, sub_path="size"
    )
    assert not mounted({"emptyDir": {}}).read_only


def test_sub_path_of_variables() -> None:
    assert mounted({"emptyDir": {}}, subPathExpr="a/$(POD)/$$(POD)").sub_path == "a/web/$(POD)"


@pytest.mark.parametrize("expr", ["$(UP)/x", "x/$(UP)", "$(POD)/$(NONE)", "$(NONE)"])
def test_sub_path_that_leads_elsewhere(expr: str) -> None:
    with pytest.raises((NotFound, Invalid)):
        mounted({"emptyDir": {}}, subPathExpr=expr)


@pytest.mark.parametrize(
    ("mount", "recursive", "propagation"),
    [
        ({}, False, "private"),
        ({"recursiveReadOnly": "Disabled", "mountPropagation": "None"}, False, "private"),
        ({"recursiveReadOnly": "IfPossible"}, True, "private"),
        ({"recursiveReadOnly": "Enabled"}, True, "private"),
        ({"mountPropagation": "HostToContainer"}, False, "host-to-container"),
        ({"mountPropagation": "Bidirectional"}, False, "bidirectional"),
    ],
)
def test_how_a_volume_is_mounted(mount: Json, recursive: bool, propagation: str) -> None:
    made = mounted({"emptyDir": {}}, readOnly=True, **mount)
    assert (made.read_only, made.recursive_read_only, made.propagation) == (True, recursive, propagation)
