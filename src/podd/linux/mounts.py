"""Mounts as descriptors: each function gives a detached mount, which `inroot.Root.attach` puts in its place.

A detached mount is in no mount namespace and dies with its descriptor, so an error half-way leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence

from podd.linux.syscalls import (
    AT_FDCWD,
    FsConfigCommand,
    MountAttr,
    MountFlag,
    OpenTreeFlag,
    fsconfig,
    fsmount,
    fsopen,
    mount,
    mount_setattr,
    open_tree,
)

NO_EXEC = MountAttr.NOSUID | MountAttr.NODEV | MountAttr.NOEXEC


def filesystem(fstype: str, options: Mapping[str, str] | None = None, attributes: MountAttr = MountAttr.NONE) -> int:
    """A new file system, or a new view of one that exists once: proc, sysfs, mqueue show the caller's namespaces.

    options: an empty value makes it a flag.
    """
    return _create(fstype, (options or {}).items(), attributes)


def _create(fstype: str, options: Iterable[tuple[str, str]], attributes: MountAttr) -> int:
    context = fsopen(fstype)
    try:
        fsconfig(context, FsConfigCommand.SET_STRING, "source", fstype)  # what mount(8) and df(1) show
        for key, value in options:
            fsconfig(context, FsConfigCommand.SET_STRING if value else FsConfigCommand.SET_FLAG, key, value or None)
        fsconfig(context, FsConfigCommand.CREATE)
        return fsmount(context, attributes)
    finally:
        os.close(context)


def overlay(lowers: Sequence[int], upper: int, work: int, attributes: MountAttr = MountAttr.NONE) -> int:
    """An overlay of directories given as descriptors, the uppermost lower first.

    Descriptors and not paths: a path may hold what the option parser takes for a separator, and an option may have
    255 bytes, which is enough for 13 lowers. More are given one by one, which takes Linux 6.8; EINVAL: this is an older
    one, see `overlay_elsewhere`.
    """
    paths = [f"/proc/self/fd/{fd}" for fd in lowers]
    joined = ":".join(paths)
    lower = [("lowerdir", joined)] if len(joined) < _OPTION_BYTES else [("lowerdir+", path) for path in paths]
    return _create("overlay", (*lower, *_overlay_options(upper, work)), attributes)


def overlay_elsewhere(lowers: Sequence[int], upper: int, work: int, attributes: MountAttr = MountAttr.NONE) -> int:
    """As `overlay`, of any number of lowers on any kernel: by mount(2), whose options may have a page.

    That has to mount it somewhere, so the calling process must be in a mount namespace of its own, in which the
    descriptors were opened, and which it leaves afterwards: it is over /proc. The names of descriptors, seen from their
    directory, are as short as names can be.
    """
    os.chdir("/proc/self/fd")
    joined = ":".join(map(str, lowers))
    options = [("lowerdir", joined), *_overlay_options(upper, work)]
    text = ",".join(f"{key}={value}" if value else key for key, value in options)
    mount("overlay", "/proc", "overlay", MountFlag.NONE, text)
    made = bind("/proc", recursive=False)
    mount_setattr(made, add=attributes)
    return made


def _overlay_options(upper: int, work: int) -> list[tuple[str, str]]:
    """volatile: the writable layer lives no longer than the container, so what it holds need not survive a crash of
    the host, and unmounting need not wait for the disk. The two that follow: what a lower directory, which a stranger
    may have made, says of where its files are to be found is not believed.
    """
    places = [("upperdir", f"/proc/self/fd/{upper}"), ("workdir", f"/proc/self/fd/{work}")]
    return [*places, ("volatile", ""), ("redirect_dir", "nofollow"), ("metacopy", "off")]


_OPTION_BYTES = 256
"""Of an option's value in fsconfig(2), its NUL included."""


def tmpfs(mode: int, size_bytes: int, attributes: MountAttr = MountAttr.NONE) -> int:
    return filesystem("tmpfs", {"mode": f"{mode:o}", "size": str(size_bytes)}, attributes)


def memory_only_tmpfs(mode: int, attributes: MountAttr = MountAttr.NONE) -> int:
    """One whose pages never go to a disk as swap, where the kernel can promise that (Linux 6.4)."""
    options = {"mode": f"{mode:o}"}
    try:
        return filesystem("tmpfs", {**options, "noswap": ""}, attributes)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
    return filesystem("tmpfs", options, attributes)


def devpts() -> int:
    """A new instance, with its own ptmx; terminals belong to group tty (5)."""
    return filesystem("devpts", {"ptmxmode": "666", "mode": "620", "gid": "5"}, MountAttr.NOSUID | MountAttr.NOEXEC)


_COPY = OpenTreeFlag.CLONE | OpenTreeFlag.CLOEXEC
_COPY_TREE = _COPY | OpenTreeFlag.RECURSIVE
_COPY_OF_FD = _COPY | OpenTreeFlag.EMPTY_PATH
_COPY_TREE_OF_FD = _COPY_TREE | OpenTreeFlag.EMPTY_PATH


def bind(path: str, *, recursive: bool = True) -> int:
    """A copy of the mount at a path of the host, which may be a directory or a file; symbolic links are followed."""
    return open_tree(AT_FDCWD, path, _COPY_TREE if recursive else _COPY)


def bind_fd(fd: int, *, recursive: bool = False) -> int:
    """A copy of the mount at what fd names."""
    return open_tree(fd, "", _COPY_TREE_OF_FD if recursive else _COPY_OF_FD)


def restrict(
    mount: int, attributes: MountAttr, *, recursive: bool = True, propagation: MountFlag = MountFlag.NONE
) -> int:
    """Add attributes to a detached mount, to its submounts too unless told otherwise, and give it back."""
    mount_setattr(mount, add=attributes, propagation=propagation, recursive=recursive)
    return mount


def writable(fd: int) -> int:
    """Another mount of what fd names, one that may be written through whether or not the mount that fd is on may."""
    mount = bind_fd(fd)
    mount_setattr(mount, remove=MountAttr.RDONLY)
    return mount


def peer_groups(fd: int) -> list[str]:
    """What the mount that fd is on propagates with: "shared:7", "master:3"; empty where it is private.

    Source: proc_pid_mountinfo(5), optional fields; the mount's id from /proc/PID/fdinfo.
    """
    with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8") as file:
        mount_id = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mount = next((line.split() for line in file if line.split(" ", 1)[0] == mount_id), None)
    return mount[6 : mount.index("-")] if mount else []
