"""A terminal that nobody sits at, for a program that tells how far it is to terminals alone."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

LINES, COLUMNS = 1000, 200  # so that each layer has a whole line
_READ_BYTES = 64 * 1024


class Screen:
    """slave: the program's end."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", LINES, COLUMNS, 0, 0))
        os.set_blocking(self._master, False)

    def close(self) -> None:
        os.close(self._master)
        os.close(self.slave)

    async def follow(self, shown: Callable[[str], None]) -> None:
        """Give on what is written, until cancelled. What was written last may be left unread."""
        while True:
            await anyio.wait_readable(self._master)
            shown(os.read(self._master, _READ_BYTES).decode(errors="replace"))


@contextmanager
def opened(is_wanted: bool) -> Iterator[Screen | None]:
    """None: it is not wanted, or there are no terminals left. Then there is less to tell, and nothing else is lost."""
    try:
        screen = Screen() if is_wanted else None
    except OSError:
        screen = None
    try:
        yield screen
    finally:
        if screen is not None:
            screen.close()
