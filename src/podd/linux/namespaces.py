"""Namespaces: pin them as files, join them, look at them, and fork into a pid namespace."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from functools import reduce
from operator import or_

from podd.linux.mounts import bind
from podd.linux.syscalls import CloneFlag, UmountFlag, move_mount, setns, umount2, unshare

FLAGS = {
    "net": CloneFlag.NET,
    "ipc": CloneFlag.IPC,
    "uts": CloneFlag.UTS,
    "pid": CloneFlag.PID,
    "mnt": CloneFlag.MNT,
    "cgroup": CloneFlag.CGROUP,
    "user": CloneFlag.USER,
}
"""From the name of a file in /proc/PID/ns to its bit."""

GO_BACK_RETRY_S = 0.01


def flags(names: Iterable[str]) -> CloneFlag:
    """The bits of several, for unshare and setns."""
    return reduce(or_, (FLAGS[name] for name in names), CloneFlag.NONE)


def pin(name: str, target: str, process: str = "self") -> int:
    """Keep a namespace alive by a bind mount of /proc/<process>/ns/<name> onto a new file; its inode number.

    name: as in /proc/PID/ns, "pid_for_children" included. target: must not exist.
    """
    file = os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    mount = -1
    try:
        mount = bind(f"/proc/{process}/ns/{name}", recursive=False)
        move_mount(mount, file)
        return os.fstat(mount).st_ino
    except OSError:
        os.unlink(target)
        raise
    finally:
        os.close(file)
        if mount >= 0:
            os.close(mount)


def unpin(target: str) -> None:
    """Take a pin away, mounted or left half-made. Of what is not there: quiet success."""
    while True:
        try:
            umount2(target, UmountFlag.DETACH | UmountFlag.NOFOLLOW)
        except FileNotFoundError:
            return
        except OSError:  # EINVAL: not, or no longer, a mount point
            break
    os.unlink(target)


def join(name: str, path: str) -> None:
    """Enter the namespace that the file at path names; name says of which type it must be."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, FLAGS[name])
    finally:
        os.close(fd)


def open_socket(path: str, family: int, kind: int) -> int:
    """A new socket of the network namespace that the file at path names: non-blocking, not inherited.

    The calling thread visits that namespace, alone and for some 10 us. It does not return before it is back: whatever
    it did next it would do in a foreign network. While it is the first thread, /proc/PID/ns/net shows where it is.
    """
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        join("net", path)
        try:
            with socket.socket(family, kind | socket.SOCK_NONBLOCK) as opened:
                return opened.detach()
        finally:
            _go_back(own)
    finally:
        os.close(own)


def new_network(furnish: Callable[[], None]) -> int:
    """A descriptor of a new network namespace in which furnish has run; the caller owns it, and it alone keeps it.

    Blocks: for a worker thread, as `open_socket`.
    """
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CloneFlag.NET)
        try:
            furnish()
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _go_back(own)
    finally:
        os.close(own)


def _go_back(own: int) -> None:
    while True:
        try:
            setns(own, CloneFlag.NET)
        except OSError:  # ENOMEM, of some hundred bytes: it passes
            time.sleep(GO_BACK_RETRY_S)
        else:
            return


def fork_in_new_pid_namespace(fork: Callable[[], int] = os.fork) -> int:
    """As fork(), the child being pid 1 of a new pid namespace and the caller its real parent."""
    return _fork_with(lambda: unshare(CloneFlag.PID), fork)


def fork_in_pid_namespace(fd: int, fork: Callable[[], int] = os.fork) -> int:
    """As fork(), the child being a member of the pid namespace that fd names (a namespace file or a pidfd)."""
    return _fork_with(lambda: setns(fd, CloneFlag.PID), fork)


def _fork_with(choose: Callable[[], None], fork: Callable[[], int]) -> int:
    """Fork with a chosen pid namespace for the child, and have later children in the caller's own again.

    The kernel lets a process choose only while its children would go into its own: hence the way back at once.
    """
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        choose()
        pid = -1
        try:
            pid = fork()
        finally:
            if pid != 0:
                setns(own, CloneFlag.PID)
        return pid
    finally:
        os.close(own)
