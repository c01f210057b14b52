"""Wall time that does not jump, and RFC 3339."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.engine.clock import NS_PER_S, Clock, duration_ns, parse_rfc3339, rfc3339, rfc3339_nano, since_ns
from podd.errors import Invalid

MOMENT = 1_785_585_600 * NS_PER_S  # 2026-08-01T12:00:00Z


class TestClock:
    @pytest.fixture
    def anyio_backend(self, virtual_clock: object) -> object:
        return virtual_clock

    @pytest.mark.anyio
    async def test_it_goes_with_the_event_loop(self) -> None:
        clock = Clock(MOMENT)
        assert clock.now_ns() == MOMENT
        await anyio.sleep(3600.5)
        assert clock.now_ns() == MOMENT + 3_600_500_000_000

    @pytest.mark.anyio
    async def test_a_jump_of_the_wall_clock_is_not_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock()
        before = clock.now_ns()
        assert abs(before - time.time_ns()) < 60 * NS_PER_S
        monkeypatch.setattr(time, "time_ns", lambda: 0)
        await anyio.sleep(1)
        assert clock.now_ns() == before + NS_PER_S


@pytest.mark.parametrize(
    ("at_ns", "seconds", "nano"),
    [
        (0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000000Z"),
        (MOMENT, "2026-08-01T12:00:00Z", "2026-08-01T12:00:00.000000000Z"),
        (MOMENT + 1, "2026-08-01T12:00:00Z", "2026-08-01T12:00:00.000000001Z"),
        (MOMENT + 999_999_999, "2026-08-01T12:00:00Z", "2026-08-01T12:00:00.999999999Z"),
    ],
)
def test_notation(at_ns: int, seconds: str, nano: str) -> None:
    assert (rfc3339(at_ns), rfc3339_nano(at_ns)) == (seconds, nano)


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [
        ("2026-08-01T12:00:00Z", MOMENT),
        ("2026-08-01t12:00:00z", MOMENT),
        ("2026-08-01 12:00:00Z", MOMENT),
        ("2026-08-01T14:00:00+02:00", MOMENT),
        ("2026-08-01T06:30:00-05:30", MOMENT),
        ("2026-08-01T12:00:00.5Z", MOMENT + 500_000_000),
        ("2026-08-01T12:00:00.1234567899Z", MOMENT + 123_456_789),
    ],
)
def test_reading(text: str, at_ns: int) -> None:
    assert parse_rfc3339(text) == at_ns


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-08-01", "2026-08-01T12:00:00", "2026-13-01T12:00:00Z", "2026-08-01T25:00:00Z", "5m"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_rfc3339(text)


@given(st.integers(0, int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * NS_PER_S))
def test_what_is_written_can_be_read(at_ns: int) -> None:
    assert parse_rfc3339(rfc3339_nano(at_ns)) == at_ns
    assert parse_rfc3339(rfc3339(at_ns)) == at_ns - at_ns % NS_PER_S


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("300ms", 0.3),
        ("1h2m3s", 3723),
        ("0s", 0),
        ("5us", 5e-6),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_ns(text) == round(seconds * NS_PER_S)


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", "5d", "1h30", "m5", "1e3s", "5S", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration_ns(text)


def test_since_is_a_time_or_a_duration_back_from_now() -> None:
    assert since_ns("2026-08-01T12:00:00Z", 0) == MOMENT
    assert since_ns("1h", MOMENT) == MOMENT - 3600 * NS_PER_S
    with pytest.raises(Invalid, match="neither a time nor a duration"):
        since_ns("yesterday", MOMENT)
