"""The control socket's place in the file system: made, taken over from a dead podd, or inherited, and removed."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import socket
import stat
from types import TracebackType
from typing import Self

import structlog

from podd.errors import Conflict, Denied, Invalid, Unavailable

log = structlog.get_logger(__name__)

_BACKLOG = 4096  # the kernel takes net.core.somaxconn where that is less
_PATH_MAX = 107  # sun_path less its NUL


class Listener:
    """A listening Unix socket. Where podd made it, leaving the context removes its file.

    Lock and socket live together: while the lock is held no other podd replaces the file.
    """

    def __init__(self, sock: socket.socket, path: str = "", lock_fd: int | None = None) -> None:
        self.sock = sock
        self._path = path
        self._lock_fd = lock_fd
        self._inode = os.stat(path).st_ino if path else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path and os.lstat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        self.sock.close()
        if self._lock_fd is not None:
            os.close(self._lock_fd)


def inherit(sock: socket.socket) -> Listener:
    """Take a listening socket that the service manager made. Its mode, owner and file are the manager's business.

    Raises Invalid: it is not a listening Unix stream socket.
    """
    listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM or not listening:
        raise Invalid(
            "inherited socket: not a listening Unix stream socket",
            remedy="use ListenStream= with an absolute path in the socket unit",
        )
    return Listener(sock)


def listen(path: str, *, group: str) -> Listener:
    """Make the control socket: 0660 and root:group, so that the group's members are podd's administrators.

    path: absolute; its directory is made where it is missing (0750, the same group). group "": root alone. A group
    that does not exist leaves it to root alone too, with a warning. A socket that nobody listens on is replaced.
    Raises Conflict: another podd, or something that is no socket, is there; Denied: others may write in the directory,
    or podd may not; Invalid: the path is too long; Unavailable.
    """
    if len(os.fsencode(path)) > _PATH_MAX:
        raise Invalid(f"{path}: longer than the {_PATH_MAX} bytes that a socket's path may have", path=path)
    gid = _gid_of(group)
    try:
        _check_directory(os.path.dirname(path), gid)
        lock_fd = _lock(path)
        try:
            _remove_stale(path)
            return Listener(_bind(path, gid), path, lock_fd)
        except BaseException:
            os.close(lock_fd)
            raise
    except PermissionError as exc:
        raise Denied(f"{path}: cannot make the control socket: {exc.strerror}", remedy="run podd as root") from exc
    except OSError as exc:
        raise Unavailable(
            f"{path}: cannot make the control socket: {exc.strerror}", remedy="set daemon.socket"
        ) from exc


def _gid_of(group: str) -> int | None:
    if not group:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        log.warning("socket.group_missing", group=group, remedy=f"groupadd --system {group}; until then root alone")
        return None


def _check_directory(directory: str, gid: int | None) -> None:
    """Who may write in the socket's directory may put another socket in its place, and be asked instead of podd."""
    if not os.path.isdir(directory):
        os.makedirs(directory, mode=0o750)
        if gid is not None:
            os.chown(directory, -1, gid)
    status = os.stat(directory)
    open_to_all = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
    if status.st_uid not in (0, os.geteuid()) or open_to_all:
        raise Denied(
            f"{directory}: others may replace what is in it",
            remedy=f"chown root {directory}; chmod o-w {directory}",
            path=directory,
        )


def _lock(path: str) -> int:
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise _in_use(path) from None
    return fd


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"{path}: something that is not a socket is there", remedy="move it away", path=path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog (EAGAIN) is a listener too
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise _in_use(path)


def _in_use(path: str) -> Conflict:
    return Conflict(f"{path}: another podd listens there", remedy="stop it, or set daemon.socket", path=path)


def _bind(path: str, gid: int | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), 0o600)  # before bind it is the mode of the file to come: at no moment is it wider
        sock.bind(path)
        if gid is not None:
            os.chown(path, -1, gid)
            os.chmod(path, 0o660)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
