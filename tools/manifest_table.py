"""Write the table of fields in docs/manifest.md from podd.model.fields. A test checks that it was done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import inspect

from podd.model.fields import KINDS, RESOURCES, ROWS, Field, Treatment, is_security
from podd.model.objects import ConfigMap, Secret
from podd.model.pod import Pod
from podd.model.suggest import present, type_of

PAGE = Path(__file__).parent.parent / "docs" / "manifest.md"
BEGIN, END = "<!-- fields: begin -->", "<!-- fields: end -->"


def table() -> str:
    """One table for each object, where it first stands."""
    parts = []
    seen: set[str] = set()
    for path, kind in (found for cls in (Pod, ConfigMap, Secret) for found in _objects(type_of(cls), "", seen)):
        rows = ROWS[kind]
        parts.append(f"### {kind}{f', `{path}`' if path else ''}\n\n| field | podd | |\n| --- | --- | --- |")
        parts[-1] += "".join(
            f"\n| `{name}` | {row.treatment} | {_note(row, kind, name)} |" for name, row in _ordered(rows)
        )
    parts.append("### Resources, in limits and requests\n\n| name | podd | |\n| --- | --- | --- |")
    parts[-1] += "".join(f"\n| `{name}` | {row.treatment} | {_note(row)} |" for name, row in _ordered(RESOURCES))
    return "\n\n".join([*parts, _kinds()])


def _kinds() -> str:
    """Those with one offer in one row."""
    offers: dict[str, list[str]] = {}
    for kind, offer in KINDS.items():
        offers.setdefault(offer, []).append(kind)
    rows = (
        f"\n| {', '.join(f'`{kind}`' for kind in kinds)} | {offer.replace('|', '&#124;')} |"
        for offer, kinds in offers.items()
    )
    return "### Other kinds\n\nThey are refused. What podd offers instead:\n\n| kind | |\n| --- | --- |" + "".join(rows)


def _objects(kind: inspect.StructType, path: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    if kind.cls.__name__ in seen:
        return
    seen.add(kind.cls.__name__)
    yield path, kind.cls.__name__
    for member in kind.fields:
        below, inner = f"{path}.{member.encode_name}".removeprefix("."), present(member.type)
        if isinstance(inner, inspect.VarTupleType):
            inner, below = inner.item_type, f"{below}[]"
        if isinstance(inner, inspect.StructType):
            yield from _objects(inner, below, seen)


def _ordered(rows: dict[str, Field]) -> list[tuple[str, Field]]:
    order = list(Treatment)
    return sorted(rows.items(), key=lambda row: (order.index(row[1].treatment), row[0]))


def _note(row: Field, kind: str = "", name: str = "") -> str:
    harmless = ", ".join(f"`{_written(value)}`" for value in row.harmless)
    word = "accepted" if row.treatment is Treatment.REFUSED else "without a warning"
    accepted = f"{word}: {harmless}" if harmless else ""
    must = "never left out" if row.treatment is Treatment.REFUSED and is_security(kind, name) else ""
    return "; ".join(part for part in (row.note, row.remedy, accepted, must) if part)


def _written(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
        case "":
            return '""'
    return str(value)


def page() -> str:
    """The page as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
