"""YAML or JSON text as trees that remember where everything stands.

Built from the parser's flat events with bounds of our own, so that neither depth, nor size, nor aliases that multiply
cost more than a bounded amount of work. Scalars keep their text: what `yes` or `0644` means is asked only where it is
known what is wanted there (`meaning`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import yaml

from podd.model.problem import Path, Place, Problems

MAX_BYTES = 3 * 1024 * 1024  # what a Kubernetes API server takes in one request
MAX_NODES = 200_000  # of one manifest, aliases counted as often as they are used
MAX_DEPTH = 64

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_YAML = "tag:yaml.org,2002:"
_OWN_TAGS = frozenset(
    (
        "str",
        "seq",
        "map",
        "int",
        "float",
        "bool",
        "null",
        "binary",
        "timestamp",
        "set",
        "omap",
        "pairs",
        "merge",
        "value",
    )
)
_TAGS = {f"{_YAML}str": "scalar", "!": "scalar", f"{_YAML}seq": "sequence", f"{_YAML}map": "mapping"}


@dataclass(frozen=True, slots=True)
class Scalar:
    place: Place
    text: str
    plain: bool  # without quotes: it may mean something else than its text

    size: ClassVar[int] = 1
    height: ClassVar[int] = 0


@dataclass(slots=True)
class Sequence:
    place: Place
    items: list[Node] = field(default_factory=list)
    size: int = 1  # values, this one and all below it
    height: int = 1  # levels below this one


@dataclass(slots=True)
class Mapping:
    place: Place
    entries: dict[str, Entry] = field(default_factory=dict)
    size: int = 1
    height: int = 1


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Entry:
    key: Scalar
    value: Node
    merged: bool = False  # by `<<`: gives way to one that is written here


# ---- what a scalar means ---------------------------------------------------------------------------------------------

Meaning = Literal["null", "bool", "int", "odd int", "float", "str"]
MEANT: dict[Meaning, str] = {
    "null": "nothing (null)",
    "bool": "a boolean",
    "int": "a number",
    "odd int": "a number",
    "float": "a number",
    "str": "a string",
}

_WORDS = {"true": True, "yes": True, "on": True, "y": True, "false": False, "no": False, "off": False, "n": False}
BOOLEANS = {form: value for word, value in _WORDS.items() for form in (word, word.capitalize(), word.upper())}
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_ODD_INT = re.compile(
    r"[-+]?(0[0-9_]+|0o[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+|[1-9][0-9_]+|[1-9][0-9_]*(:[0-5]?[0-9])+)", re.ASCII
)
_FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    re.ASCII,
)


def meaning(node: Scalar) -> Meaning:
    """What a YAML reader makes of it. YAML 1.1 and 1.2 taken together, so that nothing has two meanings unnoticed."""
    if not node.plain:
        return "str"
    if node.text in _NULLS:
        return "null"
    if node.text in BOOLEANS:
        return "bool"
    if _INT.fullmatch(node.text):
        return "int"
    if _ODD_INT.fullmatch(node.text):
        return "odd int"
    return "float" if _FLOAT.fullmatch(node.text) else "str"


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and meaning(node) == "null"


def data(node: Node) -> object:
    """The tree as plain values, numbers as their text."""
    match node:
        case Sequence(items=items):
            return [data(item) for item in items]
        case Mapping(entries=entries):
            return {key: data(entry.value) for key, entry in entries.items()}
        case Scalar(text=text):
            known = {"null": None, "bool": BOOLEANS.get(text)}
            return known.get(meaning(node), text)


# ---- from text -------------------------------------------------------------------------------------------------------


def documents(text: str | bytes, problems: Problems) -> list[Node]:
    """Every document that is not empty, up to the first that cannot be read, which is told to `problems`."""
    start = Place(1, 1)
    size = len(text) if isinstance(text, bytes) else len(text.encode(errors="surrogatepass"))
    if size > MAX_BYTES:
        remedy = "give fewer pods at a time"
        problems.add(start, (), "error", f"has {size} bytes, podd reads at most {MAX_BYTES}", remedy)
        return []
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        decoded = _SURROGATES.sub(_joined, decoded) if decoded.lstrip().startswith("{") else decoded
        decoded.encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as exc:
        message = f"is not UTF-8: {exc.reason} at byte {exc.start}"
        before = exc.object[: exc.start]
        place = _end(before if isinstance(before, str) else before.decode("latin-1"))
        problems.add(place, (), "error", message, "save it as UTF-8")
        return []
    composer = _Composer(problems)
    try:
        composer.read(yaml.parse(decoded, Loader=_LOADER))
    except _Stop:
        pass
    except yaml.MarkedYAMLError as exc:
        said = ": ".join(part for part in (exc.context, exc.problem) if part)
        place = _place(exc.problem_mark or exc.context_mark)
        remedy = "indent by spaces, not by tabs" if _is_tab(decoded, place) else ""
        problems.add(place, (), "error", f"is not YAML: {said}", remedy)
    except yaml.YAMLError as exc:
        problems.add(_control_character(decoded), (), "error", f"is not YAML: {str(exc).splitlines()[0].strip()}")
    return composer.finished


def _place(mark: _Mark | None) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _control_character(text: str) -> Place:
    """Where the first one stands that YAML does not allow: the parser tells of it without a place."""
    found = re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]", text)
    return _end(text[: found.start()] if found else "")


def _end(before: str) -> Place:
    """Of what comes after that."""
    return Place(before.count("\n") + 1, len(before) - before.rfind("\n"))


def _is_tab(text: str, place: Place) -> bool:
    lines = text.splitlines()
    return place.line <= len(lines) and lines[place.line - 1][place.column - 1 : place.column] == "\t"


@dataclass(slots=True)
class _Open:
    node: Sequence | Mapping
    anchor: str | None
    key: Scalar | None = None


_SURROGATES = re.compile(r"(?<!\\)((?:\\\\)*)((?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})+)")


def _joined(found: re.Match[str]) -> str:
    """JSON writes a character beyond 16 bits as two escapes, of which YAML knows neither."""
    return found[1] + found[2].encode().decode("unicode-escape").encode("utf-16", "surrogatepass").decode("utf-16")


class _Mark(Protocol):
    """The parser's, of either implementation; counted from 0."""

    line: int
    column: int


