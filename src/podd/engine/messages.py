"""What a container says of its own end: a file of its own, mounted at its terminationMessagePath.

It lies in a directory that only root reaches. The container can write to it and nothing else: it is a mount of one
file. All the same nothing is taken for granted when it is read, since a privileged container reaches everything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from podd.engine.logfiles import Reader, parse
from podd.errors import Unavailable

MAX_BYTES = 4096
MAX_LOG_BYTES, MAX_LOG_LINES = 2048, 80
"""As the kubelet has it."""

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def make(path: str) -> None:
    """An empty file for anybody to write to; again: as it is. Raises Unavailable: it cannot be made."""
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | _FLAGS, 0o600)
        try:
            os.fchmod(fd, 0o666)
        finally:
            os.close(fd)
    except OSError as exc:
        raise Unavailable(f"termination message: {path}: {exc.strerror}") from exc


def said(path: str, log_path: str) -> str:
    """The message; where there is none, and log_path is not "", the end of that log."""
    message = _read(path)
    return _last_words(log_path) if log_path and not message else message


def _read(path: str) -> str:
    """The first MAX_BYTES; "" where there is nothing that can be read."""
    try:
        fd = os.open(path, os.O_RDONLY | _FLAGS)
    except OSError:
        return ""
    with suppress(OSError), _closing(fd):
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return os.read(fd, MAX_BYTES).decode("utf-8", "replace")
    return ""


def _last_words(log_path: str) -> str:
    """The end of a log: MAX_LOG_LINES, or MAX_LOG_BYTES where these are more."""
    with suppress(OSError), closing(Reader(log_path)) as reader:
        reader.start(MAX_LOG_LINES, None)
        text = b""
        while entries := reader.read():
            text = (text + b"".join(_texts(entries)))[-MAX_LOG_BYTES:]
        return text.decode("utf-8", "replace")
    return ""


def remove(path: str) -> None:
    """Of what is not there: nothing."""
    with suppress(OSError):
        os.unlink(path)


def remove_all(directory: str) -> None:
    """The directory too, and the one it is in where nothing else is in that."""
    with suppress(OSError):
        for name in os.listdir(directory):
            remove(f"{directory}/{name}")
        os.rmdir(directory)
        os.rmdir(os.path.dirname(directory))


def _texts(entries: bytes) -> Iterator[bytes]:
    for line in entries.split(b"\n"):
        entry = parse(line)
        if entry is not None:
            yield entry.text + (b"\n" if entry.ends_line else b"")


@contextmanager
def _closing(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)
