"""ConfigMaps and Secrets, field for field as core/v1 has them: what pods take values and files from.

Source: the Kubernetes API reference, ConfigMap v1 core and Secret v1 core.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from podd.model.pod import ObjectMeta, Struct

Kind = Literal["ConfigMap", "Secret"]

DOCKER_CONFIG_JSON, DOCKER_CONFIG = ".dockerconfigjson", ".dockercfg"
"""The keys of Secrets that hold passwords of registries."""


class ConfigMap(Struct, kw_only=True):
    api_version: Literal["v1"] = "v1"
    kind: Literal["ConfigMap"] = "ConfigMap"
    metadata: ObjectMeta
    data: Mapping[str, str] = {}
    binary_data: Mapping[str, str] = {}  # base64
    immutable: bool = False

    def contents(self) -> dict[str, bytes]:
        """By key, as files have it. Variables are made of `data` alone."""
        return {key: text.encode() for key, text in self.data.items()} | _decoded(self.binary_data)

    def settled(self) -> ConfigMap:
        """As it is kept: base64 is written in one way."""
        return replace(self, binary_data=_encoded(_decoded(self.binary_data)))


class Secret(Struct, kw_only=True):
    """What it holds is shown to nobody by accident: not by repr, so in no log and no traceback."""

    api_version: Literal["v1"] = "v1"
    kind: Literal["Secret"] = "Secret"
    metadata: ObjectMeta
    type: str = "Opaque"
    data: Mapping[str, str] = {}  # base64
    string_data: Mapping[str, str] = {}  # only as written: `settled` moves it into data
    immutable: bool = False

    def contents(self) -> dict[str, bytes]:
        return _decoded(self.data) | {key: text.encode() for key, text in self.string_data.items()}

    def settled(self) -> Secret:
        """As it is kept: all that it holds stands in data."""
        return replace(self, data=_encoded(self.contents()), string_data={})

    def __repr__(self) -> str:
        return f"Secret({self.metadata.namespace}/{self.metadata.name})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", f"{self.metadata.namespace}/{self.metadata.name}")]


Object = ConfigMap | Secret


def written(one: Object) -> dict[str, Any]:
    """As Kubernetes writes it."""
    return {"apiVersion": one.api_version, "kind": one.kind, **msgspec.to_builtins(one)}


def decode(text: str) -> bytes:
    """Base64, line breaks allowed. Raises ValueError."""
    return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)


def _decoded(data: Mapping[str, str]) -> dict[str, bytes]:
    return {key: decode(text) for key, text in data.items()}


def _encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(content).decode() for key, content in data.items()}
