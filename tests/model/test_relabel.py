"""Labels and annotations set by hand are held to the rules of those in a manifest."""

from __future__ import annotations

import pytest

from podd.errors import Conflict, Invalid
from podd.model.pod import ObjectMeta
from podd.model.relabel import Values, relabelled

META = ObjectMeta(name="web", labels={"app": "web", "tier": "front"}, annotations={"note": "x"})


@pytest.mark.parametrize(
    ("labels", "left"),
    [
        ({}, {"app": "web", "tier": "front"}),
        ({"env": "prod"}, {"app": "web", "tier": "front", "env": "prod"}),
        ({"app": "web"}, {"app": "web", "tier": "front"}),
        ({"app": None}, {"tier": "front"}),
        ({"missing": None}, {"app": "web", "tier": "front"}),
        ({"env": ""}, {"app": "web", "tier": "front", "env": ""}),
    ],
)
def test_what_is_left(labels: Values, left: dict[str, str]) -> None:
    changed = relabelled(META, labels, {}, overwrite=False)
    assert (changed.labels, changed.annotations, changed.name) == (left, {"note": "x"}, "web")


def test_another_value_is_overwritten_only_when_asked() -> None:
    for labels, notes in (({"app": "db"}, {}), ({}, {"note": "y"})):
        with pytest.raises(Conflict, match="is there with the value"):
            relabelled(META, labels, notes, overwrite=False)
        changed = relabelled(META, labels, notes, overwrite=True)
        assert {**changed.labels, **changed.annotations}.items() >= {**labels, **notes}.items()


@pytest.mark.parametrize(
    ("labels", "annotations", "message"),
    [
        ({"a b": "x"}, {}, '"a b" is not a qualified name'),
        ({"a": "x y"}, {}, '"x y" is not a label value'),
        ({}, {"-a": "x"}, '"-a" is not a qualified name'),
        ({}, {"big": "x" * 300_000}, "bytes, at most"),
        ({}, {"podd.io/start": "ordered"}, "says how a pod is run"),
        ({}, {"podd.io/keystone": None}, "says how a pod is run"),
    ],
)
def test_what_cannot_be(labels: Values, annotations: Values, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        relabelled(META, labels, annotations, overwrite=True)
