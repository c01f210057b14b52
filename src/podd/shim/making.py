"""The maker: the short-lived process in which a shim has made what is costly to make.

It makes the sandbox, holds containers and starts execs, and hands over a pid and descriptors. What it forks are its
siblings: children of the shim, which waits for them, and with which they die. So all the memory that this work
touches, and every mistake in it, is gone when the maker is; the shim stays small.

Verbs, over a socketpair in the framing of `podd.shim.wire`; "token" comes back in the notice {"forked": pid, "token"},
which is sent as soon as there is a child to reap:
    sandbox()                          -> SandboxReport
    container(container, token)        -> ContainerReport + descriptors: reports, hold, stdout, stderr, stdin if it has
                                          one; with a terminal: reports, hold, master
    exec(container, exec, token) + the container's pidfd, 3 descriptors unless tty
                                       -> {"pid", "released_ns"} + the terminal's master, if it has one
"""

from __future__ import annotations

import os
import socket
from typing import Any, NamedTuple

from podd.linux.cgroup import Group
from podd.linux.process import namespaces, starttime_ticks
from podd.shim import held, stage
from podd.shim.held import Reports
from podd.shim.home import Home, unthrottled
from podd.shim.loop import Loop
from podd.shim.peers import Answer, Peers
from podd.shim.plan import ContainerPlan, ContainerReport, ExecPlan
from podd.shim.processes import cgroup_of, entrance
from podd.shim.stage import ChildFds
from podd.shim.wire import Descriptors


class Pipes(NamedTuple):
    """Both ends of a container's input and output. ours: stdout, stderr, and stdin if it has one."""

    child: tuple[int, int, int]
    ours: list[int]


def serve(channel: socket.socket, home: Home) -> None:
    """Be the maker of one pod until the shim closes the channel."""
    Maker(channel, home).serve()


class Maker:
    def __init__(self, channel: socket.socket, home: Home) -> None:
        self._home = home
        self._plan = home.plan
        self._loop = Loop(_raise)
        verbs = {"sandbox": self._sandbox, "container": self._container, "exec": self._exec}
        self._shim = Peers(self._loop, verbs).adopt(channel)

    def serve(self) -> None:
        self._loop.run(self._shim.closed)

    async def _sandbox(self, _args: dict[str, Any], _fds: Descriptors) -> Answer:
        return self._home.make(), []

    async def _container(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        plan: ContainerPlan = args["container"]
        group = self._home.group.child(plan["id"])
        group.create()
        group.apply(unthrottled(plan["limits"]))
        pipes = None if plan["tty"] else _make_pipes(has_stdin=plan["stdin"])
        try:
            pid, sync, hold = self._hold(plan, group, pipes)
        except BaseException:
            Descriptors(pipes.ours if pipes else ()).close()
            raise
        finally:
            Descriptors(pipes.child if pipes else ()).close()
        given = Descriptors([hold, *(pipes.ours if pipes else ())])
        reports = Reports(self._loop, sync)
        try:
            self._tell(pid, args)
            said, terminal = await reports.ready()
            given.add([terminal] if terminal >= 0 else [])
            notes = [f"{name}: this host has nothing to enforce it" for name in group.apply(plan["limits"])]
            report = _observe(plan, pid, group)
            report["notes"] = notes + said
            return report, [reports.detach(), *given.take()]
        finally:
            reports.close()
            given.close()

    def _hold(self, plan: ContainerPlan, group: Group, pipes: Pipes | None) -> tuple[int, int, int]:
        with entrance(group) as (born_in, cgroups):
            return held.start(
                lambda: stage.fork_container(self._plan, born_in, sibling=True),
                lambda sync, hold: stage.container_child(
                    self._plan, plan, ChildFds(sync, hold, pipes and pipes.child, cgroups)
                ),
                holds=True,
            )

    async def _exec(self, args: dict[str, Any], fds: Descriptors) -> Answer:
        plan: ExecPlan = args["exec"]
        pid, sync = self._start_exec(args["container"], plan, fds)
        reports = Reports(self._loop, sync)
        given = Descriptors()
        try:
            self._tell(pid, args)
            _, terminal = await reports.ready()
            given.add([terminal] if terminal >= 0 else [])
            released_ns = await reports.executed()
            return {"pid": pid, "released_ns": released_ns}, given.take()
        finally:
            reports.close()
            given.close()

    def _start_exec(self, container: ContainerPlan, plan: ExecPlan, fds: Descriptors) -> tuple[int, int]:
        pidfd, *given = taken = fds.take()
        stdio = None if plan["tty"] else (given[0], given[1], given[2])
        try:
            with entrance(self._home.group.child(container["id"])) as (born_in, cgroups):
                pid, sync, _ = held.start(
                    lambda: stage.fork_exec(self._plan, pidfd, born_in, sibling=True),
                    lambda sync, hold: stage.exec_child(
                        self._plan, container, plan, pidfd, ChildFds(sync, hold, stdio, cgroups)
                    ),
                    holds=False,
                )
        finally:
            Descriptors(taken).close()
        return pid, sync

    def _tell(self, pid: int, args: dict[str, Any]) -> None:
        self._shim.send({"forked": pid, "token": args["token"]})


def _observe(plan: ContainerPlan, pid: int, group: Group) -> ContainerReport:
    """What the kernel says of a held process: it is in place, and cannot be reaped before the shim hears of it."""
    return {
        "id": plan["id"],
        "pid": pid,
        "starttime_ticks": starttime_ticks(pid),
        "namespaces": namespaces(pid),
        "cgroup": cgroup_of(pid, group.layout, group.path),
        "limits": group.read_limits(plan["limits"]),
        "notes": [],
    }


def _make_pipes(*, has_stdin: bool) -> Pipes:
    stdout, child_stdout = os.pipe2(os.O_CLOEXEC)
    stderr, child_stderr = os.pipe2(os.O_CLOEXEC)
    if not has_stdin:
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        return Pipes((null, child_stdout, child_stderr), [stdout, stderr])
    child_stdin, stdin = os.pipe2(os.O_CLOEXEC)
    return Pipes((child_stdin, child_stdout, child_stderr), [stdout, stderr, stdin])


def _raise(exc: Exception) -> None:
    raise exc
