"""Bad manifests and all that is said of them: messages/NAME.yaml, and beside it NAME.txt.

`python tests/model/snapshots.py` writes the texts anew; what changed is then for `git diff` and a reader to judge.
"""

from __future__ import annotations

from pathlib import Path

from podd.errors import Invalid
from podd.model import document, manifest, object_rules, shapes
from podd.model.problem import Problem

FOLDER = Path(__file__).parent / "messages"

_POD = "apiVersion: v1\nkind: Pod\nmetadata: {{ name: web, annotations: {{ k: {0} }} }}\nspec: {{ containers: [] }}\n"
_CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: c }}\ndata: {{ k: {0} }}\n"

MANIFESTS: dict[str, bytes] = {
    **{path.stem: path.read_bytes() for path in sorted(FOLDER.glob("*.yaml"))},
    "large": b"#" * (document.MAX_BYTES + 1),
    "large-annotations": _POD.format("x" * shapes.MAX_ANNOTATIONS_BYTES).encode(),
    "large-config-map": _CONFIG_MAP.format("x" * (object_rules.MAX_BYTES + 1)).encode(),
}
"""By name. What is large has only its text in the folder."""


def problems(name: str) -> list[Problem]:
    try:
        return list(manifest.parse(MANIFESTS[name], f"{name}.yaml").remarks)
    except Invalid as exc:
        found = exc.facts["problems"]
        assert isinstance(found, list)
        return found


def said(name: str) -> str:
    """Errors, warnings and notes, as a terminal shows them."""
    return "".join(f"{problem}\n" for problem in problems(name))


def expected(name: str) -> Path:
    return FOLDER / f"{name}.txt"


if __name__ == "__main__":
    for each in MANIFESTS:
        expected(each).write_text(said(each))
