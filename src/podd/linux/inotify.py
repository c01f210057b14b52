"""Be told when files of one directory are complete, renamed or removed. inotify(7)."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _DELETE = 0x8, 0x40, 0x80, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_ONLYDIR = 0x0100_0000
_WATCHED = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE | _DELETE_SELF | _MOVE_SELF

_BUFFER = 64 * 1024


class Watch:
    """A file that is half written makes no event: it is heard of when its writer closes it, or renames it to its place.

    The descriptor is readable when there is something to `drain`. If the directory itself goes, that is the last event.
    """

    def __init__(self, directory: str) -> None:
        """Raises OSError: it is not there, is no directory, or fs.inotify.max_user_instances is reached."""
        self.fd = _check("inotify_init1", _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            path = os.fsencode(directory)
            _check("inotify_add_watch", _libc.inotify_add_watch(self.fd, path, _WATCHED | _ONLYDIR), directory)
        except OSError:
            self.close()
            raise

    def drain(self) -> None:
        """Take the events that have come: which they were does not matter, a look at the directory tells more."""
        try:
            while os.read(self.fd, _BUFFER):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self.fd)


def _check(call: str, ret: int, path: str | None = None) -> int:
    if ret < 0:
        err = ctypes.get_errno()
        raise OSError(err, f"{call}: {os.strerror(err)}", path)
    return ret
