"""One container in the shim: made by the maker, released, watched, written down, taken away."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from podd.errors import Conflict, PoddError, Unavailable
from podd.shim.attach import STDERR, STDOUT, Hub, Input
from podd.shim.files import removal, unlink, write_json
from podd.shim.held import Hold, Reports
from podd.shim.logs import Log
from podd.shim.loop import Later, Loop
from podd.shim.output import Output
from podd.shim.processes import Child, Ended

if TYPE_CHECKING:
    import socket

    from podd.linux.cgroup import Group
    from podd.shim.maker import Maker
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
    maker: Maker


class Container:
    """`created` is set with its report, or why there is none; `ended` when it has ended and its exit is on disk.

    on_exit is called when `ended` is set.
    """

    def __init__(self, pod: Pod, plan: ContainerPlan, on_exit: Callable[[Container, ExitRecord], None]) -> None:
        self.plan = plan
        self.id = plan["id"]
        self.state: Literal["creating", "created", "running", "exited"] = "creating"
        self.process: Child | None = None
        self.created: Later[ContainerReport | Exception] = Later()
        self.started: Later[StartReport] = Later()
        self.ended: Later[ExitRecord] = Later()
        self._pod = pod
        self._group = pod.group.child(self.id)
        self._layer = f"{pod.plan['containers_dir']}/{pod.plan['id']}/{self.id}"
        self._record_path = f"{pod.plan['run_dir']}/exits/{self.id}.json"
        self._on_exit = on_exit
        self._hold = Hold(-1)
        self._hub: Hub | None = None
        self._output: Output | None = None
        self._is_doomed = False

    # ---- making ------------------------------------------------------------------------------------------------------

    async def create(self) -> None:
        """Set `created`. After a failure nothing of the container is left."""
        try:
            report, fds = await self._pod.maker.ask("container", {"container": self.plan}, forked=self._on_forked)
            sync, hold, *stdio = fds.take()
            self._hold = Hold(hold)
            self._connect(stdio)
            self._pod.loop.spawn(self._follow(Reports(self._pod.loop, sync)))
            if self._is_doomed:
                raise Conflict(f"container {self.id}: destroyed while it was being made")
        except Exception as exc:  # noqa: BLE001 - it is answered to whoever asked
            await self._undo()
            self.created.set(exc)
            return
        self.state = "created"
        self.created.set(report)  # type: ignore[arg-type]

    def _on_forked(self, pid: int) -> None:
        self.process = Child(self._pod.loop, pid)
        if self._is_doomed:
            self.process.signal(SIGKILL)

    def _connect(self, stdio: list[int]) -> None:
        """stdio: stdout, stderr and perhaps stdin; or a terminal's master."""
        loop, tty = self._pod.loop, self.plan["tty"]
        if tty:
            stdio.append(os.dup(stdio[0]))
        for fd in stdio:
            os.set_blocking(fd, False)
        log = Log(self.plan["log_path"], self.plan["log_max_bytes"], self.plan["log_max_files"])
        outputs = 1 if tty else 2
        given = Input(loop, stdio[outputs], is_terminal=tty) if stdio[outputs:] else None
        self._hub = Hub(loop, given, stdin_once=self.plan["stdin_once"])
        self._output = Output(loop, log, self._hub)
        for fd, stream in zip(stdio[:outputs], (STDOUT, STDERR), strict=False):
            self._output.read(fd, stream)

    async def _undo(self) -> None:
        """After a failed create."""
        self._hold.close()
        if self.process is not None:
            self.process.signal(SIGKILL)
            await self.process.ended
        if self._output is not None:
            self._output.abandon()
        with suppress(PoddError, OSError):  # destroy_container and shutdown meet what is left
            await kill_group(self._pod.loop, self._group)
            await self._remove()

    # ---- running -----------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Let the held process go. Nothing else is done here: the members of a pod start together."""
        self._hold.release()

    def signal(self, number: int) -> None:
        """To the first process; SIGKILL to all. To a container that has ended: nothing."""
        if self.state == "exited" or self.process is None:
            return
        self.process.signal(number)
        if number == SIGKILL:
            self._pod.loop.spawn(kill_group(self._pod.loop, self._group))

    def attach(self, *, stdin: bool) -> socket.socket:
        """Raises Conflict: it does not run."""
        if self.state not in ("created", "running") or self._hub is None:
            raise Conflict(f"container {self.plan['name']}: attach: it is {self.state}")
        return self._hub.attach(stdin=stdin)

    async def _follow(self, reports: Reports) -> None:
        """From the release to the exit, and everything that belongs to it."""
        assert self.process is not None
        assert self._output is not None
        start = await self._await_release(reports)
        ended = await self.process.ended
        finished_at_ns = time.time_ns()
        with suppress(PoddError, OSError):  # what cannot be killed is for destroy_container to report
            await kill_group(self._pod.loop, self._group)
        self._pod.loop.after(DRAIN_S, self._output.abandon)
        await self._output.drained
        if self.created.done and isinstance(self.created.value, Exception):
            return
        record = self._record(ended, start, finished_at_ns)
        with suppress(OSError):  # nowhere to write it: who is connected learns it still
            write_json(self._record_path, record)
        self.state = "exited"
        self.ended.set(record)
        self._on_exit(self, record)

    async def _await_release(self, reports: Reports) -> StartReport:
        assert self.process is not None
        report: StartReport = {
            "id": self.id,
            "pid": self.process.pid,
            "started_at_ns": 0,
            "released_ns": 0,
            "error": "",
        }
        try:
            report["released_ns"] = await reports.executed()
            report["started_at_ns"] = time.time_ns() - (time.monotonic_ns() - report["released_ns"])
            self.state = "running"
        except PoddError as exc:
            report["error"] = str(exc)
        reports.close()
        self._hold.close()
        self.started.set(report)
        return report

    def _record(self, ended: Ended, start: StartReport, finished_at_ns: int) -> ExitRecord:
        ran = not start["error"]
        return {
            "code": ended.code,
            "signal": ended.signal,
            "oom_killed": ended.code == 128 + SIGKILL and bool(self._group.oom_kills()),
            "started_at_ns": start["started_at_ns"] if ran else None,
            "finished_at_ns": finished_at_ns,
            "reason": "" if ran else "StartError",
            "message": start["error"],
        }

    def status(self) -> ContainerState:
        """Of a container that has been created."""
        assert self.process is not None
        assert self.state != "creating"
        alive = self.state != "exited"
        start = self.started.value if self.started.done else None
        return {
            "state": self.state,
            "name": self.plan["name"],
            "pid": self.process.pid if alive else None,
            "starttime_ticks": self.process.starttime_ticks if alive else None,
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
        await kill_group(self._pod.loop, self._group)
        if not isinstance(outcome, Exception):
            await self.ended
        if self._hub is not None:
            self._hub.close()
        await self._remove()

    async def _remove(self) -> None:
        self._group.remove(KILL_SLICE_S)
        for _ in removal(self._layer):
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
