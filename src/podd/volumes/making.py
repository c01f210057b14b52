"""Making volumes, and checking hostPath volumes, as the kubelet does."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from podd.core.plan import EmptyDir, HostPath, Projected, VolumePlan
from podd.errors import Conflict, Denied, Invalid, PoddError, Unavailable
from podd.linux import mounts
from podd.linux.syscalls import MountAttr, move_mount
from podd.volumes import projected
from podd.volumes.removal import remove_directory

MODE = 0o777
SET_GID_MODE = 0o2777
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def prepare(volumes: Sequence[VolumePlan]) -> None:
    """Have every volume there. Again: the same, contents untouched; what podd writes is brought up to date.

    Raises, naming the volume, Invalid: a hostPath that no host could have; Unavailable: it is not there; Conflict: it
    is something else than its type says; Denied. What this call made is then removed again.
    """
    with ExitStack() as undo:
        for volume in volumes:
            try:
                _prepare(volume, undo)
            except PoddError:
                raise
            except OSError as exc:
                raise _failed(volume, exc) from exc
        undo.pop_all()


def _prepare(volume: VolumePlan, undo: ExitStack) -> None:
    match volume:
        case EmptyDir():
            _empty_dir(volume, undo)
        case HostPath():
            _host_path(volume)
        case Projected():
            _projected(volume, undo)


def _failed(volume: VolumePlan, exc: OSError) -> PoddError:
    message = f"volume {volume.name}: {exc.filename or volume.path}: {(exc.strerror or str(exc)).lower()}"
    if isinstance(exc, PermissionError):
        return Denied(message, remedy=". ".join(getattr(exc, "__notes__", ())), volume=volume.name)
    return Unavailable(message, volume=volume.name)


# ---- emptyDir --------------------------------------------------------------------------------------------------------


def _empty_dir(volume: EmptyDir, undo: ExitStack) -> None:
    with _directory(volume.path, undo) as (parent, name), ExitStack() as opened:
        directory = _open(opened, name, parent)
        if volume.medium == "Memory":
            if not _is_mounted(directory, parent):
                _mount_tmpfs(volume, directory)
            directory = _open(opened, name, parent)  # the root of the tmpfs
        if volume.fs_group is not None:
            os.fchown(directory, -1, volume.fs_group)
        os.fchmod(directory, MODE if volume.fs_group is None else SET_GID_MODE)  # after fchown, which may clear bits


@contextmanager
def _directory(path: str, undo: ExitStack) -> Iterator[tuple[int, str]]:
    """Have a volume's directory there; the descriptor of the one that it is in, and its name."""
    pod_directory, _, name = path.rpartition("/")
    if not os.path.isdir(pod_directory):
        os.makedirs(pod_directory, 0o700)
        undo.callback(remove_directory, pod_directory)
    parent = os.open(pod_directory, _DIRECTORY)
    try:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            undo.callback(remove_directory, path)
        except FileExistsError:
            pass
        yield parent, name
    finally:
        os.close(parent)


def _is_mounted(directory: int, parent: int) -> bool:
    return os.fstat(directory).st_dev != os.fstat(parent).st_dev


def _open(opened: ExitStack, name: str, parent: int) -> int:
    fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    opened.callback(os.close, fd)
    return fd


def _mount_tmpfs(volume: EmptyDir, directory: int) -> None:
    """Its pages are charged to the container that writes them. Without a limit the kernel's: half of the memory."""
    options = {"mode": "700"}
    if volume.size_limit_bytes is not None:
        options["size"] = str(volume.size_limit_bytes)
    mount = mounts.filesystem("tmpfs", options, MountAttr.NOSUID | MountAttr.NODEV)
    try:
        move_mount(mount, directory)
    finally:
        os.close(mount)


# ---- what podd writes ------------------------------------------------------------------------------------------------


def _projected(volume: Projected, undo: ExitStack) -> None:
    """A tmpfs that is complete before it can be seen, and read-only where it is seen."""
    with _directory(volume.path, undo) as (parent, name), ExitStack() as opened:
        directory = _open(opened, name, parent)
        if _is_mounted(directory, parent):
            _write_again(volume, directory)
            return
        mount = mounts.memory_only_tmpfs(0o755, MountAttr.NOSUID | MountAttr.NODEV)
        opened.callback(os.close, mount)
        projected.write(mount, volume.files, volume.fs_group)
        mounts.restrict(mount, MountAttr.RDONLY)
        move_mount(mount, directory)


def _write_again(volume: Projected, directory: int) -> None:
    mount = mounts.writable(directory)
    try:
        projected.write(mount, volume.files, volume.fs_group)
    finally:
        os.close(mount)


def update(volumes: Sequence[Projected]) -> None:
    """Have the files of volumes that were prepared be those, each volume's all at one moment.

    Raises Unavailable, Denied, naming the volume: it, and those after it, stay as they are.
    """
    for volume in volumes:
        pod_directory, _, name = volume.path.rpartition("/")
        try:
            with ExitStack() as opened:
                parent = os.open(pod_directory, _DIRECTORY)
                opened.callback(os.close, parent)
                directory = _open(opened, name, parent)
                if _is_mounted(directory, parent):
                    _write_again(volume, directory)
        except OSError as exc:
            raise _failed(volume, exc) from exc


# ---- hostPath --------------------------------------------------------------------------------------------------------

_IS: dict[str, tuple[Callable[[int], bool], str]] = {
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "Directory": (stat.S_ISDIR, "a directory"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def _host_path(volume: HostPath) -> None:
    """Looked at by stat(2) alone: opening a FIFO or a device could block or do something."""
    if not volume.path.startswith("/") or ".." in volume.path.split("/"):
        raise Invalid(f"volume {volume.name}: hostPath {volume.path!r} is not an absolute path without ..")
    if volume.type == "":
        return
    if volume.type == "DirectoryOrCreate" and not os.path.lexists(volume.path):
        _make_directories(volume.path)
    elif volume.type == "FileOrCreate" and not os.path.lexists(volume.path):
        _make_file(volume.path)
    try:
        mode = os.stat(volume.path).st_mode
    except FileNotFoundError as exc:
        raise Unavailable(
            f"volume {volume.name}: hostPath {volume.path} does not exist",
            remedy="create it on the host" + _or_let_podd(volume.type),
            volume=volume.name,
        ) from exc
    is_one, what = _IS[volume.type]
    if not is_one(mode):
        raise Conflict(f"volume {volume.name}: hostPath {volume.path} is not {what}", volume=volume.name)


def _or_let_podd(kind: str) -> str:
    return f", or give the volume type {kind}OrCreate" if kind in ("Directory", "File") else ""


def _make_directories(path: str) -> None:
    """mkdir -p, 0755. What exists may be reached through symbolic links; from the first part that is made, none is."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    fd = os.open("/", _DIRECTORY)
    made = 0
    try:
        for part in parts:
            try:
                os.mkdir(part, 0o755, dir_fd=fd)
                made = os.O_NOFOLLOW
            except FileExistsError:
                pass
            inner = os.open(part, _DIRECTORY | made, dir_fd=fd)
            os.close(fd)
            fd = inner
    except OSError as exc:
        exc.filename = path
        raise
    finally:
        os.close(fd)


def _make_file(path: str) -> None:
    """An empty file, 0644, in a directory that exists. Never through a symbolic link at its end."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o644)
    except FileExistsError:  # another pod made it meanwhile
        return
    os.fchmod(fd, 0o644)
    os.close(fd)
