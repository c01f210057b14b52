"""All work inside a container's root, and the only module that does any.

A container's root is written by others: any name in it may be a symbolic link to anywhere, at any time. So there is no
way from here to a path string: a `Root` is a descriptor, every walk is one openat2(2) that the kernel keeps inside the
root, and what comes out is a descriptor again, which is what a mount is attached to.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Self

from podd.linux.syscalls import PROC_MAGIC, Resolve, filesystem_magic, move_mount, openat2

_INSIDE = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS
_INSIDE_PLAIN = _INSIDE | Resolve.NO_SYMLINKS
_NEXT = Resolve.BENEATH | Resolve.NO_MAGICLINKS
MAX_SYMLINKS = 40
PARENT_MODE = 0o755  # of directories that are made on the way: whoever the container runs as gets through


class Root:
    """A directory that is "/" for every path given here. Owns its descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def at(cls, path: str) -> Self:
        """Of a directory that podd itself names on the host."""
        return cls(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def open(self, path: str, flags: int = os.O_PATH, *, symlinks: bool = True, mode: int = 0) -> int:
        """A descriptor of what is at path. symlinks=False: none may stand anywhere on the way (ELOOP)."""
        return openat2(self.fd, path, flags, _INSIDE if symlinks else _INSIDE_PLAIN, mode)

    def read(self, path: str, limit_bytes: int) -> bytes:
        """The whole of a small regular file; never waits for a FIFO or a device.

        Raises OSError: EINVAL: it is no regular file; EFBIG: it is larger than limit_bytes.
        """
        fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            content = bytearray()
            while chunk := os.read(fd, limit_bytes + 1 - len(content)):
                content += chunk
            if len(content) > limit_bytes:
                raise OSError(errno.EFBIG, f"larger than {limit_bytes} bytes", path)
            return bytes(content)
        finally:
            os.close(fd)

    def directory(self, path: str, *, symlinks: bool = True, mode: int = 0o755) -> int:
        """A descriptor of the directory at path, made with its parents where missing."""
        try:
            return self.open(path, os.O_PATH | os.O_DIRECTORY, symlinks=symlinks)
        except FileNotFoundError:
            return self._walk(path, symlinks=symlinks, directory=True, mode=mode)

    def file(self, path: str, *, symlinks: bool = True, mode: int = 0o644) -> int:
        """A descriptor of whatever is at path but a directory; an empty file made there, parents too, where missing."""
        try:
            fd = self.open(path, symlinks=symlinks)
        except FileNotFoundError:
            with suppress(OSError):  # no parent, a dangling link, /proc: for the walk to tell apart
                return self.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, symlinks=symlinks, mode=mode)
            fd = self._walk(path, symlinks=symlinks, directory=False, mode=mode)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return fd

    def attach(self, mount: int, target: int) -> None:
        """Mount a detached mount on what target names. Closes target; mount stays the caller's."""
        try:
            move_mount(mount, target)
        finally:
            os.close(target)

    def _walk(self, path: str, *, symlinks: bool, directory: bool, mode: int) -> int:
        """Make what is missing on the way, one component at a time, through dangling symbolic links too.

        `done` never holds a symbolic link nor "..", and each open of it forbids them, so a link swapped in between is
        an error, and what is made is made in a directory held by descriptor.
        """
        done: list[str] = []
        todo = deque(part for part in path.split("/") if part not in ("", "."))
        links = 0
        parent = os.dup(self.fd)
        try:
            while todo:
                name = todo.popleft()
                if name in ("", "."):
                    continue
                if name == "..":
                    del done[-1:]
                    child = self._plain(done)
                else:
                    is_last = not any(part not in ("", ".") for part in todo)
                    child = self._enter(
                        parent,
                        name,
                        make_directory=directory or not is_last,
                        mode=mode if is_last else PARENT_MODE,
                    )
                if filesystem_magic(child) == PROC_MAGIC:  # where nothing can be made, and links are more than text
                    os.close(child)
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
                if not stat.S_ISLNK(os.fstat(child).st_mode):
                    if name != "..":
                        done.append(name)
                    os.close(parent)
                    parent = child
                    continue
                target = os.readlink("", dir_fd=child)
                os.close(child)
                links += 1
                if not symlinks or links > MAX_SYMLINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if target.startswith("/"):
                    done.clear()
                todo.extendleft(reversed(target.split("/")))
                os.close(parent)
                parent = -1
                parent = self._plain(done)
        except BaseException:
            if parent >= 0:
                os.close(parent)
            raise
        return parent

    def _plain(self, parts: list[str]) -> int:
        return self.open("/".join(parts) or "/", os.O_PATH | os.O_DIRECTORY, symlinks=False)

    def _enter(self, parent: int, name: str, *, make_directory: bool, mode: int) -> int:
        """A descriptor of parent/name, possibly a symbolic link; made where missing."""
        for _ in range(3):
            try:
                return openat2(parent, name, os.O_PATH | os.O_NOFOLLOW, _NEXT)
            except FileNotFoundError:
                pass
            try:
                if make_directory:
                    os.mkdir(name, mode, dir_fd=parent)
                else:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
                    os.close(openat2(parent, name, flags, _NEXT, mode))
            except FileExistsError:
                continue
        raise OSError(errno.EAGAIN, "it is being replaced all the time", name)
