"""Run skopeo: each run a process group of its own, which ends with whoever waits for it, and with podd."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple

import anyio
import msgspec
from anyio.abc import Process

from podd.driver.hookspecs import ImagePlaces
from podd.errors import Unavailable
from podd.images import screen
from podd.images.screen import Screen

POLL_S = 0.2
STALL_S = 60.0
END_S = 30.0
"""How long the processes of one that was killed may take to end: one that waits for a disk ends when that answers."""
SAID_BYTES = 64 * 1024
"""How much of what it says is read."""
HOST_POLICY = "/etc/containers/policy.json"


class Failed(Exception):
    """It ended with another status than 0. args: what it wrote to stderr."""


class Scratch(NamedTuple):
    """Where one run keeps what it needs. output: the descriptor that it tells its steps to.

    As long as podd or skopeo has that descriptor, somebody works here.
    """

    directory: str
    output: int

    @property
    def errors(self) -> str:
        return f"{self.directory}/errors"


class Skopeo:
    """stall_s: how long a run may not read anything, be it from a registry or from the disk."""

    def __init__(self, places: ImagePlaces, *, stall_s: float = STALL_S) -> None:
        self._places = places
        self._stall_s = stall_s

    async def run(
        self,
        arguments: Sequence[str],
        scratch: Scratch,
        *,
        auth: Mapping[str, Any] | None = None,
        look: Callable[[], None] = lambda: None,
        shown: Callable[[str], None] | None = None,
    ) -> None:
        """Have it do something, and return when it is done.

        auth: a docker config.json that counts instead of the host's. look: called now and then. shown: takes what it
        draws on a terminal, which it is given then; what it fetches it tells to stderr instead.
        Raises Failed; Unavailable: it is not installed, or came to a standstill.
        """
        with _memory_file(auth) as fd, screen.opened(shown is not None) as terminal:
            file = self._places.auth_file if fd is None else f"/proc/self/fd/{fd}"
            verb, *rest = arguments
            given = ["--authfile", file] if file else []
            told = ["--debug"] if terminal else []
            command = [*_apart(), _program(), *told, *self._options(scratch), verb, *given, *rest]
            before = _size(scratch.errors)
            async with _started(command, scratch, [] if fd is None else [fd], terminal) as process:
                status = await self._followed(process, look, terminal, shown)
        if status is None:
            raise Unavailable(
                f"nothing came for {self._stall_s:g} s: the registry hangs",
                remedy="check the network and the registry, or use a mirror",
            )
        if status != 0:
            raise Failed(_read_end(scratch.errors, before))

    def _options(self, scratch: Scratch) -> Iterator[str]:
        yield from ("--tmpdir", scratch.directory)
        if self._places.registries:
            yield from ("--registries-conf", self._places.registries)
        if self._places.policy:
            yield from ("--policy", self._places.policy)
        elif not os.path.exists(HOST_POLICY):
            yield "--insecure-policy"

    async def _followed(
        self,
        process: Process,
        look: Callable[[], None],
        terminal: Screen | None,
        shown: Callable[[str], None] | None,
    ) -> int | None:
        """As _end_of; meanwhile the terminal is read, for a program whose terminal is full stands still."""
        async with anyio.create_task_group() as tasks:
            if terminal and shown:
                tasks.start_soon(terminal.follow, shown)
            status = await self._end_of(process, look)
            tasks.cancel_scope.cancel()
        return status

    async def _end_of(self, process: Process, look: Callable[[], None]) -> int | None:
        """Its status. None: it has come to a standstill."""
        moved, since = 0, anyio.current_time()
        while True:
            with anyio.move_on_after(POLL_S):
                return await process.wait()
            look()
            now = _read_bytes(process.pid)
            if now != moved:
                moved, since = now, anyio.current_time()
            elif anyio.current_time() - since > self._stall_s:
                return None


def _program() -> str:
    found = shutil.which("skopeo")
    if found is None:
        raise Unavailable("skopeo is not installed", remedy="apt-get install skopeo")
    return found


def _apart() -> list[str]:
    """It ends with podd, also with one that is killed. What it mounts to try out the file system nobody else sees, and
    that ends with it.
    """
    setpriv, unshare = shutil.which("setpriv"), shutil.which("unshare")
    dying = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    return [*dying, *([unshare, "--mount", "--"] if unshare and os.geteuid() == 0 else [])]


@contextmanager
def _memory_file(auth: Mapping[str, Any] | None) -> Iterator[int | None]:
    """Passwords are on no command line, and in no file that anybody could find."""
    if auth is None:
        yield None
        return
    fd = os.memfd_create("auth", os.MFD_CLOEXEC)
    try:
        os.write(fd, msgspec.json.encode(auth))
        yield fd
    finally:
        os.close(fd)


@asynccontextmanager
async def _started(
    command: Sequence[str], scratch: Scratch, keep: Sequence[int], terminal: Screen | None
) -> AsyncIterator[Process]:
    """It has ended with all that it started, when this ends: it unpacks layers in processes of their own, and what
    these still hold would pass for a pull that is under way.
    """
    held, given = os.pipe()
    try:
        try:
            with open(scratch.errors, "ab") as errors:  # noqa: ASYNC230  a few lines
                process = await anyio.open_process(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=terminal.slave if terminal else scratch.output,
                    stderr=errors,
                    start_new_session=True,
                    pass_fds=[*keep, scratch.output, given],  # that it has the output tells that somebody works there
                )
        finally:
            os.close(given)
        try:
            yield process
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with anyio.CancelScope(shield=True):
                    await process.wait()
            with anyio.move_on_after(END_S, shield=True):
                await anyio.wait_readable(held)
    finally:
        os.close(held)


def _read_bytes(pid: int) -> int:
    """What it has read so far, anywhere: to a terminal it writes also when nothing comes. Source: proc_pid_io(5)."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("rchar"))
    except OSError:
        return -1


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _read_end(path: str, since: int) -> str:
    """What it has said since there were so many bytes, but for what was on its way."""
    with open(path, "rb") as file:
        file.seek(max(since, _size(path) - SAID_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if " level=debug " not in line)
