"""One container from fork to removal: held, released, watched, written down, taken away."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from podd.errors import Conflict, PoddError, Unavailable
from podd.linux.cgroup import Group
from podd.linux.process import namespaces
from podd.shim import stage
from podd.shim.attach import STDERR, STDOUT, Hub, Input
from podd.shim.files import removal, unlink, write_json
from podd.shim.held import Held
from podd.shim.logs import Log
from podd.shim.loop import Later, Loop
from podd.shim.output import Output
from podd.shim.processes import Child, Ended, cgroup_of, entrance
from podd.shim.stage import ChildFds

if TYPE_CHECKING:
    import socket

    from podd.shim.plan import ContainerPlan, ContainerReport, ContainerState, ExitRecord, SandboxPlan, StartReport

SIGKILL = 9
KILL_SLICE_S = 0.02
"""How long the loop may stand still for the end of processes that were killed; it takes about a millisecond."""

KILL_S = 10.0
"""How long killed processes may take to end, uninterruptible sleep included, before a request fails."""

DRAIN_S = 2.0
"""How long output is awaited after the container's last process has ended."""


class Pod(NamedTuple):
    """What every container of a pod needs to know of it."""

    loop: Loop
    plan: SandboxPlan
    group: Group


class Stdio(NamedTuple):
    """Both ends of a container's input and output, each of them owned. -1 for none."""

    child: tuple[int, int, int]
    stdin: int
    stdout: int
    stderr: int


