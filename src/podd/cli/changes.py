"""What differs between a manifest and the pod that is there, as text."""

from __future__ import annotations

from collections.abc import Iterator

from podd.cli.status import Json
from podd.cli.text import clean

NOTHING = "(none)"


def lines(result: Json) -> Iterator[str]:
    """One for each field, indented: what it is, what it would be, and what is particular about that."""
    for change in result.get("changes", ()):
        old, new = (clean(NOTHING if side is None else side) for side in (change["old"], change["new"]))
        note = f"  ({clean(change['note'])})" if change["note"] else ""
        yield f"  {clean(change['path'])}: {old} -> {new}{note}"


def hunks(result: Json) -> Iterator[str]:
    """As a unified diff, a hunk for each field."""
    for change in result.get("changes", ()):
        note = f": {clean(change['note'])}" if change["note"] else ""
        yield f"@@ {clean(change['path'])} @@ {change['means']}{note}"
        yield from (f"{sign}{clean(side)}" for sign, side in (("-", change["old"]), ("+", change["new"])) if side)
