"""Manifests and all that is said of them, each beside its text: NAME.yaml and NAME.txt.

`python tests/model/snapshots.py` writes the texts anew; what changed is then for `git diff` and a reader to judge.
"""

from __future__ import annotations

from pathlib import Path

from podd.errors import Invalid
from podd.model import document, manifest, object_rules, shapes
from podd.model.problem import Problem

BAD_FOLDER = Path(__file__).parent / "messages"
REAL_FOLDER = Path(__file__).parents[1] / "manifests"

_POD = "apiVersion: v1\nkind: Pod\nmetadata: {{ name: web, annotations: {{ k: {0} }} }}\nspec: {{ containers: [] }}\n"
_CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: c }}\ndata: {{ k: {0} }}\n"


def _in(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.yaml"))}


REAL = _in(REAL_FOLDER)
"""As people bring them, by name."""

BAD: dict[str, bytes] = {
    **_in(BAD_FOLDER),
    "large": b"#" * (document.MAX_BYTES + 1),
    "large-annotations": _POD.format("x" * shapes.MAX_ANNOTATIONS_BYTES).encode(),
    "large-config-map": _CONFIG_MAP.format("x" * (object_rules.MAX_BYTES + 1)).encode(),
}
"""Of every message one. What is large has only its text in the folder."""


LENIENT = "left-out"
"""How those begin that are read as for `apply --strict=warn`."""


def problems(name: str, text: bytes) -> list[Problem]:
    """Errors, warnings and notes; and what would be said if nothing was there that a pod refers to."""
    try:
        read = manifest.parse(text, f"{name}.yaml", strict=not name.startswith(LENIENT))
    except Invalid as exc:
        found = exc.facts["problems"]
        assert isinstance(found, list)
        return found
    here = {(one.kind, one.metadata.namespace, one.metadata.name) for one in (*read.config_maps, *read.secrets)}
    missing = [need.at for need in read.needs if (need.kind, need.namespace, need.name) not in here]
    return [*read.remarks, *missing]


def said(name: str) -> str:
    """Of a bad one, as a terminal shows it."""
    return "".join(f"{problem}\n" for problem in problems(name, BAD[name]))


def verdict(name: str) -> str:
    """Of one that people bring."""
    found = problems(name, REAL[name])
    word = "refused" if any(problem.level == "error" for problem in found) else "accepted"
    return "".join(f"{line}\n" for line in (word, *found))


if __name__ == "__main__":
    for each in BAD:
        (BAD_FOLDER / f"{each}.txt").write_text(said(each))
    for each in REAL:
        (REAL_FOLDER / f"{each}.txt").write_text(verdict(each))
