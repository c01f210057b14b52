"""The field that was meant, for one that is not there."""

from __future__ import annotations

import difflib
from functools import cache

from msgspec import inspect

from podd.model.fields import FIELDS, OBJECTS, ROWS, Treatment
from podd.model.objects import Object
from podd.model.pod import Pod
from podd.model.problem import Path, dotted


def type_of_pod() -> inspect.StructType:
    return type_of(Pod)


@cache
def type_of(cls: type[Pod | Object]) -> inspect.StructType:
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    return kind


def present(kind: inspect.Type) -> inspect.Type:
    """T of T | None."""
    if isinstance(kind, inspect.UnionType):
        return next(member for member in kind.types if not isinstance(member, inspect.NoneType))
    return kind


@cache
def _paths_by_name() -> dict[str, list[str]]:
    """Lower-case field names to every path where such a field stands, honoured ones and short ones first."""
    found: list[tuple[bool, int, str]] = []

    def walk(kind: inspect.StructType, path: str) -> None:
        members = {member.encode_name: present(member.type) for member in kind.fields}
        for name, row in FIELDS[kind.cls.__name__].items():
            below = f"{path}.{name}".removeprefix(".")
            found.append((row.treatment is not Treatment.HONOURED, below.count("."), below))
            member = members.get(name)
            if isinstance(member, inspect.VarTupleType):
                member, below = member.item_type, f"{below}[]"
            if isinstance(member, inspect.StructType):
                walk(member, below)

    walk(type_of_pod(), "")
    names: dict[str, list[str]] = {}
    for _, _, path in sorted(found):
        names.setdefault(path.rpartition(".")[2].lower(), []).append(path)
    return names


def nearest(name: str, kind: str, path: Path) -> str:
    """The path that was meant by the field `name` of the object `kind`, which has none such. "": nothing is like it.

    path: where it stands. The same name elsewhere is better than one like it here.
    """
    here = {known.lower(): known for known in ROWS[kind]}
    there = {} if kind in OBJECTS else _paths_by_name()
    wanted = name.lower()
    if wanted in here:
        return dotted((*path[:-1], here[wanted]))
    if wanted in there:
        return _closest(there[wanted], path[:-1])
    close = difflib.get_close_matches(wanted, here, 1, 0.75)
    if close:
        return dotted((*path[:-1], here[close[0]]))
    close = difflib.get_close_matches(wanted, there, 1, 0.85)
    return _closest(there[close[0]], path[:-1]) if close else ""


def _closest(candidates: list[str], parent: Path) -> str:
    """One below the same object if there is one, with its index; else the best anywhere."""
    pattern = dotted(tuple("" if isinstance(part, int) else part for part in parent)) + "."
    below = [candidate for candidate in candidates if candidate.startswith(pattern)]
    return f"{dotted(parent)}.{below[0].removeprefix(pattern)}" if below else candidates[0]
