"""When probes are due, and what their answers amount to."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as some

from podd.core import probe
from podd.core.events import ProbeKind
from podd.core.restart import SECOND
from podd.model.pod import Container, Probe

T0 = 1_700_000_000 * SECOND


def at(seconds: float) -> int:
    return T0 + int(seconds * SECOND)


# ---- when


@pytest.mark.parametrize(
    ("delay", "allowed", "now", "due"),
    [
        (0, 0, 0, 0),
        (5, 0, 0, 5),
        (5, 3, 3, 5),
        (5, 60, 60, 60),  # the startup probe took longer
        (5, 0, 14, 5),  # late by less than a period: at once
        (5, 0, 15, 5),
        (5, 0, 16, 21),  # podd was away: half a period from now
        (0, 60, 60.5, 60),
    ],
)
def test_first_run(delay: int, allowed: float, now: float, due: float) -> None:
    spec = Probe(initial_delay_seconds=delay, period_seconds=10)
    assert probe.first_due_ns(spec, at(0), at(allowed), at(now), 0.5) == at(due)


@given(some.floats(0, 1, exclude_max=True), some.integers(1, 100), some.integers(0, 100), some.floats(0, 1000))
def test_the_first_run_is_never_early_and_at_most_a_period_late(
    die: float, period: int, delay: int, now: float
) -> None:
    spec = Probe(initial_delay_seconds=delay, period_seconds=period)
    due = probe.first_due_ns(spec, at(0), at(0), at(now), die)
    assert at(delay) <= due <= max(at(delay), at(now + period))


@pytest.mark.parametrize(("began", "now", "due"), [(0, 0.1, 10), (0, 10, 10), (0, 12, 12)])
def test_next_run(began: float, now: float, due: float) -> None:
    assert probe.next_due_ns(Probe(period_seconds=10), at(began), at(now)) == at(due)


def test_what_is_zero_is_what_a_cluster_makes_of_it() -> None:
    zero = Probe(timeout_seconds=0, period_seconds=0, success_threshold=0, failure_threshold=0)
    assert probe.of(Container(name="c", readiness_probe=zero), "readiness") == Probe()
    assert probe.of(Container(name="c", readiness_probe=zero), "liveness") is None


# ---- what the answers amount to

SCRIPTS: dict[str, tuple[ProbeKind, bool, int, int, str, str]] = {
    # kind, ready before, successes and failures wanted, answers, verdicts told
    "ready at the first success": ("readiness", False, 1, 3, "+", "+"),
    "not ready is no news": ("readiness", False, 1, 1, "----", "...."),
    "told once": ("readiness", False, 1, 3, "+++++", "+...."),
    "unready after three": ("readiness", False, 1, 3, "+--+---", "+.....-"),
    "each change": ("readiness", False, 1, 1, "+-+-", "+-+-"),
    "ready after two": ("readiness", False, 2, 1, "+-+++-+", "...+.-."),
    "still ready after a restart of podd": ("readiness", True, 1, 2, "++--+", "...-+"),
    "ready before, and failing at once": ("readiness", True, 1, 1, "-", "-"),
    "started": ("startup", False, 1, 3, "--+", "..+"),
    "not started": ("startup", False, 1, 3, "---", "..-"),
    "alive is told once": ("liveness", False, 1, 2, "++-+++", "+....."),
    "dead": ("liveness", False, 1, 2, "+-+--", "+...-"),
    "dead and not killed yet": ("liveness", False, 1, 2, "-----+", ".-.-.."),
    "dead at each failure": ("liveness", False, 1, 1, "---", "---"),
}


def told(kind: ProbeKind, spec: Probe, answers: list[bool], *, ready: bool = False) -> list[bool | None]:
    tally, news = probe.begin(kind, ready=ready), []
    for answer in answers:
        tally, is_news = probe.count(kind, spec, tally, answer)
        news.append(tally.verdict if is_news else None)
    return news


@pytest.mark.parametrize(
    ("kind", "ready", "successes", "failures", "answers", "expected"), SCRIPTS.values(), ids=list(SCRIPTS)
)
def test_verdicts(kind: ProbeKind, ready: bool, successes: int, failures: int, answers: str, expected: str) -> None:
    spec = Probe(success_threshold=successes, failure_threshold=failures)
    found = told(kind, spec, [answer == "+" for answer in answers], ready=ready)
    assert "".join({True: "+", False: "-", None: "."}[one] for one in found) == expected


ANSWERS = some.lists(some.booleans(), max_size=60)
THRESHOLD = some.integers(1, 5)


@given(ANSWERS, THRESHOLD, THRESHOLD, some.booleans())
def test_readiness_changes_only_by_a_run_of_its_threshold(
    answers: list[bool], successes: int, failures: int, ready: bool
) -> None:
    """Against an oracle that looks at whole runs of equal answers."""
    spec = Probe(success_threshold=successes, failure_threshold=failures)
    expected: list[bool] = []
    for answer, run in groupby(answers):
        before = expected[-1] if expected else ready
        if len(list(run)) >= (successes if answer else failures) and answer is not before:
            expected.append(answer)
    assert [one for one in told("readiness", spec, answers, ready=ready) if one is not None] == expected


@given(ANSWERS, THRESHOLD)
def test_what_must_be_killed_is_told_as_often_as_it_fails_to_the_threshold(answers: list[bool], failures: int) -> None:
    spec = Probe(failure_threshold=failures)
    found = told("liveness", spec, answers)
    runs = [len(list(run)) // failures for answer, run in groupby(answers) if not answer]
    assert found.count(False) == sum(runs)
    assert found.count(True) <= 1
