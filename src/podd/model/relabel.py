"""Labels and annotations that are set on a pod that is there, and not by its manifest."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from podd.errors import Conflict, Invalid
from podd.model import shapes
from podd.model.annotations import says_how_it_is_run
from podd.model.pod import ObjectMeta
from podd.model.problem import Level, Path, Rules, dotted

Values = Mapping[str, str | None]
"""By key; None removes it."""


def relabelled(meta: ObjectMeta, labels: Values, annotations: Values, *, overwrite: bool) -> ObjectMeta:
    """Raises Invalid: a key or value cannot be; Conflict: a key has another value, and is not to be overwritten."""
    for key in annotations:
        if says_how_it_is_run(key):
            raise Invalid(f"annotation {key}: says how a pod is run", remedy="change the manifest, and apply it")
    changed = replace(
        meta,
        labels=_with(meta.labels, labels, "label", overwrite),
        annotations=_with(meta.annotations, annotations, "annotation", overwrite),
    )
    shapes.metadata(Rules(_refuse), changed)
    return changed


def _with(old: Mapping[str, str], new: Values, what: str, overwrite: bool) -> dict[str, str]:
    for key, value in new.items():
        if not overwrite and value is not None and old.get(key, value) != value:
            raise Conflict(f'{what} {key}: is there with the value "{old[key]}"', remedy="ask to overwrite it")
    return {key: value for key, value in {**old, **new}.items() if value is not None}


def _refuse(at: Path, level: Level, message: str, remedy: str, rests_on: Path) -> None:  # noqa: ARG001
    if level == "error":
        raise Invalid(f"{dotted(at)}: {message}", remedy=remedy)
