"""Limits and counters of one group: which file of which version says what."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from typing import TypedDict

from podd.linux.cgroup.files import read_or_none, table, value_or_none, write

Version = int  # 1 or 2

DEFAULT_SHARES = 1024
DEFAULT_WEIGHT = 100
DEFAULT_PERIOD_US = 100_000
_PAGE = os.sysconf("SC_PAGESIZE")
_V1_UNLIMITED = (2**63 - 1) // _PAGE * _PAGE  # what memory.limit_in_bytes tells when nothing was set


class Limits(TypedDict, total=False):
    """What is absent or None is not limited. The same keys as in the supervisor's plan."""

    cpu_quota_us: int | None  # per period
    cpu_period_us: int
    cpu_shares: int | None  # v1 scale, 2..262144
    memory_bytes: int | None  # swap included: a group with a limit gets no swap on top
    pids: int | None


class Usage(TypedDict):
    """Counters since the group was made. None: this kernel does not tell."""

    cpu_usage_ns: int | None
    cpu_throttled_ns: int | None
    memory_usage_bytes: int | None
    memory_working_set_bytes: int | None  # usage less inactive file pages, as the kubelet counts
    memory_limit_bytes: int | None
    pids: int | None
    pids_limit: int | None
    oom_kills: int | None


FIELDS_OF: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu_quota_us", "cpu_shares"),
    "memory": ("memory_bytes",),
    "pids": ("pids",),
}
"""Which limits fall away where a controller is missing."""


def same(controller: str, one: Limits, other: Limits) -> bool:
    """Whether both ask the same of a controller."""
    fields = (*FIELDS_OF[controller], "cpu_period_us") if controller == "cpu" else FIELDS_OF[controller]
    return all(one.get(field) == other.get(field) for field in fields)


def weight_of(shares: int) -> int:
    """cpu.weight for v1 cpu.shares: 2 is 1, 1024 is 100, 262144 is 10000, and a smooth curve through these.

    The conversion of runc and crun since 2025. The straight line that they had before gave a whole CPU requested
    (1024) a weight of 39, less than that of a process nobody asked about.
    """
    log = math.log2(min(max(shares, 2), 262144))
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def shares_of(weight: int) -> int:
    """The smallest cpu.shares that `weight_of` turns into at least this weight."""
    low, high = 2, 262144
    while low < high:
        middle = (low + high) // 2
        if weight_of(middle) < weight:
            low = middle + 1
        else:
            high = middle
    return low


def _set(path: str, value: int | str) -> bool:
    """Write, if it is a change: reading is far cheaper, and a new group has most values already. False: no file."""
    now = value_or_none(path)
    if now is not None and now != str(value):
        write(path, str(value))
    return now is not None


def _apply_cpu_v1(group: str, limits: Limits) -> bool:
    quota = limits.get("cpu_quota_us")
    if quota is None:
        _set(f"{group}/cpu.cfs_quota_us", -1)  # first: the old quota may be too small or too large for the new period
    _set(f"{group}/cpu.cfs_period_us", limits.get("cpu_period_us", DEFAULT_PERIOD_US))
    if quota is not None:
        _set(f"{group}/cpu.cfs_quota_us", quota)
    return _set(f"{group}/cpu.shares", limits.get("cpu_shares") or DEFAULT_SHARES)


def _apply_cpu_v2(group: str, limits: Limits) -> bool:
    quota = limits.get("cpu_quota_us")
    period = limits.get("cpu_period_us", DEFAULT_PERIOD_US)
    _set(f"{group}/cpu.max", f"{'max' if quota is None else quota} {period}")
    return _set(f"{group}/cpu.weight", weight_of(limits.get("cpu_shares") or DEFAULT_SHARES))


def _apply_memory_v1(group: str, limits: Limits) -> bool:
    plain, with_swap = f"{group}/memory.limit_in_bytes", f"{group}/memory.memsw.limit_in_bytes"
    asked, now = limits.get("memory_bytes"), value_or_none(plain)
    if now is None:
        return False
    wanted = _V1_UNLIMITED if asked is None else asked // _PAGE * _PAGE
    # Memory alone may at no moment exceed memory with swap.
    for path in (with_swap, plain) if wanted > int(now) else (plain, with_swap):
        _set(path, wanted)
    return True


def _apply_memory_v2(group: str, limits: Limits) -> bool:
    asked = limits.get("memory_bytes")
    if asked is not None:
        _make_room_v2(group, asked // _PAGE * _PAGE)
    _set(f"{group}/memory.swap.max", "max" if asked is None else 0)
    return _set(f"{group}/memory.max", "max" if asked is None else asked // _PAGE * _PAGE)


def _make_room_v2(group: str, wanted: int) -> None:
    """Take back what is above the limit to come. OSError EBUSY: it cannot be; v1 says so itself, v2 would kill."""
    if (_number(f"{group}/memory.current") or 0) <= wanted:
        return
    high = f"{group}/memory.high"
    write(high, str(wanted))  # reclaims what can be, and waits for it
    write(high, "max")
    if (_number(f"{group}/memory.current") or 0) > wanted:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), f"{group}/memory.max")


