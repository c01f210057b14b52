"""From manifest text to checked Pods.

`document` makes trees of the text, `reader` makes Pods of the trees by the types of `pod` and the table of `fields`,
`rules` checks the values. Every problem of every document is found before any is told, each with its path, line and
column; nothing of a manifest is ever dropped in silence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from podd.errors import Invalid
from podd.model import document, rules
from podd.model.document import Mapping, Node, Scalar, Sequence
from podd.model.pod import Pod
from podd.model.problem import Path, Place, Problem, Problems, Rules, TooMany
from podd.model.reader import Reader
from podd.model.value import Value


class Manifest(Value):
    pods: tuple[Pod, ...]
    remarks: tuple[Problem, ...] = ()  # warnings and notes


def parse(text: str | bytes, source: str = "manifest", namespace: str = "default") -> Manifest:
    """Read every Pod in `text` (YAML, of any number of documents, or JSON).

    source: its name in messages. namespace: of pods that do not name one.
    Raises Invalid: with all problems, one a line; as values in facts["problems"], warnings and notes included.
    """
    problems = Problems(source)
    pods: list[Pod] = []
    with contextlib.suppress(TooMany):
        pods += _pods(text, problems, namespace)
    errors = problems.errors()
    if errors:
        raise Invalid("\n".join(str(problem) for problem in errors), problems=list(problems))
    return Manifest(pods=tuple(pods), remarks=tuple(problems))


def _pods(text: str | bytes, problems: Problems, namespace: str) -> list[Pod]:
    """Those that could be read, blanks in the place of what could not."""
    found = document.documents(text, problems)
    if not found and not problems.errors():
        problems.add(Place(1, 1), (), "error", "there is no Pod in it")
    pods: dict[tuple[str, str], Pod] = {}
    for node, path in _objects(found, problems):
        reader = Reader(problems, namespace)
        pod = reader.pod(node, path)
        if pod is None:
            continue
        found_by = Rules(reader.teller(path))
        rules.check(found_by, pod)
        if pods.setdefault((pod.metadata.namespace, pod.metadata.name), pod) is not pod:
            found_by.error(("metadata", "name"), "is the name of an earlier pod of this manifest")
    return list(pods.values())


def _objects(nodes: list[Node], problems: Problems) -> Iterator[tuple[Node, Path]]:
    """Documents, and the items of those that are lists."""
    for node in nodes:
        entries = node.entries if isinstance(node, Mapping) else {}
        kind = entries.get("kind")
        if kind is None or not isinstance(kind.value, Scalar) or kind.value.text not in ("List", "PodList"):
            yield node, ()
            continue
        items = entries.get("items")
        if items is None or not isinstance(items.value, Sequence):
            problems.add(node.place, ("items",), "error", "a list of pods is wanted")
            continue
        for number, item in enumerate(items.value.items):
            yield item, ("items", number)
