"""Removing what lies below the volumes directory, whatever containers have put there."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection

from podd.errors import Invalid, PoddError, Unavailable
from podd.linux.syscalls import Resolve, UmountFlag, openat2, umount2
from podd.shim.files import remove_tree

_INSIDE = Resolve.BENEATH | Resolve.NO_SYMLINKS


def remove(state_dir: str, uid: str) -> None:
    """Unmount and delete all volumes that podd made for the pod. Of no such pod: quiet success.

    Raises Unavailable, naming the path: something holds on to it. Then the rest may be gone or not; ask again.
    """
    if uid in ("", ".", "..") or "/" in uid:
        raise Invalid(f"pod uid {uid!r}: not a plain name")
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
    try:
        _unmount_all(path)
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.filename or 'something in it'}: cannot be unmounted: {exc.strerror}") from exc
    remove_tree(path)


def _unmount_all(path: str) -> None:
    """Detach every mount at or below path, innermost first. A mount is named by descriptor, never by a path that
    somebody could have turned aside with a symbolic link."""
    parent_path, _, name = path.rpartition("/")
    top = f"{os.path.realpath(parent_path)}/{name}"
    parent = os.open(parent_path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _unmount_below(parent, top, name)
    finally:
        os.close(parent)


def _unmount_below(parent: int, top: str, name: str) -> None:
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