def kill_whole_on_oom(group: str) -> None:
    """Of v2. A kernel before 4.19 has no such file: then it kills one process."""
    _set(f"{group}/memory.oom.group", 1)


def _apply_pids(group: str, limits: Limits) -> bool:
    asked = limits.get("pids")
    return _set(f"{group}/pids.max", "max" if asked is None else asked)


# By controller and version. They take the group's directory; False: the controller's files are not there.
APPLY: dict[tuple[str, Version], Callable[[str, Limits], bool]] = {
    ("cpu", 1): _apply_cpu_v1,
    ("cpu", 2): _apply_cpu_v2,
    ("memory", 1): _apply_memory_v1,
    ("memory", 2): _apply_memory_v2,
    ("pids", 1): _apply_pids,
    ("pids", 2): _apply_pids,
}


def _number(path: str) -> int | None:
    """The file's one number. None: there is no such file, or it says "max" or -1."""
    text = value_or_none(path)
    return int(text) if text is not None and text.isdecimal() else None


def _read_cpu_v1(group: str, asked: Limits) -> Limits:
    period, shares = _number(f"{group}/cpu.cfs_period_us"), _number(f"{group}/cpu.shares")
    if period is None or shares is None:
        return {}
    unsaid = shares == DEFAULT_SHARES and asked.get("cpu_shares") != DEFAULT_SHARES
    return {
        "cpu_quota_us": _number(f"{group}/cpu.cfs_quota_us"),
        "cpu_period_us": period,
        "cpu_shares": None if unsaid else shares,
    }


def _read_cpu_v2(group: str, asked: Limits) -> Limits:
    maximum, weight = value_or_none(f"{group}/cpu.max"), _number(f"{group}/cpu.weight")
    if maximum is None or weight is None:
        return {}
    quota, period = maximum.split()
    shares = asked.get("cpu_shares")
    if shares is None or weight_of(shares) != weight:
        shares = None if weight == DEFAULT_WEIGHT else shares_of(weight)
    return {
        "cpu_quota_us": None if quota == "max" else int(quota),
        "cpu_period_us": int(period),
        "cpu_shares": shares,
    }


def _read_memory(limit: int | None, asked: Limits) -> Limits:
    wanted = asked.get("memory_bytes")
    if wanted is not None and limit == wanted // _PAGE * _PAGE:
        limit = wanted
    return {"memory_bytes": limit}


def _limit_v1(group: str) -> int | None:
    limit = _number(f"{group}/memory.limit_in_bytes")
    return None if limit is not None and limit >= _V1_UNLIMITED else limit


# The second argument is what was asked: where the kernel's rounding of it is what is found, it is given back as asked.
READ: dict[tuple[str, Version], Callable[[str, Limits], Limits]] = {
    ("cpu", 1): _read_cpu_v1,
    ("cpu", 2): _read_cpu_v2,
    ("memory", 1): lambda group, asked: _read_memory(_limit_v1(group), asked),
    ("memory", 2): lambda group, asked: _read_memory(_number(f"{group}/memory.max"), asked),
    ("pids", 1): lambda group, _: {"pids": _number(f"{group}/pids.max")},
    ("pids", 2): lambda group, _: {"pids": _number(f"{group}/pids.max")},
}


def _stat(path: str) -> dict[str, int]:
    return table(read_or_none(path) or "")


def cpu_used_ns(group: str, version: Version) -> int | None:
    """CPU time: of the v2 group (which tells even without the cpu controller), or of the v1 cpuacct group."""
    if version == 1:
        return _number(f"{group}/cpuacct.usage")
    used = _stat(f"{group}/cpu.stat").get("usage_usec")
    return None if used is None else used * 1000


def cpu_throttled_ns(group: str, version: Version) -> int | None:
    stat = _stat(f"{group}/cpu.stat")
    if version == 1:
        return stat.get("throttled_time")
    throttled = stat.get("throttled_usec")
    return None if throttled is None else throttled * 1000


def memory_used(group: str, version: Version) -> tuple[int | None, int | None, int | None]:
    """Usage, working set and limit in bytes."""
    names = ("memory.current", "inactive_file") if version == 2 else ("memory.usage_in_bytes", "total_inactive_file")
    used = _number(f"{group}/{names[0]}")
    limit = _number(f"{group}/memory.max") if version == 2 else _limit_v1(group)
    if used is None:
        return None, None, limit
    return used, max(0, used - _stat(f"{group}/memory.stat").get(names[1], 0)), limit


def pids_used(group: str) -> tuple[int | None, int | None]:
    """Tasks now and their limit."""
    return _number(f"{group}/pids.current"), _number(f"{group}/pids.max")


def oom_kills(group: str, version: Version) -> int | None:
    """Processes that the kernel killed for want of memory: of the whole subtree on v2, of this group alone on v1."""
    return _stat(f"{group}/{'memory.events' if version == 2 else 'memory.oom_control'}").get("oom_kill")
