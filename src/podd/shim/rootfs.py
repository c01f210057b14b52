"""The mount tree of one container.

All sources are gathered as detached mounts while the host's names are still in sight; then the attendant enters a mount
namespace of the container's own, makes the overlay its root and drops the old one; only then the sources are attached,
each onto a descriptor that was resolved inside the new root. So nothing that the root file system holds can lead to the
host. Only /proc is left to the container's process itself, since it shows the pid namespace of who mounts it.

Descriptors are left open on purpose: `tidy` closes all at once.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import NamedTuple

from podd.errors import Invalid
from podd.linux import mounts
from podd.linux.cgroup import Layout
from podd.linux.inroot import Root
from podd.linux.syscalls import (
    CloneFlag,
    MountAttr,
    MountFlag,
    close_all_but,
    mount,
    mount_setattr,
    move_mount,
    setns,
    unshare,
)
from podd.linux.terminal import Terminal, open_terminal
from podd.shim.failure import doing
from podd.shim.nowhere import enter_mount_namespace
from podd.shim.plan import ContainerPlan, MountPlan, SandboxPlan
from podd.shim.subpath import open_below

DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
"""What a container's /dev has, and the numbers that the host's node must have. Source: the kernel's devices.txt."""

_DEVICE = MountAttr.NOSUID | MountAttr.NOEXEC | MountAttr.RDONLY

DEV_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}

PROPAGATION = {
    "private": MountFlag.PRIVATE,
    "host-to-container": MountFlag.SLAVE,
    "bidirectional": MountFlag.NONE,  # the copy is in the peer group of what it is a copy of
}


class Source(NamedTuple):
    """A detached mount and where it goes."""

    mount: int
    path: str
    directory: bool = True
    symlinks: bool = False  # may the way to path lead through symbolic links of the root file system
    place: int = -1  # path itself, where it is on a mount of podd's own, which is another source


class Proc(NamedTuple):
    """What is left to do for /proc: to be mounted on `place`, and restricted. Paths are those below /proc."""

    place: int
    masks: list[tuple[str, int]]  # what is hidden, and the detached mount that hides it
    read_only: list[str]


class Built(NamedTuple):
    root: Root
    terminal: Terminal | None
    proc: Proc


@contextmanager
def apart() -> Iterator[None]:
    """Let the block move about: at its end the process is back in its mount namespace, with the host's root."""
    host = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        try:
            setns(host, CloneFlag.MNT)
        except OSError:  # nothing may be done any more where a container's files are taken for the host's
            os._exit(1)
        os.close(host)


@contextmanager
def tidy() -> Iterator[set[int]]:
    """Close every descriptor that the block has opened, but those that it adds to the set."""
    before, kept = _descriptors(), set[int]()
    try:
        yield kept
    finally:
        close_all_but(before | kept)


def _descriptors() -> set[int]:
    """The listing has its own one, too, which is the first that is free."""
    first_free = os.dup(0)
    os.close(first_free)
    return {int(name) for name in os.listdir("/proc/self/fd")} - {first_free}


def build(sandbox: SandboxPlan, plan: ContainerPlan) -> Built:
    """Make the caller's "/" the container's. To be called `apart`, in the pod's network and IPC namespaces."""
    root_mount = _overlay(sandbox, plan)
    empty = mounts.tmpfs(0o555, 4096, mounts.NO_EXEC | MountAttr.RDONLY)
    sources = _gather(sandbox, plan)
    masked, read_only = ([], []) if plan["privileged"] else _proc_restrictions(plan)
    with doing("mount namespace"):
        enter_mount_namespace(root_mount)
    root = Root(root_mount)
    with doing("mount /proc", Invalid):
        place = _reserve(root, "/proc", empty)
    for path in plan["image_volumes"]:
        with doing(f"volume {path} of the image", Invalid):
            _image_volume(root, plan, path, place)
    for source in sources:
        with doing(f"mount {source.path}", Invalid):
            _attach(root, source, place)
    terminal = _terminal(root, privileged=plan["privileged"]) if plan["tty"] else None
    if not plan["privileged"]:
        with doing("masked and read-only paths"):
            _restrict_paths(root, plan, _null_of(sources), empty)
    with doing("masks of /proc"):
        # Not before both are attached here: only a newer kernel than 6.1 copies a mount that is attached nowhere.
        masks = [(path, mounts.bind_fd(empty if is_directory else _null_of(sources))) for path, is_directory in masked]
    return Built(root, terminal, Proc(place, masks, read_only))


def _null_of(sources: Sequence[Source]) -> int:
    """Our own mount of the host's /dev/null, whatever a volume may have put there."""
    return next(source.mount for source in sources if source.path == "/dev/null")


