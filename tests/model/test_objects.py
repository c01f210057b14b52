"""ConfigMaps and Secrets: what is read, what is refused, and that no refusal shows what a Secret holds."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.errors import Invalid
from podd.model.manifest import parse
from podd.model.object_rules import MAX_BYTES

Json = dict[str, Any]


def document(kind: str, **fields: Any) -> str:
    return json.dumps({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, **fields})


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def refused(text: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse(text, "f.yaml")
    return str(caught.value).splitlines()


def test_they_stand_beside_pods_and_in_lists() -> None:
    text = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: other}
data: {"key": "text"}
binaryData: {blob: AAEC/w==}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {p: word}, data: {p: b2xk, q: "Zm9v\\nYmFy"}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}, immutable: true}
"""
    read = parse(text)
    assert [(one.metadata.namespace, one.metadata.name, one.immutable) for one in read.config_maps] == [
        ("other", "a", False),
        ("default", "a", True),
    ]
    assert read.config_maps[0].contents() == {"key": b"text", "blob": b"\0\1\2\xff"}
    (secret,) = read.secrets
    assert secret.type == "Opaque"
    assert dict(secret.data) == {"p": b64(b"word"), "q": b64(b"foobar")}
    assert secret.string_data == {}
    assert secret.contents() == {"p": b"word", "q": b"foobar"}


@given(st.dictionaries(st.text("abc", min_size=1), st.binary()), st.dictionaries(st.text("cd", min_size=1), st.text()))
def test_what_a_secret_holds_is_what_was_written(data: dict[str, bytes], text: dict[str, str]) -> None:
    text = {key: value.replace("\0", "") for key, value in text.items()}
    written = document("Secret", data={key: b64(content) for key, content in data.items()}, stringData=text)
    (secret,) = parse(written).secrets
    assert secret.contents() == data | {key: value.encode() for key, value in text.items()}