class _Stop(Exception):
    """Reading on makes no sense; the problem is told."""


class _Composer:
    """Events to trees. A list or mapping is on the stack while it is open; a key waits there for its value."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.finished: list[Node] = []
        self.size = 0
        self.anchors: dict[str, Node | None] = {}  # None: not finished
        self.stack: list[_Open] = []

    def read(self, events: Iterator[yaml.Event]) -> None:
        for event in events:
            match event:
                case yaml.DocumentStartEvent():
                    self.anchors.clear()
                case yaml.ScalarEvent():
                    self._check_tag(event, "scalar")
                    plain = event.implicit[0] and event.tag is None
                    self._add(Scalar(_place(event.start_mark), event.value, plain), event.anchor)
                case yaml.AliasEvent():
                    self._add_alias(event)
                case yaml.SequenceStartEvent():
                    self._check_tag(event, "sequence")
                    self._open(Sequence(_place(event.start_mark)), event.anchor)
                case yaml.MappingStartEvent():
                    self._check_tag(event, "mapping")
                    self._open(Mapping(_place(event.start_mark)), event.anchor)
                case yaml.CollectionEndEvent():
                    closed = self.stack.pop()
                    self._add(closed.node, closed.anchor)

    def _stop(self, place: Place, message: str, remedy: str = "") -> _Stop:
        self.problems.add(place, self._path(), "error", message, remedy)
        return _Stop()

    def _path(self) -> Path:
        """Of the value that comes next."""
        path: list[str | int] = []
        for level in self.stack:
            if isinstance(level.node, Sequence):
                path.append(len(level.node.items))
            elif level.key is not None:
                path.append(level.key.text)
        return tuple(path)

    def _check_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, kind: str) -> None:
        if event.tag not in (None, "!") and _TAGS.get(event.tag) != kind:
            place, name = _place(event.start_mark), event.tag.rpartition(":")[2]
            if event.tag != f"{_YAML}{name}" or name not in _OWN_TAGS:  # and is not quoted: it may be a password
                remedy = "remove it, or quote it if ! begins a text"
                raise self._stop(place, "has a tag (!): podd reads values without tags", remedy)
            raise self._stop(place, f"has the tag !!{name}: podd reads values without tags", "remove it")

    def _open(self, node: Sequence | Mapping, anchor: str | None) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise self._stop(node.place, f"is nested deeper than {MAX_DEPTH} levels")
        if anchor is not None:
            self.anchors[anchor] = None
        self.stack.append(_Open(node, anchor))

    def _add_alias(self, event: yaml.AliasEvent) -> None:
        assert event.anchor is not None
        place, node = _place(event.start_mark), self.anchors.get(event.anchor)
        if event.anchor not in self.anchors:  # and is not quoted: it may be a password that begins with *
            raise self._stop(place, "is an alias (*) of an anchor that is not there", "quote it if * begins a text")
        if node is None:
            raise self._stop(place, f"*{event.anchor} contains itself")
        if len(self.stack) + node.height > MAX_DEPTH:
            raise self._stop(place, f"is nested deeper than {MAX_DEPTH} levels")
        self.size += node.size - 1
        self._add(node, None)

    def _add(self, node: Node, anchor: str | None) -> None:
        """A finished value goes where it belongs: to the open list or mapping, or to the documents."""
        self.size += 1
        if self.size > MAX_NODES:
            message = f"the manifest has more than {MAX_NODES} values, aliases counted as often as they are used"
            raise self._stop(node.place, message)
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.stack:
            self.finished += [] if is_null(node) else [node]
            return
        level = self.stack[-1]
        level.node.size += node.size
        level.node.height = max(level.node.height, node.height + 1)
        if isinstance(level.node, Sequence):
            level.node.items.append(node)
        elif level.key is None:
            if not isinstance(node, Scalar):
                raise self._stop(node.place, "a key is a string, not a list or a mapping")
            level.key = node
        else:
            self._add_entry(level.node, level.key, node)
            level.key = None

    def _add_entry(self, mapping: Mapping, key: Scalar, value: Node) -> None:
        if key.plain and key.text == "<<":
            self._merge(mapping, key, value)
            return
        if meaning(key) != "str":
            message = f"a key is a string, and this is {MEANT[meaning(key)]}"
            self.problems.add(key.place, self._path(), "error", message, f'quote it: "{key.text}"')
        first = mapping.entries.get(key.text)
        if first is not None and not first.merged:
            message = f"is given twice, first on line {first.key.place.line}"
            self.problems.add(key.place, self._path(), "error", message, "keep one")
            return
        mapping.entries[key.text] = Entry(key, value)

    def _merge(self, mapping: Mapping, key: Scalar, value: Node) -> None:
        """`<<` of YAML 1.1: the entries of other mappings, where this one has none of that key; earlier ones first."""
        for other in value.items if isinstance(value, Sequence) else [value]:
            if not isinstance(other, Mapping):
                self.problems.add(key.place, self._path(), "error", "merges mappings, and this is none")
                return
            for name, entry in other.entries.items():
                mapping.entries.setdefault(name, Entry(entry.key, entry.value, merged=True))
