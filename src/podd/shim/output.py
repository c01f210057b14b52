"""From the pipes or the terminal of a container to its log and its attachments."""

from __future__ import annotations

import errno
import os

from podd.shim.attach import STDERR, STDOUT, Hub
from podd.shim.logs import Log
from podd.shim.loop import READABLE, Later, Loop

READ_BYTES = 64 * 1024
"""As much as a pipe holds. One read for each turn of the loop: nobody waits long behind a chatty container."""

_STREAMS = {STDOUT: "stdout", STDERR: "stderr"}


class Output:
    """`drained` is set when every stream has come to its end and the log is closed."""

    __slots__ = ("_log", "_loop", "_open", "drained", "hub")

    def __init__(self, loop: Loop, log: Log, hub: Hub) -> None:
        self._loop = loop
        self._log = log
        self.hub = hub
        self._open: dict[int, int] = {}
        self.drained: Later[None] = Later()

    def read(self, fd: int, stream: int) -> None:
        """fd: the read end of a pipe, or a terminal's master side; nonblocking, owned from now on."""
        self._open[fd] = stream
        self._loop.watch(fd, READABLE, lambda _: self._on_readable(fd))

    def abandon(self) -> None:
        """Read no more, though somebody may still hold the other end, and end the attachments."""
        for fd in list(self._open):
            self._end(fd)
        self.hub.close()

    def _on_readable(self, fd: int) -> None:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError as exc:
            if exc.errno != errno.EIO:  # a terminal that nobody holds any more
                raise
            data = b""
        if not data:
            self._end(fd)
            return
        stream = self._open[fd]
        self._log.feed(_STREAMS[stream], data)
        self.hub.output(stream, data)

    def _end(self, fd: int) -> None:
        self._loop.forget(fd)
        os.close(fd)
        del self._open[fd]
        if not self._open:
            self._log.close()
            self.hub.end()
            self.drained.set(None)
