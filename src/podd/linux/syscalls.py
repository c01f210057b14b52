"""System calls that Python's standard library lacks: one call, one check, no policy.

Paths are bytes or str, relative to a directory descriptor where the call has one. Every failure is the plain OSError of
its errno, its text naming the call, with a note that says what usually causes it. Numbers are the generic ones of
<asm-generic/unistd.h> for calls younger than the split of the tables, and libc's own symbols for the older ones.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterable
from enum import IntEnum, IntFlag
from functools import partial
from typing import NamedTuple

AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)
_c_path = ctypes.c_char_p

HINTS: dict[tuple[str, int], str] = {
    ("unshare", errno.EPERM): "CAP_SYS_ADMIN is missing, or a seccomp filter or user.max_*_namespaces forbids it",
    ("unshare", errno.ENOSPC): "a limit of /proc/sys/user/max_*_namespaces is reached",
    ("setns", errno.EINVAL): "the process has more than one thread, or the descriptor is no such namespace",
    ("setns", errno.EPERM): "CAP_SYS_ADMIN is missing in the namespace's user namespace",
    ("fsmount", errno.EPERM): "CAP_SYS_ADMIN is missing in the user namespace of the mount namespace",
    (
        "fsconfig",
        errno.EINVAL,
    ): "an option or a layer is not what the file system can take; the kernel's log says which",
    ("fsopen", errno.ENODEV): "the kernel has no such file system",
    ("move_mount", errno.EINVAL): (
        "one of source and target is a directory and the other is not, or one is not in this mount namespace"
    ),
    ("openat2", errno.ELOOP): "a symbolic link stands where none is allowed",
    ("openat2", errno.EXDEV): "the path leads out of its root, or onto another mount where that is not allowed",
    ("pivot_root", errno.EBUSY): "the new root is on the same mount as the present one",
    ("pivot_root", errno.EINVAL): "the new root is no mount point, or a mount involved is shared",
    ("seccomp", errno.EACCES): "neither no_new_privs is set nor CAP_SYS_ADMIN held",
    ("seccomp", errno.EINVAL): "the program is malformed, too long, or the kernel has no seccomp filters",
}


def _check(call: str, ret: int, path: str | bytes | None = None) -> int:
    if ret >= 0:
        return ret
    err = ctypes.get_errno()
    exc = OSError(err, f"{call}: {os.strerror(err)}", os.fsdecode(path) if path is not None else None)
    exc.add_note(HINTS.get((call, err), f"see {call}(2)"))
    raise exc


def _numbered(number: int, *argtypes: type) -> Callable[..., int]:
    """syscall(2) with a fixed number: for calls that libc may not wrap."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, *argtypes, use_errno=True)
    call = prototype(("syscall", _libc))
    return partial(call, number)


def _symbol(name: str, *argtypes: type) -> Callable[..., int]:
    function = getattr(_libc, name)
    function.argtypes = argtypes
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


# ---- namespaces ------------------------------------------------------------------------------------------------------


class CloneFlag(IntFlag):
    """Namespaces by their CLONE_NEW* bit. Source: <linux/sched.h>."""

    NONE = 0
    MNT = 0x00020000
    CGROUP = 0x02000000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NET = 0x40000000


_unshare = _symbol("unshare", ctypes.c_int)
_setns = _symbol("setns", ctypes.c_int, ctypes.c_int)


def unshare(flags: CloneFlag) -> None:
    """Leave the namespaces of flags for new ones; with PID it is the next child that does. unshare(2)."""
    _check("unshare", _unshare(flags))


def setns(fd: int, flags: CloneFlag) -> None:
    """Join a namespace by its file (flags: its type), or by a pidfd all those of flags at once. setns(2)."""
    _check("setns", _setns(fd, flags))


# ---- mounts ----------------------------------------------------------------------------------------------------------


class MountFlag(IntFlag):
    """Of mount(2). Source: <sys/mount.h>."""

    NONE = 0
    BIND = 4096
    REC = 16384
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20


class UmountFlag(IntFlag):
    DETACH = 2
    NOFOLLOW = 8


class OpenTreeFlag(IntFlag):
    NONE = 0
    CLONE = 1
    CLOEXEC = os.O_CLOEXEC
    EMPTY_PATH = 0x1000
    RECURSIVE = 0x8000


