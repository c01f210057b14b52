"""How far a pull is, in lines."""

from __future__ import annotations

from typing import Any

import pytest

from podd.cli.progress import CELLS, RATE_S, Progress, Rate, bar, plain

Json = dict[str, Any]

FULL = "#" * CELLS


def step(done: int, total: int | None = None, message: str = "", *, queued: bool = False) -> Json:
    return {"done_bytes": done, "total_bytes": total, "layer": "", "message": message, "queued": queued}


@pytest.mark.parametrize(
    ("progress", "rate", "line"),
    [
        (step(2048, message="3 layers"), 0, "a: 2Ki fetched 3 layers"),
        (step(512, 1024), 2048, "a: [##########..........] 512/1Ki 2Ki/s"),
        (step(512, 1024, "1 of 2 layers"), 0, "a: [##########..........] 512/1Ki 1 of 2 layers"),
        (step(2048, 1024), 0, f"a: [{FULL}] 2Ki/1Ki"),
        (step(0, queued=True), 0, "a: waiting: others are pulled first"),
    ],
)
def test_on_a_terminal(progress: Json, rate: int, line: str) -> None:
    assert bar("a", progress, rate) == line


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (step(0), "a: pulling"),
        (step(2048), "a: 2Ki fetched"),
        (step(512, 1024, "1 of 2 layers"), "a: 512 of 1Ki"),
        (step(1024, 1024, "unpacking"), "a: 1Ki of 1Ki, unpacking"),
        (step(0, queued=True), "a: waiting: others are pulled first"),
    ],
)
def test_in_a_log(progress: Json, line: str) -> None:
    assert plain("a", progress) == line


def test_a_log_has_a_line_where_something_new_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    line = Progress("a", None)
    steps = [step(0, queued=True), step(1, 9, "0 of 2 layers"), step(2, 9, "1 of 2 layers"), step(9, 9, "unpacking")]
    for one in steps + steps[-1:]:
        line.show(one)
    line.clear()
    assert capsys.readouterr().err.splitlines() == [
        "a: waiting: others are pulled first",
        "a: 1 of 9",
        "a: 9 of 9, unpacking",
    ]


def test_the_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.after(0, 100.0) == 0
    assert rate.after(1000, 101.0) == 1000
    assert rate.after(1000, 102.0) == 500
    assert rate.after(1000, 101.5 + RATE_S) == 0
    assert rate.after(10, 200.0) == 0, "it was begun again"
