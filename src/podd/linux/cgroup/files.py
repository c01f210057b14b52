"""Reading and writing the kernel's small text files."""

from __future__ import annotations

import errno
import os

_CHUNK = 65536


def read(path: str) -> str:
    """The whole file. OSError names the path."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, _CHUNK):
            parts.append(part)
    except OSError as exc:
        exc.filename = path
        raise
    finally:
        os.close(fd)
    return b"".join(parts).decode(errors="surrogateescape")


def read_or_none(path: str) -> str | None:
    """The whole file; None where there is no such file, or its group was removed while it was read."""
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            return None
        raise


def value_or_none(path: str) -> str | None:
    """What a file says that holds one value, which one read(2) gives; None as `read_or_none`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.read(fd, _CHUNK).decode().strip()
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            return None
        exc.filename = path
        raise
    finally:
        os.close(fd)


def write(path: str, text: str) -> None:
    """One write(2), as these files want it. The file must exist; OSError names the path."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as exc:
        exc.filename = path
        raise
    finally:
        os.close(fd)


def table(text: str) -> dict[str, int]:
    """Lines of "name number", as in memory.stat. Other lines are left out."""
    found = {}
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if number.isdecimal():
            found[name] = int(number)
    return found
