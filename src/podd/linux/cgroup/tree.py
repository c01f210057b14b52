"""Walking the tree of groups: enabling controllers downwards, removing upwards."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from podd.errors import Conflict
from podd.linux.cgroup.files import read_or_none, write

if TYPE_CHECKING:
    from podd.linux.cgroup.layout import Hierarchy


def some_of(pids: list[int]) -> str:
    names = [f"{pid} ({_name(pid)})" for pid in pids[:5]]
    more = f" and {len(pids) - 5} more" if len(pids) > 5 else ""
    return (", ".join(names) + more) or "no visible process"


def _name(pid: int) -> str:
    try:
        return (read_or_none(f"/proc/{pid}/comm") or "?").strip()
    except ProcessLookupError:  # it ended while it was looked at
        return "?"


def pass_on(hierarchy: Hierarchy, directory: str) -> None:
    """Enable our controllers for the children of a v2 group, from the highest ancestor that does not pass them on."""
    if not hierarchy.controllers:
        return
    lacking = []
    while directory.startswith(hierarchy.mount):
        offered, passed = _offered_and_passed(hierarchy, directory)
        if offered and offered <= passed:
            break
        lacking.append(directory)
        directory = directory.rpartition("/")[0]
    for ancestor in reversed(lacking):
        offered, passed = _offered_and_passed(hierarchy, ancestor)
        for controller in sorted(offered - passed):
            _enable(ancestor, controller)


def _offered_and_passed(hierarchy: Hierarchy, directory: str) -> tuple[set[str], set[str]]:
    """Which of our controllers a group has, and which its children have."""
    offered = hierarchy.controllers & _words(f"{directory}/cgroup.controllers")
    return set(offered), _words(f"{directory}/cgroup.subtree_control")


def _words(path: str) -> set[str]:
    return set((read_or_none(path) or "").split())


def _enable(directory: str, controller: str) -> None:
    try:
        write(f"{directory}/cgroup.subtree_control", f"+{controller}")
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise
        pids = [int(pid) for pid in (read_or_none(f"{directory}/cgroup.procs") or "").split()]
        raise Conflict(
            f"cgroup {directory}: cannot enable {controller} for the groups below: it holds {some_of(pids)}",
            remedy="move them to a group of their own, or give the service Delegate=yes",
        ) from exc


def subtree(directory: str) -> Iterator[str]:
    """The directory and all below it, parents first."""
    yield directory
    for path in _below(directory):
        yield from subtree(path)


def _below(directory: str) -> list[str]:
    """The groups right below. The link count tells that there are none; to list all files takes ten times as long."""
    try:
        if os.stat(directory).st_nlink == _LINKS_OF_A_LEAF:
            return []
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        return []


_LINKS_OF_A_LEAF = 2
"""Its name and its "."; each group below adds a "..". Source: kernfs_refresh_inode in fs/kernfs/inode.c."""


def rmtree(directory: str) -> bool:
    """Remove a group and those below it. False: one of them is busy; ask again."""
    try:
        for path in reversed(list(subtree(directory))):
            os.rmdir(path)
    except FileNotFoundError:
        return not os.path.isdir(directory)
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise
        return False
    return True
