"""What is told of a changed ConfigMap or Secret."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from podd.core.contents import changes
from podd.model.objects import ConfigMap, Object, Secret

WORD = base64.b64encode(b"hunter2").decode()
OTHER = base64.b64encode(b"other77").decode()


def config_map(meta: dict[str, Any] | None = None, **fields: Any) -> ConfigMap:
    return msgspec.convert({"metadata": {"name": "m", **(meta or {})}, **fields}, ConfigMap)


def secret(meta: dict[str, Any] | None = None, **fields: Any) -> Secret:
    return msgspec.convert({"metadata": {"name": "s", **(meta or {})}, **fields}, Secret)


def told(old: Object, new: Object) -> list[tuple[str, object, object, str]]:
    return [(change.path, change.old, change.new, change.means) for change in changes(old, new)]


HIDDEN = "7 bytes, not shown"

CASES = {
    "nothing": (config_map(data={"k": "1"}), config_map(data={"k": "1"}), []),
    "keys": (
        config_map(data={"a": "1", "b": "2"}),
        config_map(data={"b": "3", "c.d": "4"}),
        [("data.a", "1", None, "contents"), ("data.b", "2", "3", "contents"), ("data[c.d]", None, "4", "contents")],
    ),
    "bytes": (
        config_map(binaryData={"b": "AAE="}),
        config_map(binaryData={"b": "AA=="}),
        [("binaryData.b", "2 bytes, not shown", "1 bytes, not shown", "contents")],
    ),
    "a secret": (
        secret(data={"w": WORD}),
        secret(data={"w": OTHER}),
        [("data.w", HIDDEN, HIDDEN, "contents")],
    ),
    "metadata": (
        secret({"labels": {"a": "1"}, "annotations": {"b": WORD}}),
        secret({"labels": {"a": "2"}}),
        [
            ("metadata.annotations.b", "12 characters, not shown", None, "metadata"),
            ("metadata.labels.a", "1", "2", "metadata"),
        ],
    ),
    "immutable": (config_map(), config_map(immutable=True), [("immutable", None, True, "contents")]),
}


@pytest.mark.parametrize(("old", "new", "expected"), CASES.values(), ids=CASES)
def test_changes(old: Object, new: Object, expected: list[tuple[str, object, object, str]]) -> None:
    assert told(old, new) == expected
