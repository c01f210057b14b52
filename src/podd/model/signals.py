"""Signals by the names that a manifest gives them: those of Linux, as every architecture that podd runs on counts them.

Source: signal(7), and Kubernetes' API reference, Signal v1 core.
"""

from __future__ import annotations

import difflib

_RT_MIN, _RT_MAX = 34, 64  # the kernel's begin at 32; the C library keeps the first two to itself

_COMMON = (
    *("SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1"),
    *("SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP"),
    *("SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR"),
    "SIGSYS",
)
"""In order, from 1."""

_NUMBERS = {
    **{name: number for number, name in enumerate(_COMMON, start=1)},
    "SIGCLD": 17,
    "SIGIOT": 6,
    "SIGPOLL": 29,  # other names of some above
    **{f"SIGRTMIN+{n}": _RT_MIN + n for n in range(1, 16)},
    **{f"SIGRTMAX-{n}": _RT_MAX - n for n in range(1, 15)},
    "SIGRTMIN": _RT_MIN,
    "SIGRTMAX": _RT_MAX,
}


def number(name: str) -> int:
    """SIGTERM is 15, SIGRTMIN+3 is 37. Raises KeyError: no signal has this name."""
    return _NUMBERS[name]


def parse(text: str) -> int | None:
    """What an image calls a signal: "SIGQUIT", "quit", "3". None: there is none of this name or number."""
    if text.isascii() and text.isdigit():
        return int(text) if len(text) <= 2 and 1 <= int(text) <= _RT_MAX else None
    return _NUMBERS.get(f"SIG{text.upper().removeprefix('SIG')}")


def is_name(name: str) -> bool:
    return name in _NUMBERS


def nearest(text: str) -> str:
    """The name that was probably meant by "term" or "RTMIN+3"; "" where there is none."""
    full = f"SIG{text.upper().removeprefix('SIG')}"
    close = difflib.get_close_matches(full, _NUMBERS, 1, 0.8)
    return full if is_name(full) else close[0] if close else ""
