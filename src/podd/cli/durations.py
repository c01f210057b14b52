"""Spans of time as people write and read them, and RFC 3339 times."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def duration(text: str) -> float:
    """Seconds meant by "90", "90s", "1m30s", "1.5h" or "500ms". Raises ArgumentTypeError: it is none of these."""
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ArgumentTypeError(f"'{text}': not a duration like 90s, 5m or 1h30m")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def short(seconds: float) -> str:
    """A span in kubectl's short form: two units where the first alone would be coarse ("3m20s", "5h10m", "2d3h").

    Source: HumanDuration in k8s.io/apimachinery/pkg/util/duration; its thresholds are kept.
    """
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 2 * _MINUTE:
        return f"{max(whole, 0)}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def _two(whole: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = whole % large // small
    return f"{whole // large}{large_name}" + (f"{rest}{small_name}" if rest else "")


def parse_time(stamp: str) -> datetime | None:
    """An RFC 3339 time; None where the text is empty or not one, because a table is shown all the same."""
    try:
        parsed = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def age(stamp: str | None, now: datetime) -> str:
    """How long ago, in the short form; "<unknown>" where there is no time."""
    then = parse_time(stamp) if stamp else None
    return short((now - then).total_seconds()) if then else "<unknown>"


def rfc1123(stamp: str | None) -> str:
    """A time as kubectl describe shows it, in the zone of the reader: "Mon, 23 Nov 2026 12:03:00 +0000"."""
    then = parse_time(stamp) if stamp else None
    if then is None:
        return "<unknown>"
    local = then.astimezone()
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[local.weekday()]
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[local.month - 1]
    return f"{day}, {local.day:02} {month} {local:%Y %H:%M:%S %z}"