class Container:
    """`ended` is set when the container has ended and its exit is on disk; on_exit is called then, once."""

    def __init__(self, pod: Pod, plan: ContainerPlan, on_exit: Callable[[Container, ExitRecord], None]) -> None:
        self.plan = plan
        self.id = plan["id"]
        self.state: Literal["creating", "created", "running", "exited"] = "creating"
        self.created: Later[ContainerReport | Exception] = Later()
        self.ended: Later[ExitRecord] = Later()
        self.group = pod.group.child(self.id)
        self.layer = f"{pod.plan['containers_dir']}/{pod.plan['id']}/{self.id}"
        self._pod = pod
        self._on_exit = on_exit
        self._held: Held | None = None
        self.started: Later[StartReport] = Later()
        self._hub: Hub | None = None
        self._output: Output | None = None
        self._is_doomed = False

    @property
    def process(self) -> Child | None:
        """The first process; None before it is forked."""
        return None if self._held is None else self._held.process

    # ---- making ------------------------------------------------------------------------------------------------------

    async def create(self) -> None:
        """Set `created`: to the report of the held container, or to why there is none; then nothing of it is left."""
        try:
            report = await self._create()
        except Exception as exc:  # noqa: BLE001 - it is answered to whoever asked
            await self._undo()
            self.state = "exited"
            self.created.set(exc)
            return
        self.state = "created"
        self.created.set(report)
        self._pod.loop.spawn(self._follow())

    async def _create(self) -> ContainerReport:
        self.group.create()
        limits = self.plan["limits"]
        notes = [f"{name}: this host has nothing to enforce it" for name in self.group.apply(limits)]
        stdio = None if self.plan["tty"] else _pipes(self.plan["stdin"])
        try:
            self._held = self._fork(stdio)
        except BaseException:
            _close(stdio, ours=True)
            raise
        finally:
            _close(stdio, ours=False)
        if stdio is not None:
            self._connect(stdio)
        said, terminal = await self._held.ready()
        if terminal >= 0:
            self._connect(Stdio((-1, -1, -1), os.dup(terminal), terminal, -1))
        if self._is_doomed:
            raise Conflict(f"container {self.id}: destroyed while it was being made")
        process = self._held.process
        return {
            "id": self.id,
            "pid": process.pid,
            "starttime_ticks": process.starttime_ticks,
            "namespaces": namespaces(process.pid),
            "cgroup": cgroup_of(process.pid, self.group.layout, self.group.path),
            "limits": self.group.read_limits(limits),
            "notes": notes + said,
        }

    def _fork(self, stdio: Stdio | None) -> Held:
        pod, plan = self._pod.plan, self.plan
        with entrance(self.group) as (born_in, cgroups):
            return Held(
                self._pod.loop,
                lambda: stage.fork_container(pod, born_in),
                lambda sync, hold: stage.container_child(
                    pod, plan, ChildFds(sync, hold, stdio and stdio.child, cgroups)
                ),
                holds=True,
            )

    def _connect(self, stdio: Stdio) -> None:
        loop = self._pod.loop
        for fd in (stdio.stdin, stdio.stdout, stdio.stderr):
            if fd >= 0:
                os.set_blocking(fd, False)
        given = Input(loop, stdio.stdin, is_terminal=self.plan["tty"]) if stdio.stdin >= 0 else None
        self._hub = Hub(loop, given, stdin_once=self.plan["stdin_once"])
        log = Log(self.plan["log_path"], self.plan["log_max_bytes"], self.plan["log_max_files"])
        self._output = Output(loop, log, self._hub)
        self._output.read(stdio.stdout, STDOUT)
        if stdio.stderr >= 0:
            self._output.read(stdio.stderr, STDERR)

    async def _undo(self) -> None:
        """After a failed create. The process, if there was one, is reaped."""
        if self._held is not None:
            await self._held.end()
        if self._output is not None:
            self._output.abandon()
        with contextlib.suppress(PoddError, OSError):  # destroy_container and shutdown meet what is left
            await kill_group(self._pod.loop, self.group)
            await self._remove()

    # ---- running -----------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Let the held process go. Nothing else is done here: the members of a pod start together."""
        if self._held is not None:
            self._held.release()

    def signal(self, number: int) -> None:
        """To the first process; SIGKILL to all. To a container that has ended: nothing."""
        if self.state == "exited" or self.process is None:
            return
        self.process.signal(number)
        if number == SIGKILL:
            self._pod.loop.spawn(kill_group(self._pod.loop, self.group))

    def attach(self, *, stdin: bool) -> socket.socket:
        """Raises Conflict: it does not run."""
        if self.state not in ("created", "running") or self._hub is None:
            raise Conflict(f"container {self.plan['name']}: attach: it is {self.state}")
        return self._hub.attach(stdin=stdin)

    async def _follow(self) -> None:
        """From the release to the exit, and everything that belongs to it."""
        assert self._held is not None
        process = self._held.process
        self._pod.loop.spawn(self._await_release())
        ended = await process.ended
        finished_at_ns = time.time_ns()
        start = await self.started
        with contextlib.suppress(PoddError, OSError):  # what cannot be killed is for destroy_container to report
            await kill_group(self._pod.loop, self.group)
        assert self._output is not None
        self._pod.loop.after(DRAIN_S, self._output.abandon)
        await self._output.drained
        record = self._record(ended, start, finished_at_ns)
        with contextlib.suppress(OSError):  # nowhere to write it: who is connected learns it still
            write_json(self._record_path, record)
        self.state = "exited"
        self.ended.set(record)
        self._on_exit(self, record)

    async def _await_release(self) -> None:
        assert self._held is not None
        report: StartReport = {
            "id": self.id,
            "pid": self._held.process.pid,
            "started_at_ns": 0,
            "released_ns": 0,
            "error": "",
        }
        try:
            report["released_ns"] = await self._held.executed()
            report["started_at_ns"] = time.time_ns() - (time.monotonic_ns() - report["released_ns"])
            self.state = "running"
        except PoddError as exc:
            report["error"] = str(exc)
        self.started.set(report)

    def _record(self, ended: Ended, start: StartReport, finished_at_ns: int) -> ExitRecord:
        ran = not start["error"]
        return {
            "code": ended.code,
            "signal": ended.signal,
            "oom_killed": ended.code == 128 + SIGKILL and bool(self.group.oom_kills()),
            "started_at_ns": start["started_at_ns"] if ran else None,
            "finished_at_ns": finished_at_ns,
            "reason": "" if ran else "StartError",
            "message": start["error"],
        }

    # ---- telling -----------------------------------------------------------------------------------------------------

    def status(self) -> ContainerState:
        process = self.process
        assert process is not None
        assert self.state != "creating"
        start = self.started.value if self.started.done else None
        return {
            "state": self.state,
            "name": self.plan["name"],
            "pid": process.pid if self.state != "exited" else None,
            "starttime_ticks": process.starttime_ticks if self.state != "exited" else None,
            "started_at_ns": start["started_at_ns"] if start and not start["error"] else None,
            "exit": self.ended.value if self.ended.done else None,
        }

    # ---- removing ----------------------------------------------------------------------------------------------------

    async def destroy(self) -> None:
        """Kill, reap and remove; again: what the first time could not. Raises Unavailable: something stays."""
        self._is_doomed = True
        if self.process is not None:
            self.process.signal(SIGKILL)
        outcome = await self.created
        await kill_group(self._pod.loop, self.group)
        if not isinstance(outcome, Exception):
            await self.ended
        if self._hub is not None:
            self._hub.close()
        await self._remove()

    @property
    def _record_path(self) -> str:
        return f"{self._pod.plan['run_dir']}/exits/{self.id}.json"

    async def _remove(self) -> None:
        self.group.remove(KILL_SLICE_S)
        for _ in removal(self.layer):
            await self._pod.loop.sleep(0)
        unlink(self._record_path)


async def kill_group(loop: Loop, group: Group) -> None:
    """Kill all in a group; return when none is left. Of no such group: nothing. Raises Unavailable: some stay."""
    deadline = time.monotonic() + KILL_S
    while True:
        try:
            group.kill_all(KILL_SLICE_S)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        else:
            return
        await loop.sleep(KILL_SLICE_S)


def _pipes(has_stdin: bool) -> Stdio:
    stdout, child_stdout = os.pipe2(os.O_CLOEXEC)
    stderr, child_stderr = os.pipe2(os.O_CLOEXEC)
    if has_stdin:
        child_stdin, stdin = os.pipe2(os.O_CLOEXEC)
    else:
        child_stdin, stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1
    return Stdio((child_stdin, child_stdout, child_stderr), stdin, stdout, stderr)


def _close(stdio: Stdio | None, *, ours: bool) -> None:
    if stdio is None:
        return
    for fd in stdio[1:] if ours else stdio.child:
        if fd >= 0:
            os.close(fd)
