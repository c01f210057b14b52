"""How `describe` lays out what it tells: labelled lines, and blocks of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from podd.cli.text import clean

NONE = "<none>"
LABEL_COLUMNS = 16  # the widest label of a pod's first block and one space


def fields(values: Mapping[str, Any], *, columns: int = LABEL_COLUMNS, none: str = NONE) -> Iterator[str]:
    """One labelled line each; a mapping takes a line per entry, and so does each line of a text.

    columns: where values begin; 0: after the longest label. none: what stands for no value.
    """
    columns = columns or max(map(len, values), default=0) + 3
    for label, value in values.items():
        lines = [f"{k}={v}" for k, v in value.items()] if isinstance(value, Mapping) else str(value or "").split("\n")
        for number, line in enumerate(lines or [""]):
            head = f"{clean(label)}:" if number == 0 else ""
            yield f"{head:<{columns}}{clean(line) or (none if number == 0 else '')}".rstrip()


def block(title: str, lines: Sequence[str]) -> Iterator[str]:
    if not lines:
        yield f"{title + ':':<{LABEL_COLUMNS}}{NONE}"
        return
    yield f"{title}:"
    yield from indented(2, lines)


def indented(columns: int, lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    return (" " * columns + line if line else line for line in lines)
