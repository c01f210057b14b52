"""What processes cost, as the kernel accounts for it. Source: proc(5)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from glob import glob

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def pss_kib(pid: int) -> int:
    """Its memory; what it shares with others counts in equal parts."""
    return _rollup(pid, "Pss:")


def rss_kib(pid: int) -> int:
    return _rollup(pid, "Rss:")


def _rollup(pid: int, key: str) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))


def cpu_s(pids: Iterable[int]) -> tuple[float, float]:
    """What they have used so far: by the scheduler's clock (nanoseconds), and by utime + stime (ticks).

    The second is what `top` shows; it knows only 10 ms steps. Threads and processes that have just ended count nothing.
    """
    exact = ticks = 0.0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            exact += sum(map(_thread_s, glob(f"/proc/{pid}/task/*")))
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            ticks += (int(fields[11]) + int(fields[12])) * TICK_S
    return exact, ticks


def _thread_s(task: str) -> float:
    try:
        with open(f"{task}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


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
    """Processes of this program with word in an argument. program: as for `named`."""
    found = []
    for pid in named(program):
        with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/cmdline", "rb") as arguments:
            if word.encode() in arguments.read():
                found.append(pid)
    return found


def named(program: str) -> list[int]:
    """Processes of this program, as /proc/PID/comm has it: cut to 15 characters."""
    found = []
    for pid in parents():
        with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/comm", "rb") as comm:
            if comm.read().rstrip(b"\n") == program.encode():
                found.append(pid)
    return found
