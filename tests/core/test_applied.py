"""What of a pod's metadata is its manifest's to take back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from podd.core.applied import given_by, joined
from podd.model.pod import ObjectMeta, Pod, PodSpec

POD = Pod(metadata=ObjectMeta(name="web"), spec=PodSpec(containers=()))

Keys = dict[str, str]


def with_labels(labels: Keys) -> Pod:
    return replace(POD, metadata=replace(POD.metadata, labels=labels, annotations=labels))


@pytest.mark.parametrize(
    ("last", "there", "asked", "then"),
    [
        ({}, {}, {}, {}),
        ({"a": "1"}, {"a": "1"}, {}, {}),
        ({"a": "1"}, {"a": "1"}, {"b": "2"}, {"b": "2"}),
        ({}, {"x": "set"}, {}, {"x": "set"}),
        ({}, {"x": "set"}, {"x": "asked"}, {"x": "asked"}),
        ({"a": "1"}, {"a": "set since"}, {"a": "1"}, {"a": "1"}),
        ({"a": "1"}, {"a": "set since"}, {}, {}),
        ({"a": "1"}, {"x": "set"}, {"a": "1"}, {"a": "1", "x": "set"}),
    ],
)
def test_three_are_merged(last: Keys, there: Keys, asked: Keys, then: Keys) -> None:
    merged = joined(with_labels(asked), with_labels(there), given_by(with_labels(last)))
    assert merged == with_labels(then)