class MoveMountFlag(IntFlag):
    F_EMPTY_PATH = 0x04
    T_EMPTY_PATH = 0x40


class FsConfigCommand(IntEnum):
    SET_FLAG = 0
    SET_STRING = 1
    CREATE = 6


class MountAttr(IntFlag):
    """Of fsmount(2) and mount_setattr(2)."""

    NONE = 0
    RDONLY = 0x01
    NOSUID = 0x02
    NODEV = 0x04
    NOEXEC = 0x08


_mount = _symbol("mount", _c_path, _c_path, _c_path, ctypes.c_ulong, _c_path)
_umount2 = _symbol("umount2", _c_path, ctypes.c_int)
_pivot_root = _symbol("pivot_root", _c_path, _c_path)
_open_tree = _numbered(428, ctypes.c_int, _c_path, ctypes.c_uint)
_move_mount = _numbered(429, ctypes.c_int, _c_path, ctypes.c_int, _c_path, ctypes.c_uint)
_fsopen = _numbered(430, _c_path, ctypes.c_uint)
_fsconfig = _numbered(431, ctypes.c_int, ctypes.c_uint, _c_path, _c_path, ctypes.c_int)
_fsmount = _numbered(432, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)
_mount_setattr = _numbered(442, ctypes.c_int, _c_path, ctypes.c_uint, _c_path, ctypes.c_size_t)


def mount(source: str, target: str, fstype: str | None, flags: MountFlag, data: str | None = None) -> None:
    """The old mount(2): for propagation and remounts by path in podd's own directories."""
    _check(
        "mount",
        _mount(os.fsencode(source), os.fsencode(target), fstype and fstype.encode(), flags, data and os.fsencode(data)),
        target,
    )


