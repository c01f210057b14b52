"""From manifest text to checked Pods, and the ConfigMaps and Secrets beside them.

`document` makes trees of the text, `reader` makes objects of the trees by the types of `pod` and `objects` and the
table of `fields`, `rules` and `object_rules` check the values. Every problem of every document is found before any is
told, each with its path, line and column; nothing of a manifest is ever dropped in silence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import chain

import msgspec

from podd.errors import Invalid
from podd.model import document, object_rules, references, rules
from podd.model.document import Mapping, Node, Scalar, Sequence
from podd.model.objects import ConfigMap, Kind, Object, Secret
from podd.model.pod import Pod
from podd.model.problem import Path, Place, Problem, Problems, Rules, TooMany, dotted, shown, undotted
from podd.model.reader import Locate, Reader
from podd.model.value import Value


class Need(Value):
    """A ConfigMap or Secret, or a key of one, without which a pod of the manifest cannot start; where it says so."""

    pod: str
    kind: Kind
    namespace: str
    name: str
    key: str
    at: Problem  # with the message and the remedy of its being missing


Remarks = tuple[Problem, ...]
"""Warnings and notes."""

Name = tuple[str, str, str]
"""Kind, namespace and name of an object."""

Where = Callable[[Path], str]
"""Of a field's path: the source, line and column at which it stands."""


class Manifest(Value):
    pods: tuple[Pod, ...] = ()
    config_maps: tuple[ConfigMap, ...] = ()
    secrets: tuple[Secret, ...] = ()
    needs: tuple[Need, ...] = ()
    remarks_by_name: dict[Name, Remarks] = {}
    where_by_name: dict[Name, Where] = {}

    @property
    def remarks(self) -> Remarks:
        """All of them, as they stand in the text."""
        return tuple(remark for remarks in self.remarks_by_name.values() for remark in remarks)

    def remarks_of(self, one: Pod | Object) -> Remarks:
        """Those that stand in its document."""
        return self.remarks_by_name.get(_name(one), ())

    def where(self, one: Pod | Object, field: str) -> str:
        """Where a field as "spec.containers[0].image" of it stands, as problems begin."""
        return self.where_by_name[_name(one)](undotted(field))

    @property
    def objects(self) -> tuple[Pod | Object, ...]:
        return (*self.pods, *self.config_maps, *self.secrets)


def together(parts: Collection[Manifest]) -> Manifest:
    """One of several. Raises Invalid: an object is in two of them."""
    first: dict[Name, str] = {}
    twice = []
    for part in parts:
        for one in part.objects:
            place = part.where(one, "metadata.name")
            if (other := first.setdefault(_name(one), place)) is not place:
                twice.append(f"{place}: metadata.name: is the name of a {one.kind} at {other}, too")
    if twice:
        raise Invalid("\n".join(twice))
    return Manifest(
        pods=tuple(chain.from_iterable(part.pods for part in parts)),
        config_maps=tuple(chain.from_iterable(part.config_maps for part in parts)),
        secrets=tuple(chain.from_iterable(part.secrets for part in parts)),
        needs=tuple(chain.from_iterable(part.needs for part in parts)),
        remarks_by_name=dict(chain.from_iterable(part.remarks_by_name.items() for part in parts)),
        where_by_name=dict(chain.from_iterable(part.where_by_name.items() for part in parts)),
    )


def _name(one: Pod | Object) -> Name:
    return one.kind, one.metadata.namespace, one.metadata.name


def parse(text: str | bytes, source: str = "manifest", namespace: str = "default", *, strict: bool = True) -> Manifest:
    """Read every Pod, ConfigMap and Secret in `text` (YAML, of any number of documents, or JSON).

    source: its name in messages. namespace: of objects that do not name one. strict: False leaves out, with a warning,
    fields that podd does not know or cannot honour, but for those of `fields.SECURITY`.
    Raises Invalid: with all problems, one a line; as values in facts["problems"], warnings and notes included.
    """
    problems = Problems(source)
    read = _Read(problems)
    with contextlib.suppress(TooMany):
        read.all_of(text, namespace, strict=strict)
    errors = problems.errors()
    if errors:
        raise Invalid("\n".join(str(problem) for problem in errors), problems=list(problems))
    found = read.found.values()
    return Manifest(
        pods=tuple(one for one in found if isinstance(one, Pod)),
        config_maps=tuple(one.settled() for one in found if isinstance(one, ConfigMap)),
        secrets=tuple(one.settled() for one in found if isinstance(one, Secret)),
        needs=tuple(read.needs),
        remarks_by_name=read.remarks,
        where_by_name=read.places,
    )


