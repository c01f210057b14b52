"""One container: made, held, released, watched, written down, taken away."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict

from podd.errors import Conflict, PoddError, Unavailable
from podd.linux.process import namespaces, starttime_ticks
from podd.shim import held, stage
from podd.shim.credentials import Identity
from podd.shim.files import removal, unlink, write_json
from podd.shim.held import Barrier, Hold, Passage, Reports
from podd.shim.home import unthrottled
from podd.shim.loop import Later, Loop
from podd.shim.processes import Child, Ended, cgroup_of, entrance
from podd.shim.stage import Birth, ChildFds, Staged
from podd.shim.wire import Descriptors

if TYPE_CHECKING:
    import socket

    from podd.linux.cgroup import Group
    from podd.shim.keeping import Keeping
    from podd.shim.plan import (
        ContainerPlan,
        ContainerReport,
        ContainerState,
        ExitRecord,
        LimitsPlan,
        SandboxPlan,
        StartReport,
    )

SIGKILL = 9
KILL_SLICE_S = 0.02
"""How long the loop may stand still for the end of processes that were killed; it takes about a millisecond."""

KILL_S = 10.0
"""How long killed processes may take to end, uninterruptible sleep included, before a request fails."""

DRAIN_S = 2.0
"""How long output is awaited after the container's last process has ended."""


class Pod(NamedTuple):
    """What every container of a pod needs to know of it. save: write the state down for the next attendant."""

    loop: Loop
    plan: SandboxPlan
    group: Group
    keeping: Keeping
    save: Callable[[], None]


class Made(TypedDict):
    """What does not change of a container once it is created; in a file of its own."""

    plan: ContainerPlan
    report: ContainerReport
    identity: Identity


class Saved(TypedDict):
    """What became of it since; absent when nothing has."""

    start: StartReport | None
    exit: ExitRecord | None


