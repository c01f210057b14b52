"""Parts of manifests, in words."""

from __future__ import annotations

from typing import Any

import pytest

from podd.cli import manifest_words as words

VOLUMES: list[tuple[dict[str, Any], dict[str, str | None]]] = [
    ({"emptyDir": {}}, {"Type": "emptyDir (on disk, gone with the pod)", "Size Limit": None}),
    ({"hostPath": {"path": "/srv"}}, {"Type": "hostPath (anything)", "Path": "/srv"}),
    ({"configMap": {"name": "c"}}, {"Type": "configMap", "Name": "c", "Optional": "false"}),
    (
        {"secret": {"secretName": "s", "optional": True}},
        {"Type": "secret (in memory)", "Name": "s", "Optional": "true"},
    ),
    (
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"Type": "downwardAPI", "Items": "field metadata.labels -> labels"},
    ),
    (
        {"projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}]}},
        {"Type": "projected", "Sources": "configMap c\nsecret s"},
    ),
]


@pytest.mark.parametrize(("volume", "shown"), VOLUMES)
def test_volumes(volume: dict[str, Any], shown: dict[str, str | None]) -> None:
    assert words.volume({"name": "v", **volume}) == shown


@pytest.mark.parametrize(
    ("variable", "shown"),
    [
        ({"value": "x"}, "x"),
        ({}, ""),
        ({"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, "<field status.podIP>"),
        (
            {"valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "containerName": "a"}}},
            "<resource limits.cpu of a>",
        ),
        ({"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, "<key k of secret s>"),
        (
            {"valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
            "<key k of config map c, optional>",
        ),
    ],
)
def test_values(variable: dict[str, Any], shown: str) -> None:
    assert words.value({"name": "A", **variable}) == shown


def test_where_many_variables_come_from() -> None:
    sources = [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s", "optional": True}, "prefix": "P_"}]
    assert words.env_from({"envFrom": sources}) == [
        "c  ConfigMap  Optional: false",
        "s  Secret with prefix 'P_'  Optional: true",
    ]


def test_probes_and_hooks() -> None:
    shown = words.probes(
        {
            "livenessProbe": {"exec": {"command": ["cat", "/ok"]}, "periodSeconds": 5},
            "readinessProbe": {"httpGet": {"port": "web", "path": "/ready"}},
            "startupProbe": {"grpc": {"port": 5000}},
            "lifecycle": {"postStart": {"tcpSocket": {"port": 80}}, "preStop": {"sleep": {"seconds": 3}}},
        }
    )
    assert shown == {
        "Liveness": "exec [cat /ok] delay=0s timeout=1s period=5s #success=1 #failure=3",
        "Readiness": "http-get http://:web/ready delay=0s timeout=1s period=10s #success=1 #failure=3",
        "Startup": "grpc <pod>:5000 delay=0s timeout=1s period=10s #success=1 #failure=3",
        "Post Start": "tcp-socket :80",
        "Pre Stop": "sleep 3s",
    }