class _Read:
    """What could be read, with blanks in the place of what could not."""

    def __init__(self, problems: Problems) -> None:
        self.found: dict[Name, Pod | Object] = {}
        self.remarks: dict[Name, Remarks] = {}
        self.places: dict[Name, Where] = {}
        self.needs: list[Need] = []
        self._problems = problems

    def all_of(self, text: str | bytes, namespace: str, *, strict: bool) -> None:
        nodes = document.documents(text, self._problems)
        if not nodes and not self._problems.errors():
            self._problems.add(Place(1, 1), (), "error", "there is no Pod in it")
        for node, path in _objects(nodes, self._problems):
            before = self._problems.count()
            reader = Reader(self._problems, namespace, strict=strict)
            one = reader.read(node, path)
            if one is not None:
                self._take(one, reader, path, strict=strict)
                self.remarks[_name(one)] = self._problems.remarks(before)
                self.places[_name(one)] = partial(_where, self._problems.source, reader.locator(path))

    def _take(self, one: Pod | Object, reader: Reader, path: Path, *, strict: bool) -> None:
        told = Rules(reader.teller(path), strict=strict)
        if isinstance(one, Pod):
            rules.check(told, one)
            one = _without(one, told.left_out)
            self.needs += _needs(one, reader, path, self._problems.source)
        else:
            object_rules.check(told, one)
        if self.found.setdefault(_name(one), one) is not one:
            word = "pod" if isinstance(one, Pod) else one.kind
            told.error(("metadata", "name"), f"is the name of an earlier {word} of this manifest")


def _where(source: str, locate: Locate, path: Path) -> str:
    place = locate(path)
    return f"{source}:{place.line}:{place.column}"


def _without(pod: Pod, paths: list[Path]) -> Pod:
    """It with the fields at these paths left out."""
    if not paths:
        return pod
    plain = msgspec.to_builtins(pod)
    for path in paths:
        owner = plain
        for part in path[:-1]:
            owner = owner[part]
        del owner[path[-1]]
    return msgspec.convert(plain, Pod)


def _needs(pod: Pod, reader: Reader, path: Path, source: str) -> Iterator[Need]:
    """What must be there. That it is there is looked at by who knows what else is."""
    for ref in references.of(pod):
        if ref.optional:
            continue
        what = f'{ref.kind} "{ref.name}" in namespace {pod.metadata.namespace}'
        message = f'{what} has no key "{ref.key}"' if ref.key else f"there is no {what}"
        create = f"podd-cli create {ref.kind.lower()}{' generic' if ref.kind == 'Secret' else ''} {ref.name} makes one"
        at = Problem(
            source=source,
            path=shown(dotted(path + ref.path)),
            **reader.place(path + ref.path)._asdict(),
            level="error",
            message=shown(message),
            remedy="optional: true lets the pod do without" if ref.key else f"put it into the manifest; {create}",
        )
        meta = pod.metadata
        yield Need(pod=meta.name, kind=ref.kind, namespace=meta.namespace, name=ref.name, key=ref.key, at=at)


LISTS = ("List", "PodList", "ConfigMapList", "SecretList")


def _objects(nodes: list[Node], problems: Problems) -> Iterator[tuple[Node, Path]]:
    """Documents, and the items of those that are lists."""
    for node in nodes:
        entries = node.entries if isinstance(node, Mapping) else {}
        kind = entries.get("kind")
        if kind is None or not isinstance(kind.value, Scalar) or kind.value.text not in LISTS:
            yield node, ()
            continue
        items = entries.get("items")
        if items is None or not isinstance(items.value, Sequence):
            problems.add(node.place, ("items",), "error", "a list of objects is wanted")
            continue
        for number, item in enumerate(items.value.items):
            yield item, ("items", number)
