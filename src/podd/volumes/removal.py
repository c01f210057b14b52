"""Removing what lies below the volumes directory, whatever containers have put there."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from podd.errors import PoddError, Unavailable
from podd.linux.syscalls import Resolve, UmountFlag, openat2, umount2

_INSIDE = Resolve.BENEATH | Resolve.NO_SYMLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def remove(state_dir: str, uid: str) -> None:
    """Unmount and delete all volumes that podd made for the pod. Of no such pod: quiet success.

    Raises Unavailable, naming the path: something holds on to it. Then the rest may be gone or not; ask again.
    """
    remove_directory(f"{state_dir}/volumes/{uid}")


def sweep(state_dir: str, known: Collection[str]) -> list[PoddError]:
    """Remove the volumes of every pod that is not among the known uids. Returns what did not work."""
    failures: list[PoddError] = []
    try:
        uids = os.listdir(f"{state_dir}/volumes")
    except FileNotFoundError:
        return []
    for uid in sorted(set(uids) - set(known)):
        try:
            remove(state_dir, uid)
        except PoddError as exc:
            failures.append(exc)
    return failures


def remove_directory(path: str) -> None:
    """rm -r, after unmounting what is mounted in it. path: its parents are podd's own and trusted; it itself is not."""
    if not os.path.lexists(path):
        return
    parent_path, _, name = path.rpartition("/")
    parent = os.open(parent_path, _DIRECTORY)
    try:
        _unmount_all(parent, parent_path, name)
        _delete(parent, name)
    except OSError as exc:
        where = exc.filename if isinstance(exc.filename, str) else ""
        raise Unavailable(f"volume directory {path}: {where or 'it'} cannot be removed: {exc.strerror}") from exc
    finally:
        os.close(parent)


# ---- mounts ----------------------------------------------------------------------------------------------------------


def _unmount_all(parent: int, parent_path: str, name: str) -> None:
    """Detach every mount at or below parent/name, innermost first. A mount is named by descriptor, never by path."""
    top = f"{os.path.realpath(parent_path)}/{name}"
    for point in sorted(_mount_points(), key=len, reverse=True):
        if point != top and not point.startswith(f"{top}/"):
            continue
        try:
            fd = openat2(parent, point[len(top) - len(name) :], os.O_PATH, _INSIDE)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            umount2(f"/proc/self/fd/{fd}", UmountFlag.DETACH)
        except OSError as exc:
            if exc.errno != errno.EINVAL:  # gone with one that was unmounted before
                raise
        finally:
            os.close(fd)


def _mount_points() -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return [re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split(" ")[4]) for line in lines]


# ---- files -----------------------------------------------------------------------------------------------------------


def _delete(parent: int, name: str) -> None:
    """Remove parent/name and all below it, however deep, with three descriptors and no recursion.

    Directories that are not empty have their own directories moved up into the topmost one, so that none is reached by
    a path of more than one part.
    """
    try:
        os.rmdir(name, dir_fd=parent)
    except NotADirectoryError:
        os.unlink(name, dir_fd=parent)
        return
    except OSError as exc:
        if exc.errno != errno.ENOTEMPTY:
            raise
    else:
        return
    with _opened(parent, name) as top:
        while inner := _without_files(top):
            for directory in inner:
                _lift(top, directory)
    os.rmdir(name, dir_fd=parent)


def _lift(top: int, name: str) -> None:
    """Remove top/name; the directories in it become top's own, to be dealt with in turn."""
    with _opened(top, name) as directory:
        for inner in _without_files(directory):
            os.rename(inner, os.urandom(8).hex(), src_dir_fd=directory, dst_dir_fd=top)
    os.rmdir(name, dir_fd=top)


def _without_files(directory: int) -> list[str]:
    """Unlink all that is no directory; the names of the directories."""
    inner: list[str] = []
    with os.scandir(directory) as entries:
        everything = list(entries)
    for entry in everything:
        if entry.is_dir(follow_symlinks=False):
            inner.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=directory)
    return inner


@contextmanager
def _opened(parent: int, name: str) -> Iterator[int]:
    """A directory in parent, itself and not through a link or onto a mount: then OSError ELOOP or EXDEV."""
    fd = openat2(parent, name, _DIRECTORY, _INSIDE | Resolve.NO_XDEV)
    try:
        yield fd
    finally:
        os.close(fd)