def _reserve(root: Root, path: str, empty: int) -> int:
    """Keep a place, made where missing, for what will be mounted later: an empty directory in which nothing is made."""
    root.attach(empty, root.directory(path, symlinks=False))
    return empty


def seal(root: Root, plan: ContainerPlan) -> None:
    """The last step, after the last file was made: a read-only root where one is asked for."""
    if plan["read_only_rootfs"]:
        mount_setattr(root.fd, add=MountAttr.RDONLY)


class Parts(NamedTuple):
    """What an OCI runtime cannot make and is given: detached mounts, the outer places first."""

    root: int
    sources: list[Source]


def parts(sandbox: SandboxPlan, plan: ContainerPlan) -> Parts:
    """The container's root, and what of the pod and of the host is mounted in it."""
    privileged = plan["privileged"]
    root = _overlay(sandbox, plan)
    with doing("/dev"):
        sources = [Source(_host_dev(), "/dev")] if privileged else []
        sources.append(Source(_shm(sandbox), "/dev/shm"))
    with doing("files of the pod in /etc"):
        sources += _pod_files(sandbox, plan)
    return Parts(root, sources + _volumes(plan))


# ---- sources ---------------------------------------------------------------------------------------------------------


def _overlay(sandbox: SandboxPlan, plan: ContainerPlan) -> int:
    layer = f"{sandbox['containers_dir']}/{sandbox['id']}/{plan['id']}"
    attributes = MountAttr.NONE if plan["privileged"] else MountAttr.NODEV
    lowers = _opened(plan)
    like = os.fstat(lowers[0])
    with doing(f"writable layer {layer}"):
        for name in ("upper", "work"):
            _make_private(f"{layer}/{name}")
        os.chown(f"{layer}/upper", like.st_uid, like.st_gid)  # the root directory shows the upper one's owner and mode
        os.chmod(f"{layer}/upper", stat.S_IMODE(like.st_mode))
    with doing(f"overlay on {plan['lowers'][0]}"):
        try:
            return mounts.overlay(lowers, *_writable(layer), attributes)
        except OSError as exc:
            if exc.errno != errno.EINVAL or len(lowers) == 1:
                raise
        with apart():
            unshare(CloneFlag.MNT)
            mount("none", "/", None, MountFlag.REC | MountFlag.PRIVATE)
            return mounts.overlay_elsewhere(_opened(plan), *_writable(layer), attributes)


def _opened(plan: ContainerPlan) -> list[int]:
    """The directories that its root is made of."""
    return [_lower(path) for path in plan["lowers"]]


def _lower(path: str) -> int:
    with doing(f"rootfs {path}", Invalid):
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _writable(layer: str) -> tuple[int, int]:
    upper, work = (os.open(f"{layer}/{name}", os.O_PATH | os.O_CLOEXEC) for name in ("upper", "work"))
    return upper, work


def _make_private(path: str) -> None:
    """A directory, parents too where missing, that nobody else may walk through: it may hold set-user-id programs."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_private(os.path.dirname(path))
        os.mkdir(path, 0o700)


def _gather(sandbox: SandboxPlan, plan: ContainerPlan) -> list[Source]:
    privileged = plan["privileged"]
    read_only = MountAttr.NONE if privileged else MountAttr.RDONLY
    with doing("/sys and /dev"):
        sources = [
            *_dev(sandbox, privileged=privileged),
            Source(mounts.filesystem("sysfs", attributes=mounts.NO_EXEC | read_only), "/sys"),
        ]
    with doing("/sys/fs/cgroup"):
        sources += _cgroups(f"{sandbox['cgroup']}/{plan['id']}", mounts.NO_EXEC | read_only)
    with doing("files of the pod in /etc"):
        sources += _pod_files(sandbox, plan)
    return sources + _volumes(plan)


def _dev(sandbox: SandboxPlan, *, privileged: bool) -> list[Source]:
    inside = {
        "/dev/pts": mounts.devpts(),
        "/dev/shm": _shm(sandbox),
        "/dev/mqueue": mounts.filesystem("mqueue", attributes=mounts.NO_EXEC),
    }
    if not privileged:
        return [*_own_dev(), *(Source(mount, path) for path, mount in inside.items())]
    places = (Source(mount, path) for path, mount in inside.items() if os.path.isdir(path))  # nothing is made in it
    return [Source(_host_dev(), "/dev"), *places]


def _host_dev() -> int:
    return mounts.restrict(mounts.bind("/dev"), MountAttr.NONE, propagation=MountFlag.PRIVATE)


def _own_dev() -> list[Source]:
    """A tmpfs in which no device node can be made; those it has are the host's, as read-only bind mounts.

    Read-only keeps a container from changing the mode or owner of the host's node; data passes all the same.
    """
    dev = mounts.tmpfs(0o755, 64 * 1024, mounts.NO_EXEC)
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(name, 0o755, dir_fd=dev)
    for name, target in DEV_LINKS.items():
        os.symlink(target, name, dir_fd=dev)
    devices = []
    for name in DEVICES:
        place = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, dir_fd=dev)
        devices.append(Source(_device(name), f"/dev/{name}", directory=False, place=place))
    return [Source(dev, "/dev"), *devices]


def _device(name: str) -> int:
    device = mounts.bind(f"/dev/{name}", recursive=False)
    status = os.fstat(device)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(*DEVICES[name]):
        raise Invalid(f"/dev/{name} of the host: not the character device {DEVICES[name]}", remedy="repair /dev")
    return mounts.restrict(device, _DEVICE, recursive=False, propagation=MountFlag.PRIVATE)


def _shm(sandbox: SandboxPlan) -> int:
    shm = "/dev/shm" if sandbox["ipc"] == "node" else f"{sandbox['run_dir']}/shm"
    return mounts.restrict(mounts.bind(shm, recursive=False), mounts.NO_EXEC, propagation=MountFlag.PRIVATE)


class CgroupView(NamedTuple):
    """One hierarchy as a container sees it below /sys/fs/cgroup; name "" is /sys/fs/cgroup itself."""

    name: str
    mount: str
    controllers: tuple[str, ...]


@cache
def cgroup_views() -> tuple[CgroupView, ...]:
    """The hierarchies that podd limits containers in, the others being none of the container's business."""
    hierarchies = Layout.detect().hierarchies
    if len(hierarchies) == 1 and hierarchies[0].version == 2:
        return (CgroupView("", hierarchies[0].mount, ()),)
    with open("/proc/cgroups", encoding="ascii") as file:
        known = {line.split()[0] for line in file}
    return tuple(
        CgroupView(posixpath.basename(h.mount), h.mount, tuple(sorted(h.controllers & known)) if h.version == 1 else ())
        for h in hierarchies
    )


