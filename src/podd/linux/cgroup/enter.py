"""Being born in a v2 group."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct

_CLONE_PARENT = 0x8000
_CLONE_INTO_CGROUP = 0x200000000
_SYS_CLONE3 = 435  # the same number on every architecture
_CLONE_ARGS = struct.Struct("=11Q")  # flags pidfd child_tid parent_tid exit_signal stack size tls set_tid n cgroup

# PyDLL keeps the interpreter's lock: nothing else may run between PyOS_BeforeFork and PyOS_AfterFork_*.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.argtypes = (ctypes.c_long, ctypes.c_char_p, ctypes.c_size_t)
_libc.syscall.restype = ctypes.c_long
for _hook in (
    ctypes.pythonapi.PyOS_BeforeFork,
    ctypes.pythonapi.PyOS_AfterFork_Child,
    ctypes.pythonapi.PyOS_AfterFork_Parent,
):
    _hook.restype = None


def fork_into(group: int | None, *, sibling: bool = False) -> int:
    """os.fork() whose child starts its life in the v2 group that the directory descriptor `group` names.

    group: None leaves the child in the caller's. sibling: the child's parent is the caller's parent, who reaps it and
    whose death is the one that PR_SET_PDEATHSIG means.
    Returns the child's pid, and 0 in the child. clone3(2) with CLONE_INTO_CGROUP (Linux 5.7): unlike a write to
    cgroup.procs it does not wait for a grace period. For single-threaded callers. OSError as clone3(2): EBUSY the
    group has controllers enabled for its children, EOPNOTSUPP it is in the state "domain invalid", ENOENT or ENODEV it
    is gone.
    """
    args = clone_arguments(group, sibling=sibling)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_libc.syscall(_SYS_CLONE3, args, len(args)))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    err = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    return checked(pid if pid >= 0 else -err)


def clone_arguments(group: int | None, flags: int = 0, *, sibling: bool) -> bytes:
    """struct clone_args for a child as `fork_into` has it."""
    flags |= (_CLONE_INTO_CGROUP if group is not None else 0) | (_CLONE_PARENT if sibling else 0)
    exit_signal = 0 if sibling else signal.SIGCHLD  # a sibling has the caller's
    return _CLONE_ARGS.pack(flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, group or 0)


def checked(pid: int) -> int:
    """The pid that clone3(2) gave, or the OSError of the negative errno."""
    if pid < 0:
        hint = " (needs Linux 5.7)" if -pid in (errno.ENOSYS, errno.E2BIG) else ""
        raise OSError(-pid, f"clone3: {os.strerror(-pid)}{hint}")
    return pid
