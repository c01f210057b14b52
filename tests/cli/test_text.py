from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.cli import text


@pytest.mark.parametrize(
    ("dirty", "shown"),
    [
        ("plain ünï 日本", "plain ünï 日本"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("two\nlines\ttab", "two\\nlines\\ttab"),
        ("\x9b31m", "\\x9b31m"),
        ("right\u202eleft", "right\\u202eleft"),
        ("bad\udcff", "bad\\udcff"),
    ],
)
def test_nothing_that_drives_a_terminal_is_shown(dirty: str, shown: str) -> None:
    assert text.clean(dirty) == shown


@given(st.text())
def test_clean_text_is_printable(dirty: str) -> None:
    assert text.clean(dirty).isprintable()


@pytest.mark.parametrize(("shown", "columns"), [("abc", 3), ("日本", 4), ("e\u0301", 1)])
def test_width(shown: str, columns: int) -> None:
    assert text.width(shown) == columns


@given(st.text(), st.integers(min_value=4, max_value=40))
def test_cut_text_fits(shown: str, columns: int) -> None:
    shown = text.clean(shown)
    assert text.width(text.cut(shown, columns)) <= columns


@given(st.lists(st.text("ab日", min_size=1, max_size=30)), st.integers(min_value=20, max_value=60))
def test_folded_text_loses_no_word(words: list[str], columns: int) -> None:
    lines = text.fold(" ".join(words), columns)
    assert " ".join(lines).split() == words
    assert all(text.width(line) <= columns or " " not in line for line in lines)


def test_table_columns() -> None:
    table = text.Table(("NAME", "WHAT"))
    table.add("a-long-name", "x")
    table.add("b", "")
    table.add("日本", "y")
    assert table.lines() == ["NAME          WHAT", "a-long-name   x", "b", "日本          y"]
    assert table.append("c", "later") == ["c             later"]
    assert table.append("longer-than-the-others", "z") == ["longer-than-the-others   z"]


@pytest.mark.parametrize(
    ("environment", "boxes"),
    [
        ({"LANG": "en_US.UTF-8"}, True),
        ({"LANG": "de_DE.utf8"}, True),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "C"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
    ],
)
def test_box_characters_follow_the_locale(
    environment: dict[str, str], boxes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert text.box_characters() is boxes


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called in a test, because pytest sets stdout itself before one: stdout is a terminal of 40 columns."""

    def begin() -> None:
        monkeypatch.setattr(sys, "stdout", Terminal())
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((40, 25)))

    return begin


def test_colours_only_where_they_are_wanted(at_terminal: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert text.paint("x", "red") == "x"
    at_terminal()
    assert text.paint("x", "red") == "\033[31mx\033[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert text.paint("x", "red") == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert text.paint("x", "red") == "x"


def test_painting_keeps_the_columns(at_terminal: Callable[[], None]) -> None:
    at_terminal()
    table = text.Table(("STATUS", "NAME"), colour=lambda header, _: "green" if header == "STATUS" else "")
    table.add("ok", "a")
    assert table.lines() == ["STATUS   NAME", "\033[32mok\033[0m       a"]


def test_last_column_is_folded_on_a_terminal(at_terminal: Callable[[], None]) -> None:
    at_terminal()
    table = text.Table(("TYPE", "MESSAGE"), wrap=True)
    table.add("Warning", "one two three four five six seven eight")
    assert table.lines() == ["TYPE      MESSAGE", "Warning   one two three four five six", "          seven eight"]