BAD = {
    "name": (document("ConfigMap", metadata={"name": "A"}), 'metadata.name: "A" is not an RFC 1123 subdomain'),
    "key": (document("ConfigMap", data={"a b": ""}), 'data[a b]: "a b" is not a key of a ConfigMap or Secret'),
    "key of podd": (document("Secret", data={"..a": ""}), 'data[..a]: "..a" is not a key'),
    "empty key": (document("Secret", stringData={"": ""}), 'stringData[]: "" is not a key'),
    "both": (
        document("ConfigMap", data={"a": ""}, binaryData={"a": ""}),
        "binaryData.a: is given in data too; keep one",
    ),
    "base64": (document("ConfigMap", binaryData={"a": "x"}), "binaryData.a: is not base64"),
    "base64 of a secret": (
        document("Secret", data={"a": "hunter2!"}),
        "data.a: is not base64; encode it with base64(1), or put plain text into stringData",
    ),
    "number": (
        document("Secret", stringData={"a": 5417}),
        "stringData.a: a string is wanted, and this is a number; quote it",
    ),
    "nul": (
        document("Secret", stringData={"a": "5417\0"}),
        "stringData.a: has a NUL character; put it into data, as base64",
    ),
    "mapping": (
        document("Secret", stringData={"a": {"b": "5417"}}),
        "stringData.a: a string is wanted, and this is a mapping",
    ),
    "unknown field": (document("Secret", stringdata={}), "stringdata: unknown field; did you mean stringData?"),
    "field of a pod": (document("ConfigMap", spec={}), "spec: unknown field"),
    "large": (
        document("ConfigMap", data={"a": "x" * MAX_BYTES, "b": "y"}),
        f"f.yaml:1:1: holds {MAX_BYTES + 1} bytes, at most {MAX_BYTES} are allowed",
    ),
    "tls": (
        document("Secret", type="kubernetes.io/tls", stringData={"tls.crt": "x"}),
        "data: a Secret of type kubernetes.io/tls has tls.crt, tls.key; missing: tls.key",
    ),
    "basic auth": (
        document("Secret", type="kubernetes.io/basic-auth", stringData={"user": "x"}),
        "data: a Secret of type kubernetes.io/basic-auth has username, password; missing: username, password",
    ),
    "registry": (
        document("Secret", type="kubernetes.io/dockerconfigjson", stringData={".dockerconfigjson": "{5417"}),
        "stringData[.dockerconfigjson]: is not JSON",
    ),
    "twice": (f"{document('Secret')}\n---\n{document('Secret')}", "metadata.name: is the name of an earlier Secret"),
    "kind": (document("Configmap"), 'kind: podd does not run "Configmap"'),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_bad(text: str, said: str) -> None:
    (told,) = refused(text)
    assert said in told
    assert "5417" not in told
    assert "hunter2" not in told


def test_the_largest_is_good() -> None:
    assert parse(document("ConfigMap", data={"a": "x" * MAX_BYTES})).config_maps
    assert parse(document("Secret", data={"a": b64(b"x" * MAX_BYTES)})).secrets


def test_basic_auth_needs_one_of_its_keys() -> None:
    assert parse(document("Secret", type="kubernetes.io/basic-auth", stringData={"username": "x"})).secrets


def test_a_secret_is_not_shown_by_accident() -> None:
    read = parse(document("Secret", stringData={"a": "5417"}))
    for shown in (repr(read), str(read.secrets[0]), f"{read.secrets}"):
        assert "Secret(default/x)" in shown
        assert "5417" not in shown
        assert b64(b"5417") not in shown


SIGNS = st.text("~!*&@%?-:|>,'\"[]{}#0x1e_. \t", max_size=4)


@given(SIGNS, SIGNS, st.sampled_from(["data", "stringData"]))
def test_whatever_is_wrong_with_a_secret_its_words_are_not_shown(before: str, after: str, field: str) -> None:
    """A password, not quoted, in the midst of what YAML takes for something else. (What stands before ":" is a key.)"""
    after = after.replace(":", "")
    head = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
    said = ""
    try:
        parse(f"{head}{field}:\n  k: {before}hunter2{after}\n")
    except Invalid as exc:
        said = str(exc)
    assert "hunter2" not in said


# ---- what pods need --------------------------------------------------------------------------------------------------

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: ns}
spec:
  initContainers:
  - name: i
    image: rootfs:/
    command: ["true"]
    envFrom:
    - configMapRef: {name: m1}
    - secretRef: {name: s1, optional: true}
  containers:
  - name: c
    image: rootfs:/
    command: ["true"]
    env:
    - name: A
      valueFrom: {secretKeyRef: {name: s2, key: k}}
  volumes:
  - name: v
    configMap:
      name: m2
      items: [{key: k, path: p}]
  - name: w
    secret: {secretName: s3}
  - name: x
    projected:
      sources:
      - configMap: {name: m3, optional: true}
      - secret: {name: s4}
"""


def test_what_a_pod_needs_and_where_it_says_so() -> None:
    found = [(n.kind, n.namespace, n.name, n.key, f"{n.at.line}:{n.at.column} {n.at.path}") for n in parse(POD).needs]
    value = "spec.containers[0].env[0].valueFrom.secretKeyRef"
    assert found == [
        ("ConfigMap", "ns", "m1", "", "10:28 spec.initContainers[0].envFrom[0].configMapRef.name"),
        ("Secret", "ns", "s2", "", f"18:40 {value}.name"),
        ("Secret", "ns", "s2", "k", f"18:49 {value}.key"),
        ("ConfigMap", "ns", "m2", "", "22:13 spec.volumes[0].configMap.name"),
        ("ConfigMap", "ns", "m2", "k", "23:21 spec.volumes[0].configMap.items[0].key"),
        ("Secret", "ns", "s3", "", "25:26 spec.volumes[1].secret.secretName"),
        ("Secret", "ns", "s4", "", "30:24 spec.volumes[2].projected.sources[1].secret.name"),
    ]


def test_what_is_said_where_it_is_missing() -> None:
    secret, key = parse(POD, "f.yaml").needs[1:3]
    assert str(secret.at).endswith(
        '.name: there is no Secret "s2" in namespace ns; '
        "put it into the manifest; podd-cli create secret generic s2 makes one"
    )
    assert str(key.at).endswith(
        '.key: Secret "s2" in namespace ns has no key "k"; optional: true lets the pod do without'
    )
