"""The shim: one process that makes a pod's sandbox and is the parent of its containers, for as long as the pod lives.

It needs nobody: who is connected gives orders and hears news, and when nobody is, logs are still written and exits
still go to disk. It ends by `shutdown`, after everything that it made is gone; by SIGTERM, after its containers have
ended; killed, it takes them along.

With hostPID, orphans of a container belong to the host's init, not to the shim: they stay in the container's cgroup,
and are killed there when its first process has ended. So no child is ever reaped that was not forked here.
"""

from __future__ import annotations

import os
import socket
import traceback
from contextlib import suppress
from signal import SIGKILL, SIGTERM
from typing import Any, cast

from podd.errors import Conflict, NotFound
from podd.linux.cgroup import Layout
from podd.linux.syscalls import signal_descriptor
from podd.shim.container import Container, Pod, kill_group
from podd.shim.execs import Execs, kill
from podd.shim.home import Home
from podd.shim.loop import Later, Loop
from podd.shim.maker import Maker
from podd.shim.peers import Answer, Peers
from podd.shim.plan import ContainerPlan, ExitRecord, SandboxPlan, SandboxReport
from podd.shim.processes import Child
from podd.shim.wire import Connection, Descriptors, error_of, listener

FAREWELL_S = 1.0
"""How long the last answers may take to be read."""

MAX_BUGS_BYTES = 64 * 1024


def run(first: socket.socket, plan: SandboxPlan, layout: Layout) -> None:
    """Be the shim of one pod until it is shut down. Makes the sandbox and says so on `first`, as answer 0."""
    try:
        shim = Shim(plan, layout)
    except Exception as exc:  # noqa: BLE001 - there is no shim yet that could answer
        Connection(first).send({"id": 0, "error": error_of(exc)})
        return
    peer = shim.peers.adopt(first)

    async def begin() -> None:
        if not await peer.answer(0, "create_sandbox", {"sandbox": plan}, Descriptors()):
            shim.done.set(None)

    shim.loop.spawn(begin())
    shim.loop.spawn(shim.leave_when_told())
    shim.loop.run(shim.done)
    shim.peers.close(FAREWELL_S)