class Container:
    """`created` is set with its report, or why there is none; `ended` when it has ended and its exit is on disk.

    on_exit is called when `ended` is set.
    """

    def __init__(self, pod: Pod, plan: ContainerPlan, on_exit: Callable[[Container, ExitRecord], None]) -> None:
        self.plan = plan
        self.id = plan["id"]
        self.state: Literal["creating", "created", "running", "exited"] = "creating"
        self.process: Child | None = None
        self.identity = Identity(0, 0, (), "/")  # who it is, once it is created
        self.created: Later[ContainerReport | Exception] = Later()
        self.started: Later[StartReport] = Later()
        self.ended: Later[ExitRecord] = Later()
        self._pod = pod
        self._group = pod.group.child(self.id)
        self._places = Places.of(pod, self.id)
        self._on_exit = on_exit
        self._hold: Barrier = Hold(-1)
        self._is_doomed = False
        self._is_released = False
        self._is_killed = False  # by us, and not by the kernel
        self._works = 0

    @property
    def is_busy(self) -> bool:
        """Something has begun that must be finished by this attendant."""
        return self._works > 0 or (self._is_released and not self.started.done)

    @contextmanager
    def _work(self) -> Iterator[None]:
        self._works += 1
        try:
            yield
        finally:
            self._works -= 1

    # ---- making ------------------------------------------------------------------------------------------------------

    async def create(self, target: Container | None = None) -> None:
        """Set `created`. After a failure nothing of the container is left. target: as the plan's pid_target."""
        with self._work():
            try:
                report, reports = await self._create(target)
            except Exception as exc:  # noqa: BLE001 - it is answered to whoever asked
                await self._undo()
                self.created.set(exc)
                return
            self.state = "created"
            self.created.set(report)
            made: Made = {"plan": self.plan, "report": report, "identity": self.identity}
            write_json(self._places.made, made)
        self._pod.loop.spawn(self._follow(reports))

    async def _create(self, target: Container | None) -> tuple[ContainerReport, Passage]:
        self._group.create()
        self._group.die_together()
        while_made = self._limits_while_made()
        unenforced = self._group.apply(while_made)
        pipes = None if self.plan["tty"] else Pipes.make(has_stdin=self.plan["stdin"])
        given = Descriptors(pipes.ours if pipes else ())
        try:
            reports, said = await self._begin(pipes, target, given)
            try:
                self._pod.keeping.keep_container(self.plan, reports.fileno(), self._hold.fileno(), list(given))
                if self._is_doomed:
                    raise Conflict(f"container {self.id}: destroyed while it was being made")
                unenforced += self._group.apply(self.plan["limits"], before=while_made)
                notes = [f"{name}: this host has nothing to enforce it" for name in dict.fromkeys(unenforced)]
                return self._observe(notes + said), reports
            except BaseException:
                reports.close()
                raise
        finally:
            given.close()

    def _limits_while_made(self) -> LimitsPlan:
        """Of those that it has before its first instruction: what need not be waived for its making."""
        return unthrottled(self.plan["limits"])

    async def _begin(
        self, pipes: Pipes | None, target: Container | None, given: Descriptors
    ) -> tuple[Passage, list[str]]:
        """Have `process`, which waits on `_hold`, and what was done without. A terminal's master goes to given."""
        staged, reports = self._stage(pipes, target)
        try:
            given.add([staged.master] if staged.master >= 0 else [])
            return reports, await reports.ready(staged)
        except BaseException:
            reports.close()
            raise

    def _stage(self, pipes: Pipes | None, target: Container | None) -> tuple[Staged, Reports]:
        pod, plan = self._pod.plan, self.plan
        beside = None if target is None else target.pidfd
        try:
            with entrance(self._group) as (born_in, cgroups):
                birth = Birth(born_in, beside, sibling=True)
                staged, reports, hold = held.start(
                    lambda sync, hold: stage.start_container(
                        pod, plan, ChildFds(sync, hold, pipes and pipes.child, cgroups), birth
                    ),
                    holds=True,
                )
        finally:
            Descriptors(pipes.child if pipes else ()).close()
        self.process = self._pod.keeping.add_child(staged.pid)
        self.identity = staged.identity
        self._hold = Hold(hold)
        return staged, Reports(self._pod.loop, reports)

    def _observe(self, notes: list[str]) -> ContainerReport:
        """What the kernel says of the held process."""
        assert self.process is not None
        pid = self.process.pid
        return {
            "id": self.id,
            "pid": pid,
            "starttime_ticks": starttime_ticks(pid),
            "namespaces": namespaces(pid),
            "cgroup": cgroup_of(pid, self._group.layout, self._group.path),
            "limits": self._group.read_limits(self.plan["limits"]),
            "notes": notes,
        }

    async def _undo(self) -> None:
        """After a failed create."""
        self._let_go()
        if self.process is not None:
            self.process.signal(SIGKILL)
            await self.process.ended
            self._pod.keeping.forget_child(self.process.pid)
        self._pod.keeping.abandon_output(self.id)
        with suppress(PoddError, OSError):  # destroy_container and shutdown meet what is left
            await kill_group(self._pod.loop, self._group)
            await self._remove()

    # ---- running -----------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Let the held process go. Nothing else is done here: the members of a pod start together."""
        if not self._is_released:
            self._is_released = True
            self._hold.release()

    def signal(self, number: int) -> None:
        """To the first process; SIGKILL to all. To a container that has ended: nothing."""
        if self.state == "exited" or self.process is None:
            return
        self.process.signal(number)
        if number == SIGKILL:
            self._is_killed = True
            self._pod.loop.spawn(kill_group(self._pod.loop, self._group))

    @property
    def pidfd(self) -> int:
        """Of its first process. Raises Conflict: it does not run."""
        if self.state != "running" or self.process is None or self.process.pidfd < 0:
            raise Conflict(f"container {self.plan['name']}: its processes cannot be shared: it is not running")
        return self.process.pidfd

    def resize(self, limits: LimitsPlan) -> LimitsPlan:
        """Change its limits; what the kernel then has. Raises Conflict, Invalid: they are as they were."""
        return self._group.change(limits)

    def attach(self, *, stdin: bool) -> socket.socket:
        """Raises Conflict: it does not run."""
        if self.state not in ("created", "running"):
            raise Conflict(f"container {self.plan['name']}: attach: it is {self.state}")
        return self._pod.keeping.attach(self.id, stdin=stdin)

    async def _follow(self, reports: Passage | None) -> None:
        """From the release to the exit, and everything that belongs to it. reports: None after the release."""
        assert self.process is not None
        if reports is not None:
            await self._await_release(reports)
        ended = await self.process.ended
        with self._work():
            with suppress(PoddError, OSError):  # what cannot be killed is for destroy_container to report
                await kill_group(self._pod.loop, self._group)
            self._pod.loop.after(DRAIN_S, lambda: self._pod.keeping.abandon_output(self.id))
            await self._pod.keeping.drained(self.id)
            self._pod.keeping.abandon_output(self.id)
            record = self._record(ended, self.started.value)
            with suppress(OSError):  # nowhere to write it: who is connected learns it still
                write_json(self._places.record, record)
            self.state = "exited"
            self.ended.set(record)
            self._pod.save()
            self._pod.keeping.forget_child(self.process.pid)
            self._on_exit(self, record)

    async def _await_release(self, reports: Passage) -> None:
        assert self.process is not None
        report: StartReport = {
            "id": self.id,
            "pid": self.process.pid,
            "started_at_ns": 0,
            "released_ns": 0,
            "error": "",
        }
        try:
            report["released_ns"] = await reports.executed(self.plan["argv"][0])
            report["started_at_ns"] = time.time_ns() - (time.monotonic_ns() - report["released_ns"])
            self.state = "running"
        except PoddError as exc:
            report["error"] = str(exc)
        reports.close()
        self._let_go()
        with self._work():
            self.started.set(report)
            self._pod.save()

    def _let_go(self) -> None:
        self._hold.close()
        self._pod.keeping.let_go(self.id)

    def _record(self, ended: Ended, start: StartReport) -> ExitRecord:
        ran = not start["error"]
        return {
            "code": ended.code,
            "signal": ended.signal,
            "oom_killed": ended.code == 128 + SIGKILL and not self._is_killed and bool(self._group.oom_kills()),
            "started_at_ns": start["started_at_ns"] if ran else None,
            "finished_at_ns": max(ended.at_ns, start["started_at_ns"]),  # who reaps may see its end first
            "reason": "" if ran else "StartError",
            "message": start["error"],
        }

    # ---- telling -----------------------------------------------------------------------------------------------------

    def status(self) -> ContainerState:
        """Of a container that has been created."""
        report, saved = self.created.value, self.save()
        start, alive = saved["start"], self.state != "exited"
        assert self.state != "creating"
        assert not isinstance(report, Exception)
        return {
            "state": self.state,
            "name": self.plan["name"],
            "pid": report["pid"] if alive else None,
            "starttime_ticks": report["starttime_ticks"] if alive else None,
            "started_at_ns": start["started_at_ns"] if start and not start["error"] else None,
            "exit": saved["exit"],
        }

    def save(self) -> Saved:
        """Of a container that has been created."""
        return {
            "start": self.started.value if self.started.done else None,
            "exit": self.ended.value if self.ended.done else None,
        }

    def restore(self, made: Made, saved: Saved) -> None:
        """Become what an earlier attendant has saved, and go on from there."""
        report, self.identity = made["report"], Identity(*made["identity"])
        self.created.set(report)
        self.state = "created"
        if saved["start"] is not None:
            self.started.set(saved["start"])
            self.state = "running" if not saved["start"]["error"] else "created"
        if saved["exit"] is not None:
            self.ended.set(saved["exit"])
            self.state = "exited"
            return
        keeping = self._pod.keeping
        self.process = keeping.child(report["pid"])
        reports = None
        if saved["start"] is None:
            reports = self._resume(*keeping.held(self.id))
        self._pod.loop.spawn(self._follow(reports))

    def _resume(self, sync: int, hold: int) -> Passage:
        """Have `_hold` again, by the descriptors that were kept."""
        self._hold = Hold(hold)
        return Reports(self._pod.loop, sync)

    # ---- removing ----------------------------------------------------------------------------------------------------

    async def destroy(self) -> None:
        """Kill, reap and remove; again: what the first time could not. Raises Unavailable: something stays."""
        self._is_doomed = True
        if self.process is not None:
            self.process.signal(SIGKILL)
        outcome = await self.created
        with self._work():
            await kill_group(self._pod.loop, self._group)
            if not isinstance(outcome, Exception):
                await self.ended
            await self._remove()

    async def _remove(self) -> None:
        await remove(self._pod, self.id)


