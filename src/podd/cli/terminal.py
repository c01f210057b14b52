"""The reader's own terminal: raw mode, and its size carried to another."""

from __future__ import annotations

import fcntl
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_FATAL = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Keys go through as they are typed. The terminal is put back on every way out, signals that end us included."""
    before = termios.tcgetattr(descriptor)

    def leave(number: int, _frame: FrameType | None) -> None:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)  # here too: it may come while we are putting it back
        sys.exit(128 + number)

    handlers = {number: signal.signal(number, leave) for number in _FATAL}
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def resized(act: Callable[[], None]) -> Iterator[None]:
    """Call it now, and again whenever our terminal changes its size."""
    before = signal.signal(signal.SIGWINCH, lambda _number, _frame: act())
    try:
        act()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def size(descriptor: int) -> bytes:
    """struct winsize of a terminal: rows, columns and pixels, 2 bytes each in the machine's order. tty_ioctl(4)."""
    return fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8))


def copy_size(source: int, target: int) -> None:
    with suppress(OSError):  # the other side is gone: the end of the command tells
        fcntl.ioctl(target, termios.TIOCSWINSZ, size(source))
