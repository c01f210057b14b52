"""Members that wait before their program, while dockerd takes them for running.

podd's OCI runtime answers dockerd's `start` without having done it, once, where a mark says so. What runc made goes on
waiting in open(2) of a FIFO in runc's directory. To open the other end, read what comes and remove the FIFO is all that
`runc start` does, and it is done here, for all members at one moment. As long as the FIFO is there a member waits: so
`runc state` knows it, too. Nothing of it need be remembered, and podd and dockerd may both be away meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from glob import escape, glob
from typing import NamedTuple

import anyio

from podd.linux.process import PidIdentity, boot_id, identity, open_pidfd
from podd.shim.files import unlink
from podd_docker.api import Api
from podd_docker.handles import Hold

NAMESPACE = "moby"  # dockerd's, in containerd
FIFO = "exec.fifo"
_RELEASED = "released"
LOOK_S = 0.1
"""Who waits at a FIFO and is let go writes at once. Who does not may not be there any more."""


class Held(NamedTuple):
    """A member that waits."""

    id: str
    sandbox: str
    docker_id: str
    hold: Hold


class Holds:
    """exec_root: dockerd's; its OCI runtimes keep there what they know. folder: see Host; of each member that was let
    go it has a note of when."""

    def __init__(self, exec_root: str, folder: str) -> None:
        self._exec_root = exec_root
        self._folder = folder

    # ---- holding

    async def start(self, api: Api, docker_id: str) -> None:
        """Have dockerd make its process, and no more. Raises as Api.post."""
        await anyio.to_thread.run_sync(self._mark, docker_id)
        try:
            await api.post(f"containers/{docker_id}/start")
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.unmark, docker_id)

    def _mark(self, docker_id: str) -> None:
        """Have the next start of the container be none."""
        path = self._mark_of(docker_id)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def unmark(self, docker_id: str) -> None:
        """Of one that has none: nothing."""
        unlink(self._mark_of(docker_id))

    def waits(self, docker_id: str) -> bool:
        return bool(self._fifo(docker_id))

    def of(self, docker_id: str, pid: int) -> Hold | None:
        """None: it does not wait. pid: of its process."""
        with suppress(ProcessLookupError, FileNotFoundError):
            if self.waits(docker_id):
                return Hold(pid=pid, starttime_ticks=identity(pid).starttime_ticks, program=_program(pid))
        return None

    def _mark_of(self, docker_id: str) -> str:
        return f"{self._exec_root}/podd-hold/{docker_id}"

    def _fifo(self, docker_id: str) -> str:
        """ "" for none. A runtime's directory is not always called like the runtime: Docker 20.10 has one for all."""
        found = glob(f"{escape(self._exec_root)}/runtime-*/{NAMESPACE}/{docker_id}/{FIFO}")
        return found[0] if found else ""

    # ---- letting go

    async def release(self, members: Sequence[Held]) -> dict[str, int | None]:
        """Returns, by id, when each was seen to have passed, CLOCK_REALTIME in ns; None: it was killed before.

        Those that had passed already are not among them.
        """
        gates: list[_Gate] = []
        try:
            await anyio.to_thread.run_sync(self._open, members, gates)
            async with anyio.create_task_group() as tasks:
                for gate in gates:
                    tasks.start_soon(gate.pass_through)
            await anyio.to_thread.run_sync(self._settle, gates)
        finally:
            for gate in gates:
                gate.close()
        return {gate.held.id: gate.passed_ns for gate in gates if not gate.is_left}

    def _open(self, members: Sequence[Held], gates: list[_Gate]) -> None:
        """What can take long, or fail, before the first is let go; then one right after the other."""
        for held in members:
            if gate := self._gate(held):
                gates.append(gate)
                if self.released_ns(held.sandbox, held.id) is None:
                    self._note(held, time.time_ns())
        for gate in gates:
            gate.open()

    def _gate(self, held: Held) -> _Gate | None:
        """None: it has passed."""
        path = self._fifo(held.docker_id)
        if not path:
            return None
        gate = _Gate(held, path)
        with suppress(ProcessLookupError):
            gate.pidfd = open_pidfd(PidIdentity(held.hold.pid, held.hold.starttime_ticks, boot_id()))
        return gate

    def _settle(self, gates: Sequence[_Gate]) -> None:
        for gate in gates:
            if gate.is_left:
                unlink(gate.path)
            elif gate.passed_ns is None:
                unlink(self._notes(gate.held.sandbox, gate.held.id))
            else:
                unlink(gate.path)
                self._note(gate.held, gate.passed_ns)

    # ---- notes of when

    def released_ns(self, sandbox: str, container: str) -> int | None:
        """CLOCK_REALTIME. None: it was never let go."""
        try:
            with open(self._notes(sandbox, container), encoding="ascii") as file:
                return int(file.read())
        except FileNotFoundError:
            return None

    def _note(self, held: Held, at_ns: int) -> None:
        path = self._notes(held.sandbox, held.id)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(str(at_ns))
        os.rename(f"{path}.new", path)

    def _notes(self, sandbox: str, container: str) -> str:
        return f"{self._folder}/sandboxes/{sandbox}/{container}/{_RELEASED}"


class _Gate:
    """What one member waits at. pidfd: of its process; -1: it is gone. passed_ns: when it was seen to pass.

    is_left: it had passed before. A podd that was killed between letting it go and removing the FIFO has left that.
    """

    def __init__(self, held: Held, path: str) -> None:
        self.held, self.path = held, path
        self.pidfd = -1
        self.passed_ns: int | None = None
        self.is_left = False
        self._fd = -1

    def open(self) -> None:
        """Lets it go."""
        if self.pidfd >= 0:
            with suppress(FileNotFoundError):  # somebody else has just let it go, by hand
                self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)

    async def pass_through(self) -> None:
        """Until it has, or has died."""
        while self._fd >= 0 and not self.is_left:
            with anyio.move_on_after(LOOK_S):
                await self._readable()
                break
            self.is_left = await anyio.to_thread.run_sync(self._is_at_its_program)
        with suppress(BlockingIOError):  # it may have passed, and died since
            if self._fd >= 0 and os.read(self._fd, 1):
                self.passed_ns, self.is_left = time.time_ns(), False

    async def _readable(self) -> None:
        """Return when it has written, or died."""
        async with anyio.create_task_group() as tasks:

            async def until_dead() -> None:
                await anyio.wait_readable(self.pidfd)
                tasks.cancel_scope.cancel()

            tasks.start_soon(until_dead)
            await anyio.wait_readable(self._fd)
            tasks.cancel_scope.cancel()

    def _is_at_its_program(self) -> bool:
        with suppress(ProcessLookupError, FileNotFoundError):
            return _program(self.held.hold.pid) != self.held.hold.program
        return False

    def close(self) -> None:
        for fd in (self.pidfd, self._fd):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self._fd = -1


def _program(pid: int) -> str:
    """Which file it executes: another one once it has become its program. Raises FileNotFoundError: it is gone."""
    found = os.stat(f"/proc/{pid}/exe")
    return f"{found.st_dev}:{found.st_ino}"
