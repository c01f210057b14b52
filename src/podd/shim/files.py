"""Small files that are whole or absent, and the removal of trees that somebody else has filled."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from _thread import get_native_id  # not threading: a supervisor has no use for the rest of it
from collections.abc import Iterator
from typing import Any

from podd.errors import Unavailable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
SLICE = 512
"""Directory entries removed between two breaths."""


def write_new(path: str, text: str, mode: int = 0o600) -> None:
    """Make a file that is not there. Whole or absent at any moment. Raises FileExistsError."""
    temporary = _write_temporary(path, text, mode)
    try:
        os.link(temporary, path)
    finally:
        os.unlink(temporary)


def write_json(path: str, value: object) -> None:
    """Replace a file; a reader sees the old or the new one, never a part."""
    os.rename(_write_temporary(path, json.dumps(value), 0o600), path)


def read_json(path: str) -> dict[str, Any] | None:
    """None where it does not exist or does not hold an object."""
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write_temporary(path: str, text: str, mode: int) -> str:
    temporary = f"{path}.{get_native_id()}.tmp"  # threads, too, may write the same at the same time
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        content = memoryview(text.encode())
        while content:
            content = content[os.write(fd, content) :]
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    return temporary


def unlink(path: str) -> None:
    """Of what is not there: nothing."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


def remove_tree(path: str, *, last: str = "") -> None:
    """Remove the directory at path and all in it; of what is not there: nothing. See `removal`."""
    for _ in removal(path, last=last):
        pass


def removal(path: str, *, last: str = "") -> Iterator[None]:
    """The steps of remove_tree, each a bounded amount of work.

    path: its parent is trusted; it and everything below are not. Symbolic links are removed, never followed, and a
    mount point below stops the removal before anything on that mount is touched. However deep the tree is, two
    descriptors are enough: a directory that is not empty moves up, beside the ones that wait for their turn.
    last: the name of the file directly in path that goes last, so that remains without it are never left.
    Raises Unavailable: something cannot be removed.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        unlink(path)
        return
    try:
        yield from _empty(top, keep=last)
        if last:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(last, dir_fd=top)
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise Unavailable(f"{path}: cannot be removed: {exc.filename or ''}: {exc.strerror}") from exc
    finally:
        os.close(top)


def _empty(top: int, keep: str) -> Iterator[None]:
    moved = Numbered(".podd-removal-")
    while names := [name for name in _names(top) if name != keep]:
        for name in names:
            if _remove_entry(top, name):
                continue
            directory = os.open(name, _DIRECTORY, dir_fd=top)
            try:
                yield from _lift(directory, top, moved)
            finally:
                os.close(directory)
            os.rmdir(name, dir_fd=top)
        yield


def _lift(directory: int, top: int, moved: Numbered) -> Iterator[None]:
    """Empty a directory: remove what can be removed, move directories that are not empty to the top."""
    for count, name in enumerate(_names(directory), 1):
        if not _remove_entry(directory, name):
            _move_up(directory, name, top, moved)
        if count % SLICE == 0:
            yield


def _move_up(directory: int, name: str, top: int, moved: Numbered) -> None:
    while True:
        target = moved.next()
        try:
            os.stat(target, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, target, src_dir_fd=directory, dst_dir_fd=top)
            return


def _remove_entry(directory: int, name: str) -> bool:
    """False: it is a directory with something in it."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        pass
    except FileNotFoundError:
        return True
    else:
        return True
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _names(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


class Numbered:
    """Names that are not used twice."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._count = 0

    def next(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"
