from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta

import pytest

from podd.cli import durations

S, M, H, D, Y = 1, 60, 3600, 86400, 365 * 86400

SHORT = [
    (-5, "<invalid>"),
    (-1, "0s"),
    (0, "0s"),
    (59.9, "59s"),
    (119, "119s"),
    (2 * M, "2m"),
    (2 * M + 1, "2m1s"),
    (9 * M + 59, "9m59s"),
    (10 * M + 59, "10m"),
    (179 * M, "179m"),
    (3 * H, "3h"),
    (3 * H + 5 * M, "3h5m"),
    (7 * H + 59 * M, "7h59m"),
    (8 * H + 59 * M, "8h"),
    (47 * H, "47h"),
    (2 * D, "2d"),
    (2 * D + 3 * H, "2d3h"),
    (7 * D + 23 * H, "7d23h"),
    (8 * D + 23 * H, "8d"),
    (729 * D, "729d"),
    (2 * Y, "2y"),
    (2 * Y + 11 * D, "2y11d"),
    (8 * Y + 11 * D, "8y"),
]


@pytest.mark.parametrize(("seconds", "text"), SHORT)
def test_short_form(seconds: float, text: str) -> None:
    assert durations.short(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("1.5", 1.5), ("90s", 90), ("1m30s", 90), ("1.5h", 5400), ("500ms", 0.5), ("1d", D)],
)
def test_duration(text: str, seconds: float) -> None:
    assert durations.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5q", "-5s", "5 s", "5s x", "1e3", "٣s", "1h-2m"])
def test_not_a_duration(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="not a duration"):
        durations.duration(text)


@pytest.mark.parametrize(
    "stamp", ["2026-11-23T12:00:00Z", "2026-11-23T12:00:00.123456789Z", "2026-11-23T13:00:00+01:00"]
)
def test_times_of_every_precision_and_zone(stamp: str) -> None:
    parsed = durations.parse_time(stamp)
    assert parsed is not None
    assert parsed.replace(microsecond=0) == datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize("stamp", [None, "", "yesterday"])
def test_age_of_no_time(stamp: str | None) -> None:
    assert durations.age(stamp, datetime.now(UTC)) == "<unknown>"


def test_age() -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert durations.age((now - timedelta(hours=26)).isoformat(), now) == "26h"


def test_long_form_is_in_the_readers_zone() -> None:
    assert durations.rfc1123("2026-11-03T09:05:07Z") == "Tue, 03 Nov 2026 09:05:07 +0000"