class Places(NamedTuple):
    """Where a container's things are."""

    layer: str
    made: str
    record: str
    bundle: str  # what an OCI runtime is given
    runtime_root: str  # where one keeps what it knows of the pod's containers

    @classmethod
    def of(cls, pod: Pod, container: str) -> Places:
        return cls(
            f"{pod.plan['containers_dir']}/{pod.plan['id']}/{container}",
            f"{pod.plan['run_dir']}/containers/{container}.json",
            f"{pod.plan['run_dir']}/exits/{container}.json",
            f"{pod.plan['run_dir']}/bundles/{container}",
            f"{pod.plan['run_dir']}/runtime",
        )


class Pipes(NamedTuple):
    """Both ends of a container's input and output. ours: stdout, stderr, and stdin if it has one."""

    child: tuple[int, int, int]
    ours: list[int]

    @classmethod
    def make(cls, *, has_stdin: bool) -> Pipes:
        stdout, child_stdout = os.pipe2(os.O_CLOEXEC)
        stderr, child_stderr = os.pipe2(os.O_CLOEXEC)
        if not has_stdin:
            null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            return cls((null, child_stdout, child_stderr), [stdout, stderr])
        child_stdin, stdin = os.pipe2(os.O_CLOEXEC)
        return cls((child_stdin, child_stdout, child_stderr), [stdout, stderr, stdin])


def made(pod: Pod) -> list[str]:
    """The containers that were created and not destroyed."""
    names = os.listdir(os.path.dirname(Places.of(pod, "any").made))
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


async def remove(pod: Pod, container: str) -> None:
    """What is left of a container without processes, but its log. Raises Unavailable: something stays."""
    places = Places.of(pod, container)
    pod.group.child(container).remove(KILL_SLICE_S)
    for path in (places.layer, places.bundle, f"{places.runtime_root}/{container}"):
        for _ in removal(path):
            await pod.loop.sleep(0)
    unlink(places.made)
    unlink(places.record)


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
