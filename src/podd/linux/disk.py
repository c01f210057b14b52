"""How much of a disk a tree of files takes that somebody else writes to, meanwhile, and as he likes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import islice

from podd.linux.inroot import Root

MOST = 200_000
"""Entries that are looked at, which takes a second; of a tree with more a part is counted."""

_BLOCK = 512
"""What stat(2) counts in, whatever the file system does."""


def tree_bytes(path: str, most: int = MOST) -> int:
    """What all below a directory has of the disk, each file counted once whatever names it has.

    Never more than is so: what goes meanwhile, or lies too deep to be named, is left out. Of no such directory: 0.
    """
    try:
        root = Root.at(path)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    blocks, linked = 0, set[int]()
    with root:
        for status in islice(_entries(root), most):
            if status.st_nlink == 1 or status.st_ino not in linked:
                blocks += status.st_blocks
            if status.st_nlink > 1:
                linked.add(status.st_ino)
    return blocks * _BLOCK


def _entries(root: Root) -> Iterator[os.stat_result]:
    """All below it. Symbolic links are not followed, nor mounts entered."""
    device = os.fstat(root.fd).st_dev
    todo = ["."]
    while todo:
        directory = todo.pop()
        try:
            fd = root.open(directory, os.O_RDONLY | os.O_DIRECTORY, symlinks=False)
        except OSError:
            continue
        try:
            for name, status in _listed(fd):
                if status.st_dev == device:
                    yield status
                    if stat.S_ISDIR(status.st_mode):
                        todo.append(f"{directory}/{name}")
        finally:
            os.close(fd)


def _listed(directory: int) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                yield entry.name, entry.stat(follow_symlinks=False)
            except OSError:
                continue
