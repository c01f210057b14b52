"""Time for the engine: a wall clock that does not jump, and its notation.

Wall time can be set; a pod must not seem to have started tomorrow because of that. So the wall clock is read once, and
from then on only the event loop's own monotonic clock counts, which a test may replace by a virtual one.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

import anyio

from podd.errors import Invalid

NS_PER_S = 1_000_000_000

_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION_PART = re.compile(r"(\d{1,15}(?:\.\d{0,9})?|\.\d{1,9})(ns|us|µs|ms|s|m|h)", re.ASCII)


class Clock:
    """Make it inside the event loop whose time it tells."""

    def __init__(self, wall_ns: int | None = None) -> None:
        """wall_ns: what it shows now, ns since the epoch; None reads CLOCK_REALTIME."""
        self._wall_ns = time.time_ns() if wall_ns is None else wall_ns
        self._started = anyio.current_time()

    def now_ns(self) -> int:
        """ns since the epoch. Never less than at an earlier call."""
        return self._wall_ns + round((anyio.current_time() - self._started) * NS_PER_S)


def rfc3339(at_ns: int) -> str:
    """ns since the epoch as Kubernetes writes a time in a status: "2026-08-01T12:00:00Z", whole seconds, UTC."""
    return f"{_seconds(at_ns)}Z"


def rfc3339_nano(at_ns: int) -> str:
    """ns since the epoch with all nine digits, as a line of a CRI log has it: "2026-08-01T12:00:00.000000001Z"."""
    return f"{_seconds(at_ns)}.{at_ns % NS_PER_S:09d}Z"


def parse_rfc3339(text: str) -> int:
    """ns since the epoch. A zone is demanded, digits beyond the ninth are dropped. Raises ValueError: not RFC 3339."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r}: not a time as RFC 3339 has it, such as 2026-08-01T12:00:00Z")
    date, clock, fraction, zone = found.groups()
    moment = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    return (moment - _EPOCH) // timedelta(seconds=1) * NS_PER_S + int((fraction or "").ljust(9, "0"))


def duration_ns(text: str) -> int:
    """As Go writes it: "90s", "1h30m", "1.5h". Raises ValueError: it is none, or negative."""
    parts = list(_DURATION_PART.finditer(text))
    if not parts or "".join(part.group() for part in parts) != text:
        raise ValueError(f"{text!r}: not a duration such as 90s or 1h30m")
    return sum(round(float(part.group(1)) * _DURATION_UNITS_NS[part.group(2)]) for part in parts)


def since_ns(text: str, now_ns: int) -> int:
    """ns since the epoch of what a user gives as --since: a time of RFC 3339, or a duration back from now."""
    for read in (parse_rfc3339, lambda duration: now_ns - duration_ns(duration)):
        try:
            return read(text)
        except ValueError:
            continue
    raise Invalid(
        f"since: {text!r}: neither a time nor a duration",
        remedy="write 90s, 1h30m or 2026-08-01T12:00:00Z",
    )


def _seconds(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // NS_PER_S, UTC).isoformat().removesuffix("+00:00")
