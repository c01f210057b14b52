"""dockerd's times: RFC 3339 in UTC, with as many digits as there are, and the year 1 for never."""

from __future__ import annotations

import time
from calendar import timegm

_NEVER = "0001-"


def nanoseconds(stamp: str) -> int:
    """Since the epoch. stamp: as Go writes it, "2006-01-02T15:04:05.999Z", in any zone."""
    whole, rest = stamp[:19], stamp[19:]
    digits = ""
    if rest.startswith("."):
        digits = rest[1:].rstrip("Z")
        digits = digits.partition("+")[0].partition("-")[0]
        rest = rest[1 + len(digits) :]
    seconds = timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - _offset_s(rest)
    return seconds * 1_000_000_000 + int(digits.ljust(9, "0")[:9] or 0)


def _offset_s(zone: str) -> int:
    if zone in ("", "Z"):
        return 0
    sign = -1 if zone[0] == "-" else 1
    return sign * (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60)


def known(stamp: str) -> int | None:
    """None: it has not happened."""
    return None if not stamp or stamp.startswith(_NEVER) else nanoseconds(stamp)


def stamp_of(now_ns: int) -> str:
    """With nine digits, in UTC."""
    second, fraction = divmod(now_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{fraction:09d}Z"
