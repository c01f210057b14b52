"""Writing the files of a volume so that a reader sees all of the old ones or all of the new ones.

    ..2026_11_23_15_04_05.0123456789/   every file, in directories of its own
    ..data -> ..2026_11_23_15_04_05.0123456789
    NAME -> ..data/NAME                 for each name at the top

New files go into a fresh directory; then `..data` is swapped by one rename(2). The layout is the kubelet's: programs
that watch their configuration look for `..data`.

Containers have the volume read-only, but nothing here relies on that. Every name is taken relative to a descriptor and
none is followed if it is a symbolic link; a file is only ever made where there was nothing. So nothing that somebody
has put into the volume is written through, not even once: what does not belong there is removed.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import ExitStack
from datetime import UTC, datetime

from podd.core.projection import Files

DATA = "..data"
_NEW_DATA = "..data_tmp"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE, _GROUP_MODE = 0o755, 0o2755


def write(top: int, files: Files, group: int | None) -> None:
    """Have the directory top hold these files and no others. Where nothing differs nothing changes.

    top: a descriptor through which it can be written. group: of all that is in it.
    """
    with ExitStack() as opened:
        root = _open(opened, ".", top)
        _own(root, group)
        data = _data(root)
        if data is None or not _holds(root, data, files, group):
            data = _fresh(root, files, group)
            _point(root, data)
        names = {path.partition("/")[0] for path in files}
        for name in names:
            _link(root, name, f"{DATA}/{name}")
        for name in os.listdir(root):
            if name not in (data, DATA, *names):
                _discard(root, name)


def _open(opened: ExitStack, name: str, parent: int, flags: int = _DIRECTORY, mode: int = 0) -> int:
    fd = os.open(name, flags, mode, dir_fd=parent)
    opened.callback(os.close, fd)
    return fd


def _own(directory: int, group: int | None) -> None:
    if group is not None:
        os.fchown(directory, -1, group)
    os.fchmod(directory, _MODE if group is None else _GROUP_MODE)


def _data(root: int) -> str | None:
    """The name of the directory that counts now."""
    try:
        return os.readlink(DATA, dir_fd=root)
    except OSError:  # there is none yet, or it is no link
        return None


# ---- a fresh directory -----------------------------------------------------------------------------------------------


def _fresh(root: int, files: Files, group: int | None) -> str:
    name = f"{datetime.now(UTC):..%Y_%m_%d_%H_%M_%S}.{secrets.randbelow(10**10):010}"
    os.mkdir(name, 0o700, dir_fd=root)
    with ExitStack() as opened:
        directory = _open(opened, name, root)
        for path, file in files.items():
            with ExitStack() as inner:
                *above, last = path.split("/")
                parent = directory
                for part in above:
                    parent = _inside(inner, part, parent, group)
                _file(inner, last, parent, file.content, file.mode, group)
        _own(directory, group)
    return name


def _inside(opened: ExitStack, name: str, parent: int, group: int | None) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:  # another file of this volume is in it
        return _open(opened, name, parent)
    directory = _open(opened, name, parent)
    _own(directory, group)
    return directory


def _file(opened: ExitStack, name: str, parent: int, content: bytes, mode: int, group: int | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = _open(opened, name, parent, flags, 0o600)
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]
    if group is not None:
        os.fchown(fd, -1, group)
    os.fchmod(fd, mode)


def _point(root: int, data: str) -> None:
    """From here on the fresh directory counts."""
    _remove(root, _NEW_DATA)
    if _data(root) is None:
        _remove(root, DATA)
    os.symlink(data, _NEW_DATA, dir_fd=root)
    os.rename(_NEW_DATA, DATA, src_dir_fd=root, dst_dir_fd=root)


def _link(root: int, name: str, target: str) -> None:
    try:
        if os.readlink(name, dir_fd=root) == target:
            return
    except OSError:  # there is nothing, or no link
        pass
    _remove(root, name)
    os.symlink(target, name, dir_fd=root)


def _discard(root: int, name: str) -> None:
    """What does not count any more. On which somebody has mounted something stays until the next time."""
    try:
        _remove(root, name)
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise


def _remove(root: int, name: str) -> None:
    """Whatever it is, and nothing that it leads to."""
    try:
        os.unlink(name, dir_fd=root)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        shutil.rmtree(name, dir_fd=root)


# ---- what is there ---------------------------------------------------------------------------------------------------


def _holds(root: int, data: str, files: Files, group: int | None) -> bool:
    """It has these files, with these contents and modes, and nothing else."""
    if "/" in data:
        return False
    try:
        with ExitStack() as opened:
            found = _read(_open(opened, data, root), "")
    except OSError:
        return False
    return found == {path: (file.mode, group or 0, file.content) for path, file in files.items()}


def _read(directory: int, above: str) -> dict[str, tuple[int, int, bytes] | None]:
    """By path: mode, group and content; None is of something else than a file or directory."""
    found: dict[str, tuple[int, int, bytes] | None] = {}
    with os.scandir(directory) as entries:
        listed = list(entries)
    for entry in listed:
        path = f"{above}{entry.name}"
        with ExitStack() as opened:
            if entry.is_dir(follow_symlinks=False):
                found |= _read(_open(opened, entry.name, directory), f"{path}/")
            elif entry.is_file(follow_symlinks=False):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                found[path] = _content(_open(opened, entry.name, directory, flags))
            else:
                found[path] = None
    return found


def _content(fd: int) -> tuple[int, int, bytes]:
    status = os.fstat(fd)
    with os.fdopen(os.dup(fd), "rb") as file:
        return status.st_mode & 0o7777, status.st_gid, file.read()
