"""A container that an OCI runtime makes, and one that the shim sees to in everything else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from podd.errors import Conflict, Invalid, PoddError
from podd.linux.cgroup import Layout
from podd.shim import stage
from podd.shim.container import KILL_SLICE_S, Container, Pipes, Places, Pod, kill_group
from podd.shim.failure import doing
from podd.shim.files import remove_tree
from podd.shim.processes import Child, cgroup_of
from podd.shim.rootfs import tidy
from podd.shim.runtime.bundle import CONSOLE, LOG, PID, Bundle, laid_out
from podd.shim.runtime.command import Console, Runtime
from podd.shim.runtime.gate import FIFO, Byte, Command, Fifo
from podd.shim.wire import Descriptors

if TYPE_CHECKING:
    from podd.shim.held import Passage
    from podd.shim.plan import ContainerPlan, ExitRecord, LimitsPlan

SIGKILL = 9


class RuntimeContainer(Container):
    """See Container. Once it is created nothing of the runtime runs: its process is the keeper's child."""

    def __init__(
        self,
        pod: Pod,
        plan: ContainerPlan,
        on_exit: Callable[[Container, ExitRecord], None],
        runtime: Runtime,
    ) -> None:
        super().__init__(pod, plan, on_exit)
        self.bundle = Bundle(Places.of(pod, self.id).bundle)
        self.runtime = runtime
        self._subject = f"container {plan['name']}"
        self._creating: Child | None = None

    # ---- making ------------------------------------------------------------------------------------------------------

    def _limits_while_made(self) -> LimitsPlan:
        return {**super()._limits_while_made(), "pids": None}  # see Runtime.room

    async def _begin(
        self, pipes: Pipes | None, target: Container | None, given: Descriptors
    ) -> tuple[Passage, list[str]]:
        try:
            with self.runtime.room():
                return await self._have_created(pipes, target, given)
        except (PoddError, OSError) as exc:
            if not (self._group.oom_kills() or "OOM-killed" in str(exc)):  # runc may have removed the group
                raise
            raise Invalid(
                f"{self._subject}: {self.runtime.plan['name']} needs more memory to make it than its limit allows",
                remedy="raise resources.limits.memory: 16Mi are enough",
            ) from exc

    async def _have_created(
        self, pipes: Pipes | None, target: Container | None, given: Descriptors
    ) -> tuple[Passage, list[str]]:
        notes = await self._create_by_runtime(pipes, target, given)
        self.process = self._pod.keeping.add_child(self.bundle.pid())
        gate = self._gate(self.process)
        self._hold = gate
        try:
            self._have_grouped(self.process.pid)
            # A script's interpreter, and the like.
            stage.look(self.plan, self.plan["argv"], {}, self.process.pidfd, self.identity)
        except BaseException:
            gate.close()
            raise
        return gate, notes

    async def _create_by_runtime(self, pipes: Pipes | None, target: Container | None, given: Descriptors) -> list[str]:
        with ExitStack() as stack:
            stack.callback(Descriptors(pipes.child if pipes else ()).close)
            await self.runtime.be_ready()
            await self._forget_earlier()
            os.makedirs(self.bundle.directory, 0o700, exist_ok=True)
            console = Console(self.bundle.directory, CONSOLE) if pipes is None else None
            if console is not None:
                stack.callback(console.close)
            beside = ""
            if target is not None and self._pod.plan["pid"] == "container":
                beside = _pid_namespace(target, stack)
            notes = await self._run_create(pipes, beside)
            if console is not None:
                given.add(console.master().take())
            return notes

    async def _run_create(self, pipes: Pipes | None, beside: str) -> list[str]:
        directory, log = self.bundle.directory, self.bundle.path(LOG)
        words = ["create", "--bundle", directory, "--pid-file", self.bundle.path(PID)]
        if pipes is None:
            words += ["--console-socket", CONSOLE]
        with tidy():
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            stdio = pipes.child if pipes else (null, null, null)
            with laid_out(self.bundle, self._pod.plan, self.plan, beside) as (self.identity, notes):
                pid = self.runtime.spawn(log, [*words, self.id], stdio, directory)
        self._creating = self._pod.keeping.add_child(pid)
        try:
            await self.runtime.finished(self._creating, log, self._subject)
        finally:
            self._creating = None
        return notes

    async def _forget_earlier(self) -> None:
        """What an attendant has left that failed while it made this container."""
        if self.runtime.knows(self.id):
            await kill_group(self._pod.loop, self._group)
            await self._delete()
            remove_tree(self.runtime.state(self.id))
            self._group.create()
            self._group.apply(self._limits_while_made())

    def _have_grouped(self, pid: int) -> None:
        """In every hierarchy that podd limits it in, whichever of them the runtime cares for."""
        if cgroup_of(pid, self._group.layout, self._group.path) != self._group.path:
            with doing("cgroup"):
                self._group.add(pid)

    def _gate(self, process: Child, fd: int = -1) -> Fifo | Byte | Command:
        name, path = self.runtime.plan["name"], f"{self.runtime.state(self.id)}/{FIFO}"
        if name == "runc":
            return Fifo(self._pod.loop, process, path, fd)
        if name == "crun":
            return Byte(process, path, fd)
        return Command(self._pod.loop, process, self.runtime, self.id, self.bundle.path(LOG), fd)

    def _resume(self, sync: int, hold: int) -> Passage:
        assert self.process is not None
        os.close(sync)  # the same as the other
        gate = self._gate(self.process, hold)
        self._hold = gate
        return gate

    # ---- removing ----------------------------------------------------------------------------------------------------

    async def destroy(self) -> None:
        if self._creating is not None:
            self._creating.signal(SIGKILL)
        await super().destroy()

    async def _remove(self) -> None:
        await self._delete()
        await super()._remove()

    async def _delete(self) -> None:
        """Have the runtime forget it. What it cannot do itself is left to `remove`, which needs no runtime.

        All that runc has of a container whose processes are dead is its directory, which `remove` takes away, and a
        group in each hierarchy; to start runc for that takes ten times as long.
        """
        if self.runtime.plan["name"] == "runc":
            Layout.everywhere().group(self._group.path).remove(KILL_SLICE_S)
        elif self.runtime.knows(self.id):
            with suppress(PoddError):
                await self.runtime.run(self.bundle.path(LOG), ["delete", "--force", self.id], self._subject)


def _pid_namespace(target: Container, stack: ExitStack) -> str:
    """A path to it that leads to no other, whatever becomes of the target, until the stack is unwound."""
    assert target.process is not None
    pidfd = target.pidfd
    try:
        fd = os.open(f"/proc/{target.process.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        signal.pidfd_send_signal(pidfd, 0)  # so its number was no other's
    except (FileNotFoundError, ProcessLookupError) as exc:
        raise Conflict("the container whose processes it is to share has ended") from exc
    return f"/proc/{os.getpid()}/fd/{fd}"
