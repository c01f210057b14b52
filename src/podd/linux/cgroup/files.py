"""Reading and writing the kernel's small text files."""

from __future__ import annotations

import errno
import os

_CHUNK = 65536


def read(path: str, *, is_value: bool = False) -> str:
    """The whole file. is_value: it holds one value, which one read(2) gives. OSError names the path."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, _CHUNK):
            parts.append(part)
            if is_value:
                break
    except OSError as exc:
        exc.filename = path
        raise
    finally:
        os.close(fd)
    return b"".join(parts).decode(errors="surrogateescape")


def read_or_none(path: str, *, is_value: bool = False) -> str | None:
    """As `read`; None where there is no such file, or its group was removed while it was read."""
    try:
        return read(path, is_value=is_value)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            return None
        raise


def value_or_none(path: str) -> str | None:
    """What a file says that holds one value; None as `read_or_none`."""
    text = read_or_none(path, is_value=True)
    return None if text is None else text.strip()


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
