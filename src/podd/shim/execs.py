"""Further processes in running containers, and how they ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypedDict

from podd.errors import Conflict, Invalid
from podd.shim import held, stage
from podd.shim.held import Reports
from podd.shim.loop import Later
from podd.shim.processes import Child, descendants, entrance
from podd.shim.stage import Birth, ChildFds, Staged
from podd.shim.wire import Descriptors

if TYPE_CHECKING:
    from podd.shim.container import Container, Pod
    from podd.shim.plan import ExecPlan, ExitRecord

SIGKILL = 9
MAX_KEPT = 256
"""Ended execs of which the exit is still known; the oldest is forgotten first."""


class Saved(TypedDict):
    """An exec that was started, as the next attendant finds it."""

    pid: int
    started_at_ns: int
    asker: str  # the peer with which it ends; "": it outlives whoever asked for it
    exit: ExitRecord | None


class Exec:
    """`ended` is set with its exit."""

    def __init__(self, saved: Saved, process: Child | None) -> None:
        """process: None for one that has ended."""
        self._saved = saved
        self.process = process
        self.ended: Later[ExitRecord] = Later()
        if saved["exit"] is not None:
            self.ended.set(saved["exit"])

    def save(self) -> Saved:
        return {**self._saved, "exit": self.ended.value if self.ended.done else None}

    @property
    def asker(self) -> str:
        return self._saved["asker"]

    async def follow(self) -> ExitRecord:
        assert self.process is not None
        ended = await self.process.ended
        self.ended.set(
            {
                "code": ended.code,
                "signal": ended.signal,
                "oom_killed": False,
                "started_at_ns": self._saved["started_at_ns"],
                "finished_at_ns": ended.at_ns,
                "reason": "",
                "message": "",
            }
        )
        return self.ended.value

    def kill(self) -> None:
        """End it and what can be found below it; of what has ended: nothing."""
        if self.process is None or self.process.pidfd < 0:
            return
        below = descendants(self.process.pid)
        self.process.signal(SIGKILL)
        for pidfd in below:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, SIGKILL)
            os.close(pidfd)


class Execs:
    """All execs of a pod, by id. on_exit(id, exit) is called once for each that has run."""

    def __init__(self, pod: Pod, on_exit: Callable[[str, ExitRecord], None]) -> None:
        self._pod = pod
        self._on_exit = on_exit
        self._execs: dict[str, Exec] = {}
        self._starting: set[str] = set()

    def get(self, exec_id: str) -> Exec | None:
        return self._execs.get(exec_id)

    @property
    def pids(self) -> set[int]:
        """Of those that run."""
        return {e.process.pid for e in self._execs.values() if e.process is not None and not e.ended.done}

    def save(self) -> dict[str, Saved]:
        return {name: entry.save() for name, entry in self._execs.items()}

    def restore(self, saved: dict[str, Saved]) -> None:
        for name, one in saved.items():
            process = self._pod.keeping.child(one["pid"]) if one["exit"] is None else None
            self._add(name, Exec(one, process))

    def end_of(self, asker: str) -> None:
        """It has hung up: nobody waits any more for what is bound to it."""
        for entry in self._execs.values():
            if entry.asker == asker and not entry.ended.done:
                entry.kill()

    async def start(self, container: Container, plan: ExecPlan, fds: Descriptors, asker: str) -> tuple[int, list[int]]:
        """Its pid, and its terminal's master, owned by the caller. Raises Invalid, Conflict, and as `stage`.

        asker: a peer, with which it ends if it is bound.
        """
        name = plan["id"]
        if name in self._execs or name in self._starting:
            raise Conflict(f"exec {name}: it was started already")
        if container.state != "running" or container.process is None or container.process.pidfd < 0:
            raise Conflict(f"container {container.plan['name']}: exec: it is {container.state}")
        expected = 0 if plan["tty"] else 3
        if len(fds) != expected:
            raise Invalid(f"exec {name}: {len(fds)} descriptors: {expected} are needed")
        self._starting.add(name)
        try:
            process, released_ns, terminal = await self._start(container, plan, fds)
        finally:
            self._starting.remove(name)
        started_at_ns = time.time_ns() - (time.monotonic_ns() - released_ns)
        bound_to = asker if plan["bound"] else ""
        saved: Saved = {"pid": process.pid, "started_at_ns": started_at_ns, "asker": bound_to, "exit": None}
        self._add(name, Exec(saved, process))
        self._pod.save()
        return process.pid, terminal

    async def _start(self, container: Container, plan: ExecPlan, fds: Descriptors) -> tuple[Child, int, list[int]]:
        process, staged, reports = self._stage(container, plan, fds)
        given = Descriptors([staged.master] if staged.master >= 0 else ())
        try:
            await reports.ready(staged)
            return process, await reports.executed(plan["argv"][0]), given.take()
        except BaseException:
            process.signal(SIGKILL)
            await process.ended
            self._pod.keeping.forget_child(process.pid)
            raise
        finally:
            reports.close()
            given.close()

    def _stage(self, container: Container, plan: ExecPlan, fds: Descriptors) -> tuple[Child, Staged, Reports]:
        assert container.process is not None
        pod, pidfd = self._pod.plan, container.process.pidfd
        stdin, stdout, stderr = fds if len(fds) == 3 else (-1, -1, -1)
        stdio = None if plan["tty"] else (stdin, stdout, stderr)
        with entrance(self._pod.group.child(container.id)) as (born_in, cgroups):
            birth = Birth(born_in, sibling=True)
            staged, sync, _ = held.start(
                lambda sync, hold: stage.start_exec(
                    pod, container.plan, plan, pidfd, container.identity, ChildFds(sync, hold, stdio, cgroups), birth
                ),
                holds=False,
            )
        fds.close()
        return self._pod.keeping.add_child(staged.pid), staged, Reports(self._pod.loop, sync)

    def _add(self, name: str, entry: Exec) -> None:
        self._execs[name] = entry
        if entry.process is not None:
            self._pod.loop.spawn(self._follow(name, entry))

    async def _follow(self, name: str, entry: Exec) -> None:
        assert entry.process is not None
        record = await entry.follow()
        for old in [known for known, other in self._execs.items() if other.ended.done][:-MAX_KEPT]:
            del self._execs[old]
        self._pod.save()
        self._pod.keeping.forget_child(entry.process.pid)
        self._on_exit(name, record)