def _cgroups(group: str, attributes: MountAttr) -> list[Source]:
    """The container's own group, of which its cgroup namespace makes the root that it sees."""
    views = cgroup_views()
    sources = []
    for view in views:
        mount = mounts.bind(f"{view.mount}/{group}", recursive=False)
        mounts.restrict(mount, attributes, recursive=False, propagation=MountFlag.PRIVATE)
        sources.append(Source(mount, posixpath.join("/sys/fs/cgroup", view.name)))
    if views[0].name == "":
        return sources
    parent = mounts.tmpfs(0o755, 64 * 1024, mounts.NO_EXEC)
    for view in views:
        os.mkdir(view.name, 0o755, dir_fd=parent)
        for controller in view.controllers if len(view.controllers) > 1 else ():
            os.symlink(view.name, controller, dir_fd=parent)
    mount_setattr(parent, add=attributes)
    return [Source(parent, "/sys/fs/cgroup"), *sources]


def _pod_files(sandbox: SandboxPlan, plan: ContainerPlan) -> list[Source]:
    """/etc/hosts and its like, one file for all members; writable unless the root is not, as kubelet has it."""
    attributes = mounts.NO_EXEC | (MountAttr.RDONLY if plan["read_only_rootfs"] else MountAttr.NONE)
    sources = []
    for name in ("hosts", "hostname", "resolv.conf"):
        try:
            file = mounts.bind(f"{sandbox['run_dir']}/etc/{name}", recursive=False)
        except FileNotFoundError:
            continue
        mounts.restrict(file, attributes, propagation=MountFlag.PRIVATE)
        sources.append(Source(file, f"/etc/{name}", directory=False, symlinks=True))
    return sources


def _volumes(plan: ContainerPlan) -> list[Source]:
    sources = []
    for volume in sorted(plan["mounts"], key=lambda volume: posixpath.normpath(volume["container_path"]).count("/")):
        with doing(f"volume mount {volume['container_path']}", Invalid):
            sources.append(_volume(volume, privileged=plan["privileged"]))
    return sources


def _volume(volume: MountPlan, *, privileged: bool) -> Source:
    if posixpath.normpath(f"/{volume['container_path']}") in ("/", "//"):
        raise Invalid("volume mount /: it would cover the root", remedy="choose another mountPath")
    source = _volume_source(volume)
    tree = mounts.bind_fd(source, recursive=True)
    if volume["propagation"] != "private":
        _must_propagate(volume, source)
    mode = os.fstat(tree).st_mode
    attributes = MountAttr.NONE
    if not privileged:
        attributes |= MountAttr.NOSUID
        is_device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        if not is_device or volume["sub_path"]:  # a device that the host names may be used, not one in a volume
            attributes |= MountAttr.NODEV
    mounts.restrict(tree, attributes, propagation=PROPAGATION[volume["propagation"]])
    if volume["read_only"]:
        mounts.restrict(tree, MountAttr.RDONLY, recursive=volume["recursive_read_only"])
    return Source(tree, volume["container_path"], directory=stat.S_ISDIR(mode), symlinks=True)


