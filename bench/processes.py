"""What processes cost, as the kernel accounts for it. Source: proc(5)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def pss_kib(pid: int) -> int:
    """Its memory; what it shares with others counts in equal parts."""
    return _rollup(pid, "Pss:")


def rss_kib(pid: int) -> int:
    return _rollup(pid, "Rss:")


def _rollup(pid: int, key: str) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))


def cpu_s(pids: Iterable[int]) -> dict[int, tuple[float, float]]:
    """What each has used so far: by the scheduler's clock (nanoseconds), and by utime + stime (ticks).

    The second is what `top` shows; it knows only 10 ms steps. A process that has ended is left out.
    """
    used = {}
    for pid in pids:
        with suppress(OSError):  # clock_gettime(2) has EINVAL for a process that is gone
            exact = time.clock_gettime(_cpu_clock(pid))
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            used[pid] = (exact, (int(fields[11]) + int(fields[12])) * TICK_S)
    return used


def spent_s(before: dict[int, tuple[float, float]], after: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """By both clocks, by those that lived from the one look to the other."""
    both = before.keys() & after.keys()
    exact, ticks = (sum(after[pid][clock] - before[pid][clock] for pid in both) for clock in (0, 1))
    return exact, ticks


def _cpu_clock(pid: int) -> int:
    """Of a whole process, threads that have ended included. Source: clock_getcpuclockid(3) of the C library."""
    return ~pid << 3 | 2


def parents() -> dict[int, int]:
    """Of every process there is."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    found[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def whose_arguments_have(word: str, *, program: str) -> list[int]:
    """Processes of this program (as /proc/PID/comm has it, cut to 15 characters) with word in an argument."""
    found = []
    for pid in parents():
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                if comm.read().rstrip("\n") != program:
                    continue
            with open(f"/proc/{pid}/cmdline", "rb") as arguments:
                if word.encode() in arguments.read():
                    found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
