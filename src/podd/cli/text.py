"""Text for terminals and pipes: what may be printed, how wide it is, tables.

Much of what is shown comes from inside containers (messages, command lines). Whatever could drive the reader's
terminal is shown escaped, never sent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from podd.control.errors import EXIT_FAILED

GAP = 3  # spaces between columns, as kubectl
MIN_WRAP = 20  # columns; narrower than this a wrapped column is not readable


def clean(text: str) -> str:
    """The text on one line, with every control, format or undecodable character escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def width(text: str) -> int:
    """Terminal columns that clean text takes: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, columns: int) -> str:
    """Clean text cut to at most that many columns, with a mark where something is missing and there is room for it."""
    if width(text) <= columns:
        return text
    mark = "…" if box_characters() else "..."
    if columns < len(mark):
        return ""
    kept = ""
    for c in text:
        if width(kept + c) + len(mark) > columns:
            break
        kept += c
    return kept + mark


def box_characters() -> bool:
    """Does the reader's locale take UTF-8? Python itself writes UTF-8 in the C locale, so the environment is asked."""
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        return False
    env = os.environ
    if env.get("LC_CTYPE") == "C.UTF-8" and env.get("LANG") in ("C", "POSIX"):
        return False  # Python set LC_CTYPE itself (PEP 538); the user had asked for C
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    return "utf8" in locale.lower().replace("-", "")


def terminal_columns() -> int | None:
    """Width of the terminal that stdout is; None where it is none, and nothing is cut or wrapped."""
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except OSError:
        return None


# ---- colour ----------------------------------------------------------------------------------------------------------

_CODES = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}


def colours() -> bool:
    """Only on a terminal that can, and not where NO_COLOR is set (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, colour: str) -> str:
    """The text in a colour where colours are wanted; colour "" leaves it."""
    return f"\033[{_CODES[colour]}m{text}\033[0m" if colour and colours() else text


# ---- tables ----------------------------------------------------------------------------------------------------------


Colour = Callable[[str, str], str]


class Table:
    """Rows under headers. Column widths are those of the rows that were there when lines() was called.

    colour: what to paint a cell, asked by header and value; "" for none. Padding is never painted.
    wrap: fold the last column to the terminal's width, if stdout is one.
    """

    def __init__(self, headers: Sequence[str], *, wrap: bool = False, colour: Colour | None = None) -> None:
        self.headers = tuple(headers)
        self._rows: list[tuple[str, ...]] = []
        self._widths = [width(header) for header in headers]
        self._colour = colour or (lambda _header, _value: "")
        self._columns = terminal_columns() if wrap else None

    def add(self, *cells: str) -> None:
        self._rows.append(tuple(clean(cell) for cell in cells))

    def lines(self) -> list[str]:
        """The headers and all rows."""
        self._widths = [max(map(width, column)) for column in zip(self.headers, *self._rows, strict=True)]
        header = self._line(self.headers, "")
        return [*header, *(line for row in self._rows for line in self._line(row))]

    def append(self, *cells: str) -> list[str]:
        """The lines of one more row, below what lines() gave."""
        return self._line([clean(cell) for cell in cells])

    def _line(self, row: Sequence[str], colour: str | None = None) -> list[str]:
        painted = ""
        colours = [self._colour(*cell) if colour is None else colour for cell in zip(self.headers, row, strict=True)]
        for cell, size, hue in zip(row[:-1], self._widths, colours, strict=False):
            painted += paint(cell, hue) + " " * (max(size - width(cell), 0) + GAP)
        indent = sum(self._widths[:-1]) + GAP * (len(row) - 1)
        first, *more = fold(row[-1], None if self._columns is None else self._columns - indent)
        return [(painted + paint(first, colours[-1])).rstrip(" "), *(" " * indent + part for part in more)]


def fold(text: str, columns: int | None) -> list[str]:
    """Text broken at spaces into lines of at most that many columns; whole where columns is None or too few."""
    if columns is None or columns < MIN_WRAP or width(text) <= columns:
        return [text]
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and width(lines[-1]) + 1 + width(word) > columns:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


# ---- complaints ------------------------------------------------------------------------------------------------------


def complain(message: str, status: int = EXIT_FAILED) -> int:
    """Say on stderr what is wrong, and return the status. What went to stdout before comes before.

    A message of several lines, as about a manifest with several mistakes, stays one.
    """
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()
    with suppress(OSError):  # where nobody is there to read it, the status tells
        print("podd-cli: " + "\n".join(map(clean, message.split("\n"))), file=sys.stderr, flush=True)
    return status


def note(message: str) -> None:
    """Something for a person to know, beside what a program may read."""
    with suppress(OSError):
        print(clean(message), file=sys.stderr, flush=True)


def discard_output() -> None:
    """What is still buffered goes nowhere, so that the interpreter's own flush at exit finds no broken pipe."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
