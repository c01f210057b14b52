"""What a runtime holds before its program, and how it is let go.

runc's process waits in open(2) of a FIFO in the runtime's directory, and `runc start` does no more than open the other
end, read what comes, and remove the FIFO, which is how `runc state` knows that the container runs. To start a program
of ten megabytes for that would spread the members of a pod over tens of milliseconds; so the shim opens all the FIFOs
itself, one right after the other. crun's process waits for a byte from such a FIFO, which `crun start` removes and
writes to. Other runtimes hold in ways of their own: there `start` is called, for all at once.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from podd.errors import PoddError, Unavailable
from podd.shim.files import unlink
from podd.shim.loop import READABLE, Later

if TYPE_CHECKING:
    from podd.shim.loop import Loop
    from podd.shim.processes import Child
    from podd.shim.runtime.command import Runtime

FIFO = "exec.fifo"


class Gate:
    """Both a Barrier and a Passage. Owns its descriptor."""

    def __init__(self, process: Child, fd: int) -> None:
        self._process = process
        self._fd = fd
        self._passed: Later[int | PoddError] = Later()
        process.ended.when_done(self._on_ended)

    async def executed(self, command: str) -> int:  # noqa: ARG002 it was looked for before
        """When it was seen to have passed: what it does from there to its program tells nobody."""
        outcome = await self._passed
        if isinstance(outcome, PoddError):
            raise outcome
        return outcome

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _on_ended(self) -> None:
        self._passed.set(Unavailable("container: its process was killed before it could start"))


class Fifo(Gate):
    """runc's."""

    def __init__(self, loop: Loop, process: Child, path: str, fd: int = -1) -> None:
        """fd: of the FIFO, kept since an earlier attendant."""
        self._loop = loop
        self._path = path
        self._other_end = -1
        super().__init__(process, os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC) if fd < 0 else fd)

    def release(self) -> None:
        if self._fd < 0 or self._passed.done:
            return
        self._other_end = os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.watch(self._other_end, READABLE, self._on_readable)

    def _on_readable(self, _events: int) -> None:
        fd, self._other_end = self._other_end, -1
        self._loop.forget(fd)
        try:
            with suppress(BlockingIOError):
                if os.read(fd, 1):
                    self._passed.set(time.monotonic_ns())
                    unlink(self._path)
        finally:
            os.close(fd)

    def _on_ended(self) -> None:
        if self._other_end >= 0:  # it may have passed first
            self._on_readable(READABLE)
        super()._on_ended()


class Byte(Gate):
    """crun's."""

    def __init__(self, process: Child, path: str, fd: int = -1) -> None:
        """fd: as of Fifo."""
        self._path = path
        super().__init__(process, os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC) if fd < 0 else fd)

    def release(self) -> None:
        if self._fd < 0 or self._passed.done:
            return
        try:
            fd = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            if not os.path.lexists(self._path):  # nobody waits, as an earlier attendant has let it go; else it ended
                self._passed.set(time.monotonic_ns())
            return
        try:
            unlink(self._path)
            os.write(fd, b"\0")
            self._passed.set(time.monotonic_ns())
        finally:
            os.close(fd)


class Command(Gate):
    """Any runtime's."""

    def __init__(self, loop: Loop, process: Child, runtime: Runtime, container: str, log: str, fd: int = -1) -> None:
        """fd: any that an earlier attendant has kept."""
        self._loop = loop
        self._runtime = runtime
        self._container = container
        self._log = log
        self._is_released = False
        super().__init__(process, os.dup(process.pidfd) if fd < 0 else fd)

    def release(self) -> None:
        if not self._passed.done and not self._is_released:
            self._is_released = True
            self._loop.spawn(self._start())

    async def _start(self) -> None:
        try:
            await self._runtime.run(self._log, ["start", self._container], "container")
        except PoddError as exc:
            self._passed.set(exc)
        else:
            self._passed.set(time.monotonic_ns())

    def _on_ended(self) -> None:
        if not self._is_released:  # else the runtime knows best: a short program ends before `start` does
            super()._on_ended()
