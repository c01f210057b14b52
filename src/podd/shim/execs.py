"""Further processes in running containers, and how they ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from podd.errors import Conflict, Invalid
from podd.shim.container import SIGKILL, Container, Pod
from podd.shim.loop import Later, Loop
from podd.shim.plan import ExecPlan, ExitRecord
from podd.shim.processes import Child, descendants
from podd.shim.wire import Descriptors

MAX_KEPT = 256
"""Ended execs of which the exit is still known; the oldest is forgotten first."""


class Exec:
    """`ended` is set with its exit. `pid` and the terminal are known once it runs."""

    def __init__(self) -> None:
        self.process: Child | None = None
        self.ended: Later[ExitRecord] = Later()

    def start(self, loop: Loop, pid: int) -> None:
        self.process = Child(loop, pid)


class Execs:
    """All execs of a pod, by id. on_exit(id, exit) is called once for each that has run."""

    def __init__(self, pod: Pod, on_exit: Callable[[str, ExitRecord], None]) -> None:
        self._pod = pod
        self._on_exit = on_exit
        self._execs: dict[str, Exec] = {}

    def get(self, exec_id: str) -> Exec | None:
        return self._execs.get(exec_id)

    async def start(self, container: Container, plan: ExecPlan, fds: Descriptors) -> tuple[int, list[int]]:
        """Its pid, and its terminal's master, owned by the caller. Raises Invalid, Conflict, and as `stage`."""
        if plan["id"] in self._execs:
            raise Conflict(f"exec {plan['id']}: it was started already")
        if container.state != "running" or container.process is None or container.process.pidfd < 0:
            raise Conflict(f"container {container.plan['name']}: exec: it is {container.state}")
        expected = 0 if plan["tty"] else 3
        if len(fds) != expected:
            raise Invalid(f"exec {plan['id']}: {len(fds)} descriptors: {expected} are needed")
        self._execs[plan["id"]] = entry = Exec()
        stdio = fds.take()
        try:
            made, given = await self._pod.maker.ask(
                "exec",
                {"container": container.plan, "exec": plan},
                [container.process.pidfd, *stdio],
                forked=lambda pid: entry.start(self._pod.loop, pid),
            )
        except BaseException:
            del self._execs[plan["id"]]
            kill(entry)
            raise
        finally:
            Descriptors(stdio).close()
        started_at_ns = time.time_ns() - (time.monotonic_ns() - made["released_ns"])
        self._pod.loop.spawn(self._follow(plan["id"], entry, started_at_ns))
        return made["pid"], given.take()

    async def _follow(self, exec_id: str, entry: Exec, started_at_ns: int) -> None:
        assert entry.process is not None
        ended = await entry.process.ended
        exit_record: ExitRecord = {
            "code": ended.code,
            "signal": ended.signal,
            "oom_killed": False,
            "started_at_ns": started_at_ns,
            "finished_at_ns": time.time_ns(),
            "reason": "",
            "message": "",
        }
        entry.ended.set(exit_record)
        over = [known for known, other in self._execs.items() if other.ended.done][:-MAX_KEPT]
        for known in over:
            del self._execs[known]
        self._on_exit(exec_id, exit_record)


def kill(entry: Exec) -> None:
    """End it and what can be found below it; of what has ended: nothing."""
    if entry.ended.done or entry.process is None or entry.process.pidfd < 0:
        return
    below = descendants(entry.process.pid)
    entry.process.signal(SIGKILL)
    for pidfd in below:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, SIGKILL)
        os.close(pidfd)
