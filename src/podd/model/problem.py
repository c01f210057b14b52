"""What is wrong, or worth saying, about a manifest: each with the place where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

from podd.model.value import Value

Level = Literal["error", "warning", "note"]
"""error: refused. warning: accepted, and something asked for will not happen. note: accepted, and left unread."""

Path = tuple[str | int, ...]

MAX_ERRORS = 100  # of one manifest
MAX_REMARKS = 10_000  # warnings, and as many notes
MAX_TEXT = 400  # characters of a message, a remedy or a path


class Place(NamedTuple):
    """Counted from 1, as editors do."""

    line: int
    column: int


class Problem(Value):
    source: str  # the file's name, or what stands for it
    path: str  # spec.containers[1].env[0].name; "" is the document
    line: int
    column: int
    level: Level
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        level = "" if self.level == "error" else f"{self.level}: "
        path = f"{self.path}: " if self.path else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.source}:{self.line}:{self.column}: {level}{path}{self.message}{remedy}"


_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


def dotted(path: Path) -> str:
    """As Kubernetes writes it: spec.containers[0].resources.limits[podd.io/pids]."""
    parts = [f".{part}" if isinstance(part, str) and _PLAIN_KEY.fullmatch(part) else f"[{part}]" for part in path]
    return "".join(parts).removeprefix(".")


_PARTS = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def undotted(path: str) -> Path:
    """Of what `dotted` made of names of fields and numbers."""
    return tuple(int(number) if number else name for number, name in _PARTS.findall(path))


class TooMany(Exception):
    """Reading on is of no use to anybody. That it ended is among the problems."""


class Problems:
    """All problems of one manifest."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: list[Problem] = []
        self._room = {"error": MAX_ERRORS, "warning": MAX_REMARKS, "note": MAX_REMARKS}

    def add(self, place: Place, path: Path, level: Level, message: str, remedy: str = "") -> None:
        """Raises TooMany."""
        self._room[level] -= 1
        full = self._room[level] < 0
        self._found.append(
            Problem(
                source=self.source,
                path="" if full else shown(dotted(path)),
                line=place.line,
                column=place.column,
                level="error" if full else level,
                message="too many problems: the rest was not read" if full else shown(message),
                remedy="" if full else shown(remedy),
            )
        )
        if full:
            raise TooMany

    def count(self) -> int:
        return len(self._found)

    def remarks(self, since: int = 0) -> tuple[Problem, ...]:
        """Warnings and notes, as they stand in the text. since: what `count` was before the first of them."""
        found = (problem for problem in self._found[since:] if problem.level != "error")
        return tuple(sorted(found, key=_place))

    def __iter__(self) -> Iterator[Problem]:
        """As they stand in the text."""
        return iter(sorted(self._found, key=_place))

    def errors(self) -> list[Problem]:
        return [problem for problem in self if problem.level == "error"]


def _place(problem: Problem) -> Place:
    return Place(problem.line, problem.column)


def shown(text: str) -> str:
    """What a manifest quotes must neither fill the reader's screen nor move the cursor on it."""
    if len(text) > MAX_TEXT:
        text = f"{text[: MAX_TEXT // 2]}…{text[-MAX_TEXT // 2 :]}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class Tell(Protocol):
    def __call__(self, at: Path, level: Level, message: str, remedy: str, rests_on: Path) -> None: ...


class Rules:
    """Where rules say what they found. `rests_on` is another place that the finding depends on."""

    def __init__(self, tell: Tell, *, strict: bool = True) -> None:
        self._tell = tell
        self._strict = strict
        self.left_out: list[Path] = []

    def unsupported(self, at: Path, message: str, remedy: str = "") -> None:
        """What makes sense elsewhere and podd cannot do. It may be left out, where that was asked for."""
        if self._strict:
            self.error(at, message, remedy)
        else:
            self.warning(at, f"is left out: {message}", remedy)
            self.left_out.append(at)

    def error(self, at: Path, message: str, remedy: str = "", rests_on: Path = ()) -> None:
        self._tell(at, "error", message, remedy, rests_on)

    def warning(self, at: Path, message: str, remedy: str = "") -> None:
        self._tell(at, "warning", message, remedy, ())
