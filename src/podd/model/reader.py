"""From a tree to an object, by the types of `podd.model.pod` and `objects` and the table of `podd.model.fields`."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import msgspec
from msgspec import inspect

from podd.model import document, fields, scalars
from podd.model.document import MEANT, Entry, Mapping, Node, Scalar, Sequence, is_null, meaning
from podd.model.fields import ROWS, Field, Treatment
from podd.model.objects import ConfigMap, Object, Secret
from podd.model.pod import Pod
from podd.model.problem import Level, Path, Place, Problems, Tell
from podd.model.suggest import nearest, present, type_of

KINDS: dict[str, type[Pod | Object]] = {"Pod": Pod, "ConfigMap": ConfigMap, "Secret": Secret}

Locate = Callable[[Path], Place]
"""Where a field of one object stands, or what is above it."""


class Reader:
    """One object. What cannot be read is told and a blank takes its place, so that the rest can still be checked."""

    def __init__(self, problems: Problems, namespace: str, *, strict: bool = True) -> None:
        """strict: as of `podd.model.manifest.parse`."""
        self._problems = problems
        self._namespace = namespace
        self._strict = strict
        self._places: dict[Path, Place] = {}
        self._spoiled: set[Path] = set()
        self._touched: set[Path] = set()  # everything above what is spoiled
        self._hidden: set[Path] = set()  # of what stands below nothing is quoted

    def read(self, node: Node, path: Path) -> Pod | Object | None:
        """None: it is nothing that podd reads."""
        if not isinstance(node, Mapping):
            self._problems.add(node.place, path, "error", f"a Pod is wanted, and this is {_noun(node)}")
            return None
        kind = self._kind(node, path)
        if kind is None:
            return None
        if kind is Secret:
            self._hidden = {(*path, "data"), (*path, "stringData")}
        plain = self._struct(node, type_of(kind), path)
        metadata = plain["metadata"]
        assert isinstance(metadata, dict)
        metadata.setdefault("namespace", self._namespace)
        return msgspec.convert(plain, kind)

    def teller(self, prefix: Path) -> Tell:
        """For rules about the pod that stands at `prefix`. What rests on something unreadable is not told."""

        def tell(at: Path, level: Level, message: str, remedy: str, rests_on: Path) -> None:
            path = prefix + at
            if self._is_whole(path) and (not rests_on or self._is_whole(prefix + rests_on)):
                self._problems.add(self.place(path), path, level, message, remedy)

        return tell

    def _is_whole(self, path: Path) -> bool:
        above = {path[:length] for length in range(len(path) + 1)}
        return path not in self._touched and not above & self._spoiled

    def place(self, path: Path) -> Place:
        """Where the value at path stands, or what is above it."""
        while path not in self._places:
            path = path[:-1]
        return self._places[path]

    def locator(self, prefix: Path) -> Locate:
        """Of the fields of the object that stands at `prefix`."""
        return lambda field: self.place(prefix + field)

    def _error(self, place: Place, path: Path, message: str, remedy: str = "") -> None:
        self._problems.add(place, path, "error", message, remedy)
        self._spoiled.add(path)
        self._touched.update(path[:length] for length in range(len(path)))

    def _kind(self, node: Mapping, path: Path) -> type[Pod | Object] | None:
        """None, which is told: podd does not read it."""
        self._places[path] = node.place
        said = {}
        for name in ("apiVersion", "kind"):
            entry = node.entries.get(name)
            if entry is None or is_null(entry.value):
                self._error(node.place, (*path, name), "required", f"podd reads {name}: {_WANTED[name]}")
                return None
            said[name] = entry.value.text if isinstance(entry.value, Scalar) else ""
        if said["kind"] in KINDS and said["apiVersion"] == "v1":
            return KINDS[said["kind"]]
        wrong = "kind" if said["kind"] not in KINDS else "apiVersion"
        offer = fields.KINDS.get(said["kind"]) or _meant(said["kind"])
        self._error(node.entries[wrong].value.place, (*path, wrong), f'podd does not run "{said[wrong]}"', offer)
        return None

    # ---- by type

    def _value(self, node: Node, kind: inspect.Type, path: Path) -> object:
        self._places[path] = node.place
        match kind:
            case inspect.StructType() if isinstance(node, Mapping):
                return self._struct(node, kind, path)
            case inspect.VarTupleType(item_type=item_type) if isinstance(node, Sequence):
                return self._items(node, item_type, path)
            case inspect.DictType(value_type=value_type) if isinstance(node, Mapping):
                return self._entries(node, value_type, path)
            case (
                inspect.StrType() | inspect.Metadata() | inspect.IntType() | inspect.BoolType() | inspect.LiteralType()
            ):
                if isinstance(node, Scalar):
                    return self._scalar(node, kind, path)
        self._error(node.place, path, f"{_wanted(kind)} is wanted, and this is {_noun(node)}")
        return _blank(kind)

    def _struct(self, node: Mapping, kind: inspect.StructType, path: Path) -> dict[str, object]:
        members = {member.encode_name: member for member in kind.fields}
        read: dict[str, object] = {}
        for name, entry in node.entries.items():
            row = ROWS[kind.cls.__name__].get(name)
            below = (*path, name)
            self._places[below] = entry.key.place
            if row is None:
                self._unknown(entry, kind.cls.__name__, below)
            elif row.treatment is not Treatment.HONOURED:
                self._not_honoured(entry, row, below, must=fields.is_security(kind.cls.__name__, name))
            elif not is_null(entry.value):
                read[name] = self._value(entry.value, present(members[name].type), below)
        for name, member in members.items():
            if member.required and name not in read:
                self._error(node.place, (*path, name), "required")
                read[name] = _blank(member.type)
        return read

    def _items(self, node: Sequence, kind: inspect.Type, path: Path) -> list[object]:
        return [self._value(item, kind, (*path, number)) for number, item in enumerate(node.items)]

    def _entries(self, node: Mapping, kind: inspect.Type, path: Path) -> dict[str, object]:
        return {key: self._value(entry.value, kind, (*path, key)) for key, entry in node.entries.items()}

    def _scalar(self, node: Scalar, kind: inspect.Type, path: Path) -> object:
        try:
            return scalars.read(node, kind)
        except scalars.Unfit as unfit:
            self._error(node.place, path, *(_unquoted(node) if path[:-1] in self._hidden else unfit.args))
            return _blank(kind)

    # ---- fields that are not honoured

    def _not_honoured(self, entry: Entry, row: Field, path: Path, *, must: bool) -> None:
        plain = document.data(entry.value)
        if plain is None or plain == [] or plain in row.harmless:
            return
        place = entry.key.place
        match row.treatment:
            case Treatment.REFUSED:
                self._refuse(place, path, row.note, row.remedy, must=must)
            case Treatment.NO_EFFECT:
                self._problems.add(place, path, "warning", f"has no effect: {row.note}")
            case Treatment.IGNORED:
                self._problems.add(place, path, "note", f"is not read: {row.note}")

    def _unknown(self, entry: Entry, kind: str, path: Path) -> None:
        """Taken for the field that was meant: who misspells runAsNonRoot did not mean to run as root."""
        name = entry.key.text
        suggestion = nearest(name, kind, path)
        must = fields.is_security(kind, name) or suggestion.rpartition(".")[2] in fields.SECURITY_NAMES
        remedy = f"did you mean {suggestion}?" if suggestion else ""
        self._refuse(entry.key.place, path, "unknown field", remedy, must=must)

    def _refuse(self, place: Place, path: Path, why: str, remedy: str, *, must: bool) -> None:
        """must: it may not be left out, whoever asks for that."""
        if self._strict or must:
            self._error(place, path, why, remedy)
        else:
            self._problems.add(place, path, "warning", f"is left out: {why}", remedy)


_WANTED = {"apiVersion": "v1", "kind": "Pod, ConfigMap or Secret"}


def _unquoted(node: Scalar) -> tuple[str, str]:
    """What is wrong with a string that nobody else should read."""
    if "\0" in node.text:
        return "has a NUL character", "put it into data, as base64"
    return f"a string is wanted, and this is {MEANT[meaning(node)]}", "quote it"


def _meant(kind: str) -> str:
    close = difflib.get_close_matches(kind.lower(), [known.lower() for known in KINDS], 1)
    meant = next((known for known in KINDS if known.lower() in close), None)
    return f"did you mean {meant}?" if meant and meant != kind else "podd runs Pods: apiVersion v1, kind Pod"


def _blank(kind: inspect.Type) -> object:
    match kind:
        case inspect.StructType(fields=members):
            return {member.encode_name: _blank(member.type) for member in members if member.required}
        case inspect.VarTupleType():
            return []
        case inspect.DictType():
            return {}
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.IntType():
            return 0
        case inspect.Metadata() if scalars.title(kind) == "Mode":
            return 0
        case inspect.BoolType():
            return False
    return ""


def _noun(node: Node) -> str:
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"
        case Scalar():
            return MEANT[meaning(node)]


_TITLED = {"Quantity": "a quantity", "IntOrString": "a number or a name", "Mode": "a whole number"}


def _wanted(kind: inspect.Type) -> str:
    match kind:
        case inspect.StructType() | inspect.DictType():
            return "a mapping"
        case inspect.VarTupleType():
            return "a list"
        case inspect.IntType():
            return "a whole number"
        case inspect.BoolType():
            return "true or false"
        case inspect.Metadata():
            return _TITLED[scalars.title(kind)]
    return "a string"
