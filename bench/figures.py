"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

HEADINGS = ("", "unit", "median", "p95", "best", "n", "target", "")


@dataclass(frozen=True)
class Row:
    """values: every sample, in order. most, least: what the median is to reach; None: it is only shown.

    More is better where there is a least, else less is.
    """

    name: str
    unit: str
    values: Sequence[float]
    most: float | None = None
    least: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def p95(self) -> float:
        """95 % of the samples are at least as good."""
        return self._best_first()[-(-len(self.values) * 95 // 100) - 1]

    @property
    def best(self) -> float:
        return self._best_first()[0]

    def _best_first(self) -> list[float]:
        return sorted(self.values, reverse=self.least is not None)

    @property
    def met(self) -> bool | None:
        """None: there is no target."""
        if self.most is not None:
            return self.median <= self.most
        return None if self.least is None else self.median >= self.least

    def record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "n": len(self.values),
            "median": self.median,
            "p95": self.p95,
            "best": self.best,
            "most": self.most,
            "least": self.least,
            "met": self.met,
        }

    def cells(self) -> list[str]:
        spread = [number(self.p95), number(self.best)] if len(self.values) > 1 else ["", ""]
        target = "" if self.most is None else f"≤ {number(self.most)}"
        target = target if self.least is None else f"≥ {number(self.least)}"
        verdict = {None: "", True: "met", False: "MISSED"}[self.met]
        return [self.name, self.unit, number(self.median), *spread, str(len(self.values)), target, verdict]


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> list[str]:
    return aligned([HEADINGS, *(row.cells() for row in rows)])


def comparison(rows: Sequence[Row], us: str) -> list[str]:
    """One line a quantity: ours, and each peer's with how many times ours it is. Rows are called "WHO: QUANTITY"."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        who, _, quantity = row.name.partition(": ")
        found.setdefault(quantity, {})[who] = row
    peers = sorted({who for by_who in found.values() for who in by_who} - {us})
    lines = [["", "unit", us, *peers]]
    for quantity, by_who in found.items():
        ours = by_who[us]
        cells = [quantity, ours.unit, number(ours.median)]
        for peer in peers:
            theirs = by_who.get(peer)
            cells.append(f"{number(theirs.median)} ({theirs.median / ours.median:.1f}x)" if theirs else "")
        lines.append(cells)
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The first two columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(_padded(line, widths)).rstrip() for line in lines]


def _padded(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for index, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield f"{cell:<{width}}" if index < 2 else f"{cell:>{width}}"
