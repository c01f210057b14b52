"""What a changed ConfigMap or Secret would hold. Of what a Secret holds no more is told than how long it is."""

from __future__ import annotations

from collections.abc import Iterator

from podd.core.difference import Change
from podd.model.objects import ConfigMap, Object, decode
from podd.model.problem import dotted


def changes(old: Object, new: Object) -> tuple[Change, ...]:
    """Key by key, in the order of their names."""
    was, will = dict(_shown(old)), dict(_shown(new))
    held, holds = dict(_held(old)), dict(_held(new))
    differing = [key for key in sorted(held.keys() | holds.keys()) if held.get(key) != holds.get(key)]
    return tuple(
        Change(
            path=dotted(key),
            old=was.get(key),
            new=will.get(key),
            means="metadata" if key[0] == "metadata" else "contents",
        )
        for key in differing
    )


_Key = tuple[str, ...]


def _held(one: Object) -> Iterator[tuple[_Key, object]]:
    yield from ((("metadata", "labels", key), value) for key, value in one.metadata.labels.items())
    yield from ((("metadata", "annotations", key), value) for key, value in one.metadata.annotations.items())
    yield from ((("data", key), value) for key, value in one.data.items())
    if isinstance(one, ConfigMap):
        yield from ((("binaryData", key), value) for key, value in one.binary_data.items())
    if one.immutable:
        yield ("immutable",), True


def _shown(one: Object) -> Iterator[tuple[_Key, object]]:
    """A Secret's annotations are hidden too: the manifest that it was applied from may stand there."""
    secret = not isinstance(one, ConfigMap)
    for key, value in _held(one):
        if key[0] == "binaryData" or (secret and key[0] == "data"):
            yield key, f"{len(decode(str(value)))} bytes, not shown"
        elif secret and key[1:2] == ("annotations",):
            yield key, f"{len(str(value))} characters, not shown"
        else:
            yield key, value
