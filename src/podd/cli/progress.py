"""How far a pull is: a bar on a terminal, a line now and then elsewhere, numbers for programs. All of it on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque

from podd.cli.amounts import size
from podd.cli.status import Json
from podd.cli.text import cut

CELLS = 20
RATE_S = 5.0  # over which time bytes per second are averaged
PLAIN_S = 10.0  # between two lines where there is no terminal


class Progress:
    """Of one image. form: as -o says; "json" and "yaml" are for programs, which get an object a line."""

    def __init__(self, what: str, form: str | None) -> None:
        self._what = what
        self._is_for_programs = form in ("json", "yaml")
        self._is_terminal = not self._is_for_programs and sys.stderr.isatty()
        self._rate = Rate()
        self._is_shown = False
        self._told_at, self._told = 0.0, ""

    def show(self, progress: Json) -> None:
        now = time.monotonic()
        rate = self._rate.after(progress["done_bytes"], now)
        if self._is_for_programs:
            print(json.dumps({"image": self._what, **progress, "bytes_per_s": rate}), file=sys.stderr, flush=True)
        elif self._is_terminal:
            line = cut(bar(self._what, progress, rate), os.get_terminal_size(sys.stderr.fileno()).columns - 1)
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
            self._is_shown = True
        elif self._is_news(step(progress), now):
            print(plain(self._what, progress), file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _is_news(self, told: str, now: float) -> bool:
        """A log is no place for a line each moment."""
        if told == self._told and now - self._told_at < PLAIN_S:
            return False
        self._told_at, self._told = now, told
        return True


class Rate:
    """Bytes per second, over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def after(self, done: int, now: float) -> int:
        """The rate, with what is known now. 0: nothing can be said yet."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()  # it was begun again, with other credentials or at another registry
        self._seen.append((now, done))
        while now - self._seen[0][0] > RATE_S:
            self._seen.popleft()
        began, before = self._seen[0]
        return int((done - before) / (now - began)) if now > began else 0


def step(progress: Json) -> str:
    """What it is at, but for the count of layers, which changes all the time."""
    if progress.get("queued"):
        return "waiting: others are pulled first"
    message: str = progress.get("message") or ""
    return "" if message[:1].isdigit() else message


def bar(what: str, progress: Json, rate: int) -> str:
    """One line for a terminal. A bar is where it is known how much there is to come."""
    done, total = progress["done_bytes"], progress.get("total_bytes")
    if progress.get("queued"):
        return f"{what}: {step(progress)}"
    shown = f"{size(done)} fetched"
    if total:
        filled = min(CELLS, done * CELLS // total)
        shown = f"[{'#' * filled}{'.' * (CELLS - filled)}] {size(done)}/{size(total)}"
    parts = (f"{what}:", shown, f"{size(rate)}/s" if rate else "", progress.get("message") or "")
    return " ".join(part for part in parts if part)


def plain(what: str, progress: Json) -> str:
    """One line for a log."""
    done, total = progress["done_bytes"], progress.get("total_bytes")
    come = f"{size(done)} of {size(total)}" if total else f"{size(done)} fetched" if done else ""
    return f"{what}: {', '.join(part for part in (come, step(progress)) if part) or 'pulling'}"