class Shim:
    """All state of the process, and its verbs as `podd.shim.plan` has them."""

    def __init__(self, plan: SandboxPlan, layout: Layout) -> None:
        self.done: Later[None] = Later()
        self.loop = Loop(self._on_bug)
        self._plan = plan
        self._home = Home(plan, layout, os.getpid())
        self._maker = Maker(self.loop, self._home)
        self._pod = Pod(self.loop, plan, self._home.group, self._maker)
        self._report: SandboxReport | None = None
        self._throttled = False  # has the pod's processor limit been applied
        self._init: Child | None = None
        self._containers: dict[str, Container] = {}
        self._execs = Execs(self._pod, self._on_exec_exit)
        self._ending: Later[Exception | None] | None = None
        self.peers = Peers(
            self.loop,
            {
                "create_sandbox": self._create_sandbox,
                "create_container": self._create_container,
                "start": self._start,
                "signal": self._signal,
                "status": self._status,
                "destroy_container": self._destroy_container,
                "exec": self._exec,
                "exec_wait": self._exec_wait,
                "exec_kill": self._exec_kill,
                "attach": self._attach,
                "shutdown": self._shutdown,
            },
        )

    # ---- the sandbox -------------------------------------------------------------------------------------------------

    async def _create_sandbox(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        if args["sandbox"] != self._plan:
            raise Conflict(f"sandbox {self._plan['id']}: it was made from another plan")
        if self._report is None:  # for nobody but `run`: nobody else can connect before it is there
            report, _ = await self._maker.ask("sandbox", {})
            if report["init_pid"] is not None:
                self._init = Child(self.loop, report["init_pid"])
            self.peers.listen(listener(self._plan["run_dir"]))
            self._report = cast("SandboxReport", report)
        return self._report, []

    async def _status(self, _args: dict[str, Any], _fds: Descriptors) -> Answer:
        known = {c.id: c.status() for c in self._containers.values() if c.state != "creating"}
        return {"sandbox": self._report, "containers": known}, []

    async def _shutdown(self, _args: dict[str, Any], _fds: Descriptors) -> Answer:
        ending = self._ending
        if ending is None:
            ending = self._ending = Later()
            self.loop.spawn(self._end_for(ending))
        if (error := await ending) is not None:
            raise error
        return {}, []

    async def _end_for(self, asked: Later[Exception | None]) -> None:
        """Everybody who has asked gets the outcome; asked again after a failure, it is tried again."""
        try:
            await self._end()
        except Exception as exc:  # noqa: BLE001 - it is answered
            self._ending = None
            asked.set(exc)
        else:
            self.done.set(None)
            asked.set(None)

    async def _end(self) -> None:
        await kill_group(self.loop, self._pod.group)
        for container in list(self._containers.values()):
            await container.destroy()
        if self._init is not None:
            self._init.signal(9)
            await self._init.ended
        self._maker.close()
        self._home.remove()

    # ---- containers --------------------------------------------------------------------------------------------------

    async def _create_container(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        plan: ContainerPlan = args["container"]
        if self._ending is not None or self._report is None:
            raise Conflict(f"sandbox {self._plan['id']}: it is not ready for containers")
        container = self._containers.get(plan["id"])
        if container is None:
            container = self._containers[plan["id"]] = Container(self._pod, plan, self._on_exit)
            self.loop.spawn(container.create())
        elif container.plan != plan:
            raise Conflict(f"container {plan['id']}: it was made from another plan")
        outcome = await container.created
        if isinstance(outcome, Exception):
            self._containers.pop(plan["id"], None)
            raise outcome
        return outcome, []

    async def _start(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        containers = [self._known(name) for name in args["containers"]]
        if not self._throttled and self._report is not None:
            self._report["limits"] = self._home.throttle()
            self._throttled = True
        for container in containers:
            container.release()
        return {"started": [await container.started for container in containers]}, []

    async def _signal(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        number = int(args["signal"])
        for container in [self._known(name) for name in args["containers"]]:
            container.signal(number)
        return {}, []

    async def _destroy_container(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        container = self._containers.get(args["container"])
        if container is not None:
            await container.destroy()
            self._containers.pop(container.id, None)
        return {}, []

    async def _attach(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        sock = self._known(args["container"]).attach(stdin=bool(args["stdin"]))
        return {}, [sock.detach()]

    def _known(self, name: str) -> Container:
        container = self._containers.get(name)
        if container is None or container.state == "creating":
            raise NotFound(f"container {name}: it does not exist in sandbox {self._plan['id']}")
        return container

    def _on_exit(self, container: Container, record: ExitRecord) -> None:
        self.peers.notify({"event": "exited", "container": container.id, "exit": record})

    # ---- execs -------------------------------------------------------------------------------------------------------

    async def _exec(self, args: dict[str, Any], fds: Descriptors) -> Answer:
        pid, terminal = await self._execs.start(self._known(args["container"]), args["exec"], fds)
        return {"pid": pid}, terminal

    async def _exec_wait(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        entry = self._execs.get(args["exec"])
        if entry is None:
            raise NotFound(f"exec {args['exec']}: it was never started, or ended too long ago")
        return await entry.ended, []

    async def _exec_kill(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        entry = self._execs.get(args["exec"])
        if entry is not None:
            kill(entry)
        return {}, []

    def _on_exec_exit(self, exec_id: str, record: ExitRecord) -> None:
        self.peers.notify({"event": "exec_exited", "exec": exec_id, "exit": record})

    # ---- the host goes down ------------------------------------------------------------------------------------------

    async def leave_when_told(self) -> None:
        """At SIGTERM, stay until the last container has ended, and leave the sandbox to whoever sweeps.

        It comes from systemd, to the containers at the same time: their last output and their exits are written yet.
        """
        await self.loop.ready(signal_descriptor(SIGTERM))
        for container in list(self._containers.values()):
            if not isinstance(await container.created, Exception):
                if container.state == "created":  # as the first of a pid namespace it does not hear SIGTERM
                    container.signal(SIGKILL)
                await container.ended
        self.done.set(None)

    # ---- bugs --------------------------------------------------------------------------------------------------------

    def _on_bug(self, exc: Exception) -> None:
        """Nobody listens to a shim: what should not have happened goes to a file of bounded size."""
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(f"{self._plan['run_dir']}/shim.log", flags, 0o600), "ab") as log:
                if log.tell() < MAX_BUGS_BYTES:
                    log.write("".join(traceback.format_exception(exc)).encode())
