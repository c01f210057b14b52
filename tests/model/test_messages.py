"""Every message that a bad manifest can get: as it reads, and that none is left out."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from snapshots import BAD, BAD_FOLDER, REAL, REAL_FOLDER, problems, said, verdict

import podd.model
from podd.model.fields import FIELDS, KINDS, RESOURCES, Treatment
from podd.model.problem import Level, Place, Problems
from podd.model.problem import Path as FieldPath

SOURCE = Path(podd.model.__file__).parent


REWRITE = "if it is meant so: python tests/model/snapshots.py"


@pytest.mark.parametrize("name", BAD)
def test_what_is_said(name: str) -> None:
    assert said(name) == (BAD_FOLDER / f"{name}.txt").read_text(), REWRITE


@pytest.mark.parametrize("name", REAL)
def test_a_manifest_as_people_bring_it_is_accepted_or_refused_by_the_field(name: str) -> None:
    assert verdict(name) == (REAL_FOLDER / f"{name}.txt").read_text(), REWRITE


def test_no_text_is_left_of_a_manifest_that_is_gone() -> None:
    assert {path.stem for path in BAD_FOLDER.glob("*.txt")} == set(BAD)
    assert {path.stem for path in REAL_FOLDER.glob("*.txt")} == set(REAL)


@pytest.mark.parametrize("name", BAD)
def test_each_problem_has_its_place(name: str) -> None:
    lines = BAD[name].decode(errors="replace").splitlines()
    for problem in problems(name, BAD[name]):
        assert 1 <= problem.line <= len(lines) + 1
        assert problem.column >= 1
        assert problem.message
        assert not problem.message.endswith(".")


Site = tuple[str, int, int]
"""A file of podd.model, and the lines of one statement in it that tells of a problem."""


def test_every_message_of_the_source_is_in_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: set[tuple[str, int]] = set()
    add = Problems.add

    def noting(self: Problems, place: Place, path: FieldPath, level: Level, message: str, remedy: str = "") -> None:
        reached.update(_lines_on_the_way(sys._getframe(1)))
        add(self, place, path, level, message, remedy)

    monkeypatch.setattr(Problems, "add", noting)
    for name in BAD:
        said(name)
    missing = [
        f"{name}:{first}"
        for name, first, last in _sites()
        if not any((name, n) in reached for n in range(first, last + 1))
    ]
    assert not missing, "\n".join(missing)


def _lines_on_the_way(frame: FrameType | None) -> Iterator[tuple[str, int]]:
    """Of the functions that run, and of those that an exception, which is being handled, came through."""
    while frame is not None:
        yield Path(frame.f_code.co_filename).name, frame.f_lineno
        frame = frame.f_back
    exc = sys.exc_info()[1]
    trace = exc.__traceback__ if exc else None
    while trace is not None:
        yield Path(trace.tb_frame.f_code.co_filename).name, trace.tb_lineno
        trace = trace.tb_next


def _sites() -> Iterator[Site]:
    for path in sorted(SOURCE.glob("*.py")):
        if path.name == "problem.py":  # it passes on what others tell
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if _tells(node):
                assert isinstance(node, ast.stmt | ast.expr)
                yield path.name, node.lineno, node.end_lineno or node.lineno


def _tells(node: ast.AST) -> bool:
    match node:
        case ast.Raise(exc=ast.Call(func=ast.Name(id="Unfit" | "_Unfit"))):
            return True
        case ast.Call(
            func=ast.Attribute(attr="error" | "warning" | "unsupported", value=ast.Name(id="rules" | "told"))
        ):
            return True
        case ast.Call(func=ast.Attribute(attr="_error" | "_stop", value=ast.Name(id="self"))):
            return True
        case ast.Call(func=ast.Attribute(attr="add", value=ast.Name(id="problems"))):
            return True
        case ast.Call(func=ast.Attribute(attr="add", value=ast.Attribute(attr="problems" | "_problems"))):
            return True
    return False


@pytest.fixture(scope="module")
def everything() -> str:
    return "\n".join(str(problem) for name in BAD for problem in problems(name, BAD[name]))


NOTES = sorted(
    {
        row.note
        for rows in (*FIELDS.values(), RESOURCES)
        for row in rows.values()
        if row.treatment is not Treatment.HONOURED and row.harmless != (True, False)
    }
)


@pytest.mark.parametrize("note", NOTES)
def test_what_is_said_of_a_field_that_is_not_honoured(note: str, everything: str) -> None:
    assert note in everything


@pytest.mark.parametrize(("kind", "offer"), KINDS.items(), ids=list(KINDS))
def test_every_kind_that_is_refused_gets_an_offer(kind: str, offer: str, everything: str) -> None:
    assert f'podd does not run "{kind}"; {offer}' in everything
