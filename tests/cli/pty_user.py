"""A person at a terminal: a command on a pseudo-terminal, what it shows, and keys."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

PODD_CLI = [sys.executable, "-c", "import sys; from podd.cli.main import main; sys.exit(main())"]
PATIENCE_S = 20.0


class Person:
    def __init__(self, master: int, slave: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.seen = b""
        self._master = master
        self._slave = slave

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def resize(self, rows: int, columns: int) -> None:
        """The kernel tells the foreground process by SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def sees(self, text: bytes) -> None:
        """Wait until that is on the screen; what is before it is forgotten."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not appear after {self.seen!r}"
            self.seen += os.read(self._master, 65536)
        self.seen = self.seen.partition(text)[2]

    def settings(self) -> list[object]:
        """Of the terminal: raw or not."""
        return termios.tcgetattr(self._slave)

    def is_raw(self) -> bool:
        local_modes = termios.tcgetattr(self._slave)[3]
        return not local_modes & (termios.ICANON | termios.ECHO | termios.ISIG)

    def ends(self) -> int:
        return self.process.wait(PATIENCE_S)


def person(argv: Sequence[str], *, rows: int = 25, columns: int = 80) -> AbstractContextManager[Person]:
    """podd-cli with these arguments."""
    return person_at([*PODD_CLI, *argv], rows=rows, columns=columns)


@contextmanager
def person_at(argv: Sequence[str], *, rows: int = 25, columns: int = 80) -> Iterator[Person]:
    """A command in the foreground of a terminal of its own."""
    master, slave = os.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    controlling = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    process = subprocess.Popen(
        [sys.executable, "-c", controlling + "os.execv(sys.argv[1], sys.argv[1:])", *argv],
        stdin=slave, stdout=slave, stderr=slave,
    )  # fmt: skip
    try:
        yield Person(master, slave, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)
