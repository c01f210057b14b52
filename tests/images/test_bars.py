"""skopeo's bars, as they come from a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.images.bars import AT_ONCE, Bars

K, M = 1024, 1024**2
UP = "\x1b[2A\x1b[J"


def bar(layer: str, sizes: str) -> str:
    return f"Copying blob {layer} [====>----] {sizes}\r\n"


A, B, C = ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc")
FIRST = bar(A, "2.0MiB / 9.5MiB") + bar(B, "952.0KiB / 1.0MiB") + f"Copying blob {C} skipped: already exists  \r\n"
DONE = f"Copying blob {A} done  \r\nCopying blob {B} done  \r\n"


def seen(*texts: str) -> tuple[int, int | None, str] | None:
    bars = Bars()
    for text in texts:
        bars.feed(text)
    found = bars.progress()
    return found and (found.done_bytes, found.total_bytes, found.message)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), None),
        (("Getting image source signatures\r\n", "nonsense / more"), None),
        ((f"Copying blob {C} skipped: already exists  \r\n",), None),
        ((bar(A, "0.0b / 9.6MiB"),), (0, int(9.6 * M), "0 of 1 layers")),
        ((FIRST,), (2 * M + 952 * K, int(10.5 * M), "1 of 3 layers")),
        ((FIRST, UP, bar(A, "9.5MiB / 9.5MiB")), (int(9.5 * M) + 952 * K, int(10.5 * M), "2 of 3 layers")),
        ((FIRST, UP + DONE), (int(10.5 * M), int(10.5 * M), "unpacking")),
        ((bar("a" * 64, "1.0GiB / 2.0GiB | 3.1 MiB/s"),), (1 << 30, 1 << 31, "0 of 1 layers")),
        ((bar(A, "1.2.3MiB / 9.5MiB"),), (0, int(9.5 * M), "0 of 1 layers")),
        ((FIRST, f"Copying blob {A} [>"), (2 * M + 952 * K, int(10.5 * M), "1 of 3 layers")),
    ],
)
def test_what_they_say(texts: tuple[str, ...], expected: tuple[int, int, str] | None) -> None:
    assert seen(*texts) == expected


def test_as_long_as_all_that_may_be_under_way_are_there_may_be_more() -> None:
    layers = [bar(f"{number:012x}", "1.0MiB / 2.0MiB") for number in range(AT_ONCE)]
    assert seen(*layers) == (6 * M, 12 * M, "0 of 6 and more layers")
    assert seen(*layers, bar(f"{0:012x}", "2.0MiB / 2.0MiB")) == (7 * M, 12 * M, "1 of 6 layers")


@given(st.lists(st.integers(1, 40)))
def test_it_matters_not_in_which_pieces_it_comes(cuts: list[int]) -> None:
    text, pieces = FIRST + UP + bar(A, "4.0MiB / 9.5MiB"), []
    for cut in cuts:
        pieces.append(text[:cut])
        text = text[cut:]
    assert seen(*pieces, text) == seen(FIRST, UP, bar(A, "4.0MiB / 9.5MiB"))


@given(st.text(alphabet="Copyingblb 0123456789abcf[]./KMiB\r\n\x1b"))
def test_nothing_breaks_it(text: str) -> None:
    seen("Copying blob ", text)