def umount2(target: str, flags: UmountFlag) -> None:
    _check("umount2", _umount2(os.fsencode(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Swap the root mount of this mount namespace. pivot_root(2)."""
    _check("pivot_root", _pivot_root(os.fsencode(new_root), os.fsencode(put_old)), new_root)


def open_tree(dir_fd: int, path: str, flags: OpenTreeFlag) -> int:
    """A descriptor of a mount; with CLONE of a detached copy of it. open_tree(2), Linux 5.2."""
    return _check("open_tree", _open_tree(dir_fd, os.fsencode(path), flags), path)


_BY_DESCRIPTORS = MoveMountFlag.F_EMPTY_PATH | MoveMountFlag.T_EMPTY_PATH


def move_mount(mount_fd: int, target_fd: int) -> None:
    """Attach a detached mount onto what target_fd names: descriptors on both sides. move_mount(2), Linux 5.2."""
    _check("move_mount", _move_mount(mount_fd, b"", target_fd, b"", _BY_DESCRIPTORS))


def fsopen(fstype: str) -> int:
    """A context to configure a new file system in. Close-on-exec. fsopen(2), Linux 5.2."""
    return _check("fsopen", _fsopen(fstype.encode(), 1), fstype)


def fsconfig(fs_fd: int, command: FsConfigCommand, key: str | None = None, value: str | None = None) -> None:
    """Set one parameter, or create the superblock. What the file system itself complains of joins the error's notes."""
    ret = _fsconfig(fs_fd, command, key and key.encode(), value and os.fsencode(value), 0)
    try:
        _check("fsconfig", ret, key)
    except OSError as exc:
        for line in _fs_messages(fs_fd):
            exc.add_note(line)
        raise


def _fs_messages(fs_fd: int) -> list[str]:
    """What the kernel logged into the context: lines such as "e overlay: No changes allowed in reconfigure"."""
    lines: list[str] = []
    try:
        while len(lines) < 16:
            lines.append(os.read(fs_fd, 4096).decode(errors="replace").strip())
    except OSError:  # ENODATA: no more
        pass
    return lines


def fsmount(fs_fd: int, attributes: MountAttr) -> int:
    """A detached mount of the created file system. Close-on-exec. fsmount(2), Linux 5.2."""
    return _check("fsmount", _fsmount(fs_fd, 1, attributes))


_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000


def mount_setattr(
    mount_fd: int,
    *,
    add: MountAttr = MountAttr.NONE,
    remove: MountAttr = MountAttr.NONE,
    propagation: MountFlag = MountFlag.NONE,
    recursive: bool = False,
) -> None:
    """Change the attributes of a mount, or with recursive of its whole tree. mount_setattr(2), Linux 5.12."""
    attr = mount_attributes(add, remove, propagation)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _check("mount_setattr", _mount_setattr(mount_fd, b"", flags, attr, len(attr)))


def mount_attributes(
    add: MountAttr, remove: MountAttr = MountAttr.NONE, propagation: MountFlag = MountFlag.NONE
) -> bytes:
    """struct mount_attr."""
    return struct.pack("=QQQQ", add, remove, propagation, 0)


# ---- memory ----------------------------------------------------------------------------------------------------------

_mprotect = _symbol("mprotect", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_PROT_READ_EXEC = 5


_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_PROT_READ_WRITE = 3
_MAP_PRIVATE_ANONYMOUS_FIXED_NOREPLACE = 0x100022
_MAP_FAILED = ctypes.c_void_p(-1).value


def map_at(address: int, content: bytes | bytearray) -> None:
    """Have content in memory at an address where nothing is yet, to be written to. mmap(2), Linux 4.17."""
    if not content:
        return
    flags = _MAP_PRIVATE_ANONYMOUS_FIXED_NOREPLACE
    if _mmap(address, len(content), _PROT_READ_WRITE, flags, -1, 0) == _MAP_FAILED:
        _check("mmap", -1)
    ctypes.memmove(address, bytes(content), len(content))


_syscall = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 7, use_errno=True)(("syscall", _libc))


def numbered(number: int, arguments: Iterable[int]) -> int:
    """Any system call, with six arguments: what it returns, or the negative errno. syscall(2)."""
    result = int(_syscall(number, *arguments))
    return -ctypes.get_errno() if result == -1 else result


def make_executable(address: int, size: int) -> None:
    """Make whole pages code, which cannot be written to any more. mprotect(2)."""
    _check("mprotect", _mprotect(address, size, _PROT_READ_EXEC))


# ---- files -----------------------------------------------------------------------------------------------------------


class Resolve(IntFlag):
    """How openat2(2) may walk a path. Source: <linux/openat2.h>."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10


_openat2 = _numbered(437, ctypes.c_int, _c_path, _c_path, ctypes.c_size_t)
_close_range = _numbered(436, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)


def openat2(dir_fd: int, path: str | bytes, flags: int, resolve: Resolve, mode: int = 0) -> int:
    """open(2) that says how the path may be walked. Close-on-exec. EAGAIN (a rename raced it) is tried again.

    openat2(2), Linux 5.6.
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    for _ in range(64):
        ret = _openat2(dir_fd, encoded, how, len(how))
        if ret >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    return _check("openat2", ret, path)


def close_range(first: int, last: int) -> None:
    """Close every descriptor from first to last, both included. close_range(2), Linux 5.9."""
    _check("close_range", _close_range(first, last, 0))


LAST_FD = 0xFFFFFFFF


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor of the process that is not in keep."""
    first = 0
    for fd in sorted(set(keep)):
        if fd > first:
            close_range(first, fd - 1)
        first = fd + 1
    close_range(first, LAST_FD)


PROC_MAGIC = 0x9FA0
DEVPTS_MAGIC = 0x1CD1
PIPEFS_MAGIC = 0x50495045
SOCKFS_MAGIC = 0x534F434B

_StatFs = ctypes.c_char * 256  # larger than any machine's; its first word is the type
_fstatfs = _symbol("fstatfs", ctypes.c_int, _c_path)


def filesystem_magic(fd: int) -> int:
    """The type of the file system that fd is on, as in <linux/magic.h>. fstatfs(2)."""
    buffer = _StatFs()
    _check("fstatfs", _fstatfs(fd, buffer))
    return ctypes.c_ulong.from_buffer(buffer).value


# ---- the process -----------------------------------------------------------------------------------------------------

_prctl = _symbol("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)


class Prctl(IntEnum):
    """Options of prctl(2). Source: <linux/prctl.h>."""

    SET_PDEATHSIG = 1
    SET_DUMPABLE = 4
    SET_KEEPCAPS = 8
    SET_NAME = 15
    SET_SECCOMP = 22
    CAPBSET_READ = 23
    CAPBSET_DROP = 24
    SET_SECUREBITS = 28
    SET_CHILD_SUBREAPER = 36
    SET_NO_NEW_PRIVS = 38
    CAP_AMBIENT = 47


PR_CAP_AMBIENT_CLEAR_ALL = 4
SECBIT_KEEP_CAPS = 0x10
SECCOMP_MODE_FILTER = 2


def prctl(option: Prctl, value: int = 0) -> int:
    """An option that takes one number. prctl(2)."""
    ret = _prctl(option, value, 0, 0, 0)
    return ret if ret >= 0 else _check(f"prctl({option.name})", ret)


def set_process_name(name: str) -> None:
    """Name the calling thread, as ps and /proc/PID/comm show it: 15 bytes at most. prctl(2), PR_SET_NAME."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _check("prctl(SET_NAME)", _prctl(Prctl.SET_NAME, ctypes.addressof(buffer), 0, 0, 0))


def load_seccomp_filter(program: bytes) -> None:
    """Attach a filter to the calling thread, forever.

    program: struct sock_filter[], 8 bytes an instruction, in the machine's byte order. seccomp(2), prctl(2).
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))
    _check("seccomp", _prctl(Prctl.SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(fprog), 0, 0))


_signal = _symbol("signal", ctypes.c_int, ctypes.c_void_p)  # its result, a handler, is not looked at
_sigprocmask = _symbol("sigprocmask", ctypes.c_int, _c_path, _c_path)
_signalfd = _symbol("signalfd", ctypes.c_int, _c_path, ctypes.c_int)
_SIG_BLOCK = 0
SIG_SETMASK = 2
_NO_SIGNALS = bytes(128)  # a sigset_t


# libc keeps these two to itself and lets nobody handle them; its posix_spawn leaves them ignored in what it starts.
LIBC_SIGNALS = (32, 33)
_RT_SIGACTION = {"x86_64": 13, "aarch64": 134}.get(os.uname().machine)
_rt_sigaction = _numbered(_RT_SIGACTION, ctypes.c_int, _c_path, _c_path, ctypes.c_size_t) if _RT_SIGACTION else None
DEFAULT_ACTION = bytes(32)  # struct sigaction of the kernel: SIG_DFL, no flags, an empty mask


def handle_by_default(signals: Iterable[int]) -> None:
    """Give these signals their default handling, and block none at all. For a process that will exec.

    As signal.signal and signal.pthread_sigmask, which spend a hundred microseconds of a fresh fork on enumerations.
    """
    for number in signals:
        _signal(number, None)
    if _rt_sigaction is not None:
        for number in LIBC_SIGNALS:
            _check("rt_sigaction", _rt_sigaction(number, DEFAULT_ACTION, None, 8))
    _check("sigprocmask", _sigprocmask(SIG_SETMASK, _NO_SIGNALS, None))


def signal_descriptor(number: int) -> int:
    """Block a signal; a descriptor, owned by the caller, that is readable when it has come. signalfd(2)."""
    signals = struct.pack("@L", 1 << (number - 1)).ljust(len(_NO_SIGNALS), b"\0")
    _check("sigprocmask", _sigprocmask(_SIG_BLOCK, signals, None))
    return _check("signalfd", _signalfd(-1, signals, os.O_CLOEXEC | os.O_NONBLOCK))


class CapabilitySets(NamedTuple):
    """Bit masks of the calling thread's capabilities. capabilities(7)."""

    effective: int
    permitted: int
    inheritable: int


_CAPABILITY_VERSION_3 = struct.pack("=Ii", 0x20080522, 0)  # written to only by a kernel that does not know it
_capget = _symbol("capget", _c_path, _c_path)
_capset = _symbol("capset", _c_path, _c_path)


def capget() -> CapabilitySets:
    data = ctypes.create_string_buffer(24)
    _check("capget", _capget(_CAPABILITY_VERSION_3, data))
    low = struct.unpack("=6I", data.raw)
    return CapabilitySets(*(low[n] | low[n + 3] << 32 for n in range(3)))


def capset(sets: CapabilitySets) -> None:
    _check("capset", _capset(*capset_words(sets)))


def capset_words(sets: CapabilitySets) -> tuple[bytes, bytes]:
    """The arguments of capset(2): struct __user_cap_header_struct, and two of struct __user_cap_data_struct."""
    words = [mask >> shift & 0xFFFFFFFF for shift in (0, 32) for mask in sets]
    return _CAPABILITY_VERSION_3, struct.pack("=6I", *words)