def _volume_source(volume: MountPlan) -> int:
    whole = os.open(volume["host_path"], os.O_PATH | os.O_CLOEXEC)
    return open_below(whole, volume["sub_path"], volume["container_path"]) if volume["sub_path"] else whole


def _must_propagate(volume: MountPlan, source: int) -> None:
    """Refuse what would propagate nothing, as the kubelet's runtimes do. Raises Invalid."""
    groups = mounts.peer_groups(source)
    needed = ("shared",) if volume["propagation"] == "bidirectional" else ("shared", "master")
    if not any(group.startswith(needed) for group in groups):
        raise Invalid(
            f"volume mount {volume['container_path']}: propagation {volume['propagation']}: "
            f"{volume['host_path']} is on a private mount, from which nothing propagates",
            remedy=f"mount --bind {volume['host_path']} {volume['host_path']} and mount --make-shared it",
        )


# ---- attaching -------------------------------------------------------------------------------------------------------


def _attach(root: Root, source: Source, proc: int) -> None:
    """proc: where /proc will be."""
    if source.place >= 0:
        root.attach(source.mount, source.place)
        return
    if source.symlinks and posixpath.normpath(f"/{source.path.lstrip('/')}").split("/")[1] == "proc":
        raise _covers_proc(source.path)
    make = root.directory if source.directory else root.file
    target = make(source.path, symlinks=source.symlinks)
    if source.symlinks and os.fstat(target).st_dev == os.fstat(proc).st_dev:
        os.close(target)
        raise _covers_proc(source.path)
    root.attach(source.mount, target)


def _covers_proc(path: str) -> Invalid:
    return Invalid(f"mount {path}: it would cover a part of /proc", remedy="choose another mountPath")


def _image_volume(root: Root, plan: ContainerPlan, path: str, proc: int) -> None:
    """Have the directory, which is a part of the writable layer like any other; and a mount of its own that can be
    written through, where the root's cannot. proc: where /proc will be."""
    target = root.directory(path)
    if os.fstat(target).st_dev == os.fstat(proc).st_dev:
        raise _covers_proc(path)
    if plan["read_only_rootfs"]:
        root.attach(mounts.bind_fd(target), target)


def _terminal(root: Root, *, privileged: bool) -> Terminal:
    """A terminal of the container's own devpts, which is its /dev/console too."""
    with doing("terminal"):
        terminal = open_terminal(root.open("/dev/pts", symlinks=False))
        console = root.open if privileged else root.file  # in the host's /dev nothing is made
        root.attach(mounts.bind_fd(terminal.slave), console("/dev/console", symlinks=False))
        return terminal


def _restrict_paths(root: Root, plan: ContainerPlan, null: int, empty: int) -> None:
    """Hide masked paths outside of /proc, and seal read-only ones there."""
    for path in _outside_proc(plan["read_only_paths"]):
        target = _existing(root, path)
        if target is not None:
            move_mount(mounts.restrict(mounts.bind_fd(target, recursive=True), MountAttr.RDONLY), target)
    for path in _outside_proc(plan["masked_paths"]):
        target = _existing(root, path)
        if target is not None:
            is_directory = stat.S_ISDIR(os.fstat(target).st_mode)
            move_mount(mounts.bind_fd(empty if is_directory else null), target)


def _proc_restrictions(plan: ContainerPlan) -> tuple[list[tuple[str, bool]], list[str]]:
    """The masked paths, with which of them are directories, and the read-only ones, of those that there are."""
    masked, read_only = _below_proc(plan["masked_paths"]), _below_proc(plan["read_only_paths"])
    found = _in_proc(masked + read_only)
    return [(path, found[path]) for path in masked if path in found], [path for path in read_only if path in found]


@cache
def _in_proc(paths: tuple[str, ...]) -> dict[str, bool]:
    """Which of these any /proc of this host has, and whether it is a directory.

    Looked up in one that is attached nowhere: the host may have mounted its own with less to see.
    """
    proc = mounts.filesystem("proc", attributes=mounts.NO_EXEC)
    found = {}
    try:
        for path in paths:
            with suppress(FileNotFoundError, NotADirectoryError):
                found[path] = stat.S_ISDIR(os.stat(path, dir_fd=proc).st_mode)
    finally:
        os.close(proc)
    return found


def _below_proc(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(path.removeprefix(_PROC) for path in paths if path.startswith(_PROC))


def _outside_proc(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if not path.startswith(_PROC)]


_PROC = "/proc/"


def _existing(root: Root, path: str) -> int | None:
    try:
        return root.open(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
