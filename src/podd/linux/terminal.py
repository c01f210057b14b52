"""Terminals from a given devpts instance, without a walk through anyone's /dev."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from typing import NamedTuple

from podd.linux.syscalls import DEVPTS_MAGIC, Resolve, filesystem_magic, openat2

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_TIOCSWINSZ = 0x5414


class Terminal(NamedTuple):
    """Both sides of a new terminal, owned by the caller, close-on-exec."""

    master: int
    slave: int


def open_terminal(devpts: int) -> Terminal:
    """A new terminal of the devpts file system whose root the descriptor names.

    The slave is asked of the master itself (TIOCGPTPEER), so no name under /dev/pts is looked up, which a process of
    the container could have replaced.
    Raises OSError EXDEV: it is not a devpts, or its ptmx not a terminal multiplexer.
    """
    if filesystem_magic(devpts) != DEVPTS_MAGIC:
        raise OSError(errno.EXDEV, "not a devpts file system")
    inside = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_XDEV
    master = openat2(devpts, "ptmx", os.O_RDWR | os.O_NOCTTY, inside)
    try:
        status = os.fstat(master)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(5, 2):
            raise OSError(errno.EXDEV, "its ptmx is not the terminal multiplexer")
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        return Terminal(master, fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except BaseException:
        os.close(master)
        raise


def resize(terminal: int, rows: int, columns: int) -> None:
    """Either side will do. Its foreground processes get SIGWINCH where that changes it. Source: tty_ioctl(4)."""
    fcntl.ioctl(terminal, _TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
