"""Namespaces: make them, pin them as files, join them, and fork into a pid namespace."""

from __future__ import annotations


def fork_in_new_pid_namespace() -> int:
    """As os.fork(), the child being pid 1 of a new pid namespace and the caller its real parent."""
    raise NotImplementedError


def fork_in_pid_namespace(fd: int) -> int:
    """As os.fork(), the child being a member of the pid namespace that fd names (a namespace file or a pidfd)."""
    raise NotImplementedError
