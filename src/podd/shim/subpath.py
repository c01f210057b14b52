"""The part of a volume that a subPath names, as a descriptor.

A volume is written by containers: any name in it may be a symbolic link to anywhere, and may become one at any time.
So the way there is one openat2(2) that the kernel keeps below the volume's own descriptor, and it is the descriptor
that is mounted: a name that is swapped afterwards changes nothing. A link that leads out is an error, as it is to the
kubelet, and not followed inside: the path would not mean what its writer sees.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from podd.errors import Invalid
from podd.linux.syscalls import Resolve, openat2
from podd.shim.failure import doing

_BELOW = Resolve.BENEATH | Resolve.NO_MAGICLINKS
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def open_below(volume: int, path: str, mounted_at: str) -> int:
    """A descriptor (O_PATH) of what lies at path below the directory volume; made as a directory where nothing is.

    No error quotes path: a subPathExpr may have put what a Secret holds into it. mounted_at tells which one it is.
    Raises Invalid: path leads out of the volume, or is missing in one that is read-only; Denied.
    """
    what = f"volume mount {mounted_at}: its subPath"
    with doing(what, Invalid):
        try:
            return _opened(volume, path)
        except OSError as exc:
            if exc.errno == errno.EROFS:
                raise Invalid(f"{what} is not in the volume, and nothing can be made in it") from None
            if exc.errno == errno.EXDEV:
                raise Invalid(f"{what} leads out of the volume", remedy="look for a symbolic link in it") from None
            raise OSError(exc.errno, exc.strerror) from None


def _opened(volume: int, path: str) -> int:
    try:
        return openat2(volume, path, os.O_PATH, _BELOW)
    except FileNotFoundError:
        return _make(volume, path)


def _make(volume: int, path: str) -> int:
    """Make the missing directories, each in one that is held by its descriptor, with the volume's mode.

    Their group is the volume's where it has the set-group-id bit, which the kernel sees to. What is made is opened
    without following links, so one that takes its place meanwhile is an error.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    parent, missing = _deepest(volume, parts)
    mode = os.fstat(volume).st_mode & 0o1777
    mask = os.umask(0)
    try:
        for name in missing:
            with suppress(FileExistsError):  # another container made it just now, or it is a link to nothing
                os.mkdir(name, mode, dir_fd=parent)
            inner = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            os.close(parent)
            parent = inner
    except BaseException:
        os.close(parent)
        raise
    finally:
        os.umask(mask)
    return parent


def _deepest(volume: int, parts: list[str]) -> tuple[int, list[str]]:
    """The deepest directory on the way that is there, and the names below it that are not."""
    for there in range(len(parts) - 1, 0, -1):
        try:
            return openat2(volume, "/".join(parts[:there]), _DIRECTORY, _BELOW), parts[there:]
        except FileNotFoundError:
            continue
    return openat2(volume, ".", _DIRECTORY, _BELOW), parts
