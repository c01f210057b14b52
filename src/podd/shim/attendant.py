"""The attendant of a pod: makes its sandbox and containers, answers requests, writes down exits. Ends when it is idle.

Forked by the keeper whenever there is something to do, it finds what earlier ones have saved in STATE_FILE and in
keeping, and goes on from there. It needs nobody: who is connected gives orders and hears news, and when nobody is, logs
are still written and exits still go to disk. All that it forks are children of the keeper: with that they die, when it
is killed. At SIGTERM the shim ends after its containers; by `shutdown`, after all that it made is gone.

With hostPID, orphans of a container belong to the host's init: they stay in the container's cgroup, and are killed
there when its first process has ended. So nobody reaps a process that was not forked here.
"""

from __future__ import annotations

import os
import socket
import traceback
from contextlib import suppress
from signal import SIGKILL
from typing import Any, NoReturn, TypedDict, cast

from podd.errors import Conflict, NotFound, PoddError
from podd.linux.cgroup import Layout
from podd.linux.process import starttime_ticks
from podd.linux.syscalls import Prctl, close_all_but, prctl
from podd.shim import container as containers
from podd.shim import execs, stage
from podd.shim.container import Container, Pod, kill_group
from podd.shim.execs import Exec, Execs
from podd.shim.files import read_json, write_json
from podd.shim.home import Home
from podd.shim.keeper import PEER, ZYGOTE, Keeper
from podd.shim.keeping import Keeping
from podd.shim.loop import Later, Loop
from podd.shim.nowhere import nowhere
from podd.shim.peers import Answer, Peers
from podd.shim.plan import ContainerPlan, ExitRecord, LimitsPlan, SandboxPlan, SandboxReport
from podd.shim.processes import Child
from podd.shim.runtime.command import Runtime
from podd.shim.runtime.container import RuntimeContainer
from podd.shim.runtime.execs import RuntimeExecs
from podd.shim.runtime.guard import post
from podd.shim.wire import Connection, Descriptors, decode, error_of, listener, send_once

STDIO = (0, 1, 2)

STATE_FILE = "state.json"

IDLE_S = 1.2
"""How long an attendant waits for more to do. It takes about two milliseconds to have another one: a third of what an
exec takes, so one that is asked each second, by a probe, stays."""

FAREWELL_S = 1.0
"""How long the last answers may take to be read."""

MAX_BUGS_BYTES = 64 * 1024


class State(TypedDict):
    """What STATE_FILE holds: all that the next attendant needs to know. The sandbox is whole."""

    report: SandboxReport
    limits: LimitsPlan  # what the pod's are to be
    is_throttled: bool  # has the pod's processor limit been applied
    containers: dict[str, containers.Saved]
    execs: dict[str, execs.Saved]
    subscribers: list[str]
    guard: int | None  # the pid of what kills the containers when the keeper ends, where the kernel does not


def attend(body: bytes, layout: Layout, keeper: Keeper, channel: socket.socket) -> NoReturn:
    """The whole life of an attendant, in a fork of the keeper.

    body: the zygote's request "fork" that the keeper was forked for.
    """
    status = 1
    plan: SandboxPlan | None = None
    try:
        prctl(Prctl.SET_PDEATHSIG, 9)
        close_all_but({*STDIO, nowhere(), channel.fileno(), *keeper.kept.values(), *keeper.children.values()})
        request = decode(body)
        plan = request["args"]["sandbox"]
        if keeper.calls == 1:
            _introduce(request["id"], plan, keeper, channel)
        _be_attendant(plan, layout, keeper, channel)
        status = 0
    except BaseException as exc:  # noqa: BLE001 - nobody listens
        if plan is not None:
            report_bug(plan, exc)
    finally:
        os._exit(status)


def _introduce(number: int, plan: SandboxPlan, keeper: Keeper, channel: socket.socket) -> None:
    """Answer the zygote's peer that there is a shim, and give it its name."""
    pid = os.getppid()
    pidfd = os.pidfd_open(pid)
    zygote = socket.socket(fileno=keeper.kept.pop(ZYGOTE))
    send_once(zygote, {"id": number, "ok": {"pid": pid, "starttime_ticks": starttime_ticks(pid)}}, pidfd)
    zygote.close()
    os.close(pidfd)
    name, namespace = plan["meta"].get("name", ""), plan["meta"].get("namespace", "")
    channel.send(f"title podd-shim {name}\tpodd-shim: {namespace}/{name} ({plan['id']})".encode())


def _be_attendant(plan: SandboxPlan, layout: Layout, keeper: Keeper, channel: socket.socket) -> None:
    try:
        attendant = Attendant(plan, layout, keeper, channel)
    except PoddError as exc:  # the plan itself is impossible
        Connection(socket.socket(fileno=keeper.kept[f"{PEER}0"])).send({"id": 0, "error": error_of(exc)})
        channel.send(b"exit")
    else:
        attendant.run(is_first=keeper.calls == 1)


def report_bug(plan: SandboxPlan, exc: BaseException) -> None:
    """Nobody listens to a shim: what should not have happened goes to a file of bounded size."""
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(f"{plan['run_dir']}/shim.log", flags, 0o600), "ab") as log:
            if log.tell() < MAX_BUGS_BYTES:
                log.write("".join(traceback.format_exception(exc)).encode())


class Attendant:
    """All state of the pod while there is something to do, and the verbs as `podd.shim.plan` has them."""

    def __init__(self, plan: SandboxPlan, layout: Layout, keeper: Keeper, channel: socket.socket) -> None:
        self._done: Later[None] = Later()
        self._loop = Loop(lambda exc: report_bug(plan, exc)).open()
        self._keeping = Keeping(self._loop, channel, keeper)
        self._plan = plan
        self._home = Home(plan, layout, os.getppid())
        self._pod = Pod(self._loop, plan, self._home.group, self._keeping, self._save)
        self._report: SandboxReport | None = None
        self._limits = plan["limits"]
        self._is_throttled = False
        self._guard: int | None = None
        self._containers: dict[str, Container] = {}
        self._runtime = Runtime(self._pod, plan["runtime"]) if plan["runtime"] else None
        self._execs = (RuntimeExecs if plan["runtime"] else Execs)(self._pod, self._on_exec_exit)
        self._ending: Later[Exception | None] | None = None
        self._asked = -1
        self._peers = Peers(
            self._loop,
            self._keeping,
            {
                "create_sandbox": self._create_sandbox,
                "create_container": self._create_container,
                "start": self._start,
                "signal": self._signal,
                "resize": self._resize,
                "status": self._status,
                "destroy_container": self._destroy_container,
                "exec_wait": self._exec_wait,
                "exec_kill": self._exec_kill,
                "attach": self._attach,
                "shutdown": self._shutdown,
            },
            {"exec": self._exec},
            self._execs.end_of,
        )

    def run(self, *, is_first: bool) -> None:
        """Until there is nothing more to do, or nothing more at all."""
        state = None if is_first else read_json(f"{self._plan['run_dir']}/{STATE_FILE}")
        if state is not None and self._home.is_ours:
            self._restore(cast("State", state))
        else:
            self._peers.restore([])
            self._loop.spawn(self._begin(is_first=is_first))
        self._loop.spawn(self._leave_when_told())
        self._loop.after(IDLE_S, self._park)
        self._loop.run(self._done)
        self._peers.close(FAREWELL_S)
        self._keeping.end_keeper()

    async def _begin(self, *, is_first: bool) -> None:
        """Make the sandbox, and say so as answer 0 on the connection that came with the fork, or end."""
        made = False
        if is_first:
            made = await self._peers.first().answer(0, "create_sandbox", {"sandbox": self._plan}, Descriptors())
        elif self._home.is_ours:  # the first one has failed half-way
            await self._end()
        if not made:
            self._done.set(None)

    # ---- from one attendant to the next ------------------------------------------------------------------------------

    def _save(self) -> None:
        if self._ending is not None:
            return
        assert self._report is not None
        state: State = {
            "report": self._report,
            "limits": self._limits,
            "is_throttled": self._is_throttled,
            "containers": {c.id: c.save() for c in self._containers.values() if c.state != "creating"},
            "execs": self._execs.save(),
            "subscribers": self._peers.subscribers,
            "guard": self._guard,
        }
        write_json(f"{self._plan['run_dir']}/{STATE_FILE}", state)

    def _restore(self, state: State) -> None:
        stage.prepare(self._plan)
        self._report, self._limits, self._is_throttled = state["report"], state["limits"], state["is_throttled"]
        self._guard = state["guard"]
        self._peers.restore(state["subscribers"])
        nothing: containers.Saved = {"start": None, "exit": None}
        for name in containers.made(self._pod):
            made = cast("containers.Made", read_json(containers.Places.of(self._pod, name).made))
            self._containers[name] = self._container(made["plan"])
            self._containers[name].restore(made, state["containers"].get(name, nothing))
        self._execs.restore(state["execs"])
        known = {c.process.pid for c in self._containers.values() if c.process} | self._execs.pids
        known |= {pid for pid in (state["report"]["init_pid"], self._guard) if pid is not None}
        strangers = [child for child in self._keeping.children() if child.pid not in known]
        for child in strangers:
            self._loop.spawn(self._end_stranger(child))
        if strangers:  # the pod may have been given room for the making of a container
            self._home.resize(self._limits, is_throttled=self._is_throttled)

    async def _end_stranger(self, child: Child) -> None:
        """A child of an attendant that failed before it could save it."""
        child.signal(9)
        await child.ended
        self._keeping.forget_child(child.pid)

    def _park(self) -> None:
        """End, if nothing has been asked for a while and nothing is going on."""
        was_asked, self._asked = self._asked, self._peers.asked
        if was_asked == self._asked and self._is_idle:
            self._save()
            if self._keeping.park():
                os._exit(0)
        self._loop.after(IDLE_S, self._park)

    @property
    def _is_idle(self) -> bool:
        if self._report is None or self._ending is not None or self._keeping.told_to_leave.done:
            return False
        if not self._peers.are_idle:
            return False
        return not any(container.is_busy for container in self._containers.values())

    # ---- the sandbox -------------------------------------------------------------------------------------------------

    async def _create_sandbox(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        if args["sandbox"] != self._plan:
            raise Conflict(f"sandbox {self._plan['id']}: it was made from another plan")
        if self._report is None:
            report = self._home.make()
            if report["init_pid"] is not None:
                self._keeping.add_child(report["init_pid"])
            if self._plan["runtime"]:
                self._guard = post(self._pod)
            stage.prepare(self._plan)
            self._peers.listen(listener(self._plan["run_dir"]))
            self._report = report
            self._save()
        return self._report, []

    async def _status(self, _args: dict[str, Any], _fds: Descriptors) -> Answer:
        known = {c.id: c.status() for c in self._containers.values() if c.state != "creating"}
        return {"sandbox": self._report, "containers": known}, []

    async def _shutdown(self, _args: dict[str, Any], _fds: Descriptors) -> Answer:
        ending = self._ending
        if ending is None:
            ending = self._ending = Later()
            self._loop.spawn(self._end_for(ending))
        if (error := await ending) is not None:
            raise error
        return {}, []

    async def _end_for(self, asked: Later[Exception | None]) -> None:
        """Everybody who has asked gets the outcome; asked again after a failure, it is tried again."""
        try:
            await self._end()
        except Exception as exc:  # noqa: BLE001 - it is answered
            self._ending = None
            self._save()
            asked.set(exc)
        else:
            self._done.set(None)
            asked.set(None)

    async def _end(self) -> None:
        await kill_group(self._loop, self._pod.group)
        for container in list(self._containers.values()):
            await container.destroy()
        for child in self._keeping.children():
            child.signal(9)
            await child.ended
        self._home.remove()

    async def _leave_when_told(self) -> None:
        """At SIGTERM, stay until the last container has ended, and leave the sandbox to whoever sweeps.

        It comes from systemd, to the containers at the same time: their last output and their exits are written yet.
        """
        await self._keeping.told_to_leave
        for container in list(self._containers.values()):
            if not isinstance(await container.created, Exception):
                if container.state == "created":  # as the first of a pid namespace it does not hear SIGTERM
                    container.signal(SIGKILL)
                await container.ended
        self._done.set(None)

    # ---- containers --------------------------------------------------------------------------------------------------

    async def _create_container(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        plan: ContainerPlan = args["container"]
        if self._ending is not None or self._report is None:
            raise Conflict(f"sandbox {self._plan['id']}: it is not ready for containers")
        container = self._containers.get(plan["id"])
        if container is None:
            target = self._known(plan["pid_target"]) if plan["pid_target"] else None
            container = self._containers[plan["id"]] = self._container(plan)
            self._loop.spawn(container.create(target))
        elif container.plan != plan:
            raise Conflict(f"container {plan['id']}: it was made from another plan")
        outcome = await container.created
        if isinstance(outcome, Exception):
            self._containers.pop(plan["id"], None)
            raise outcome
        return outcome, []

    def _container(self, plan: ContainerPlan) -> Container:
        if self._runtime is None:
            return Container(self._pod, plan, self._on_exit)
        return RuntimeContainer(self._pod, plan, self._on_exit, self._runtime)

    async def _start(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        containers = [self._known(name) for name in args["containers"]]
        if not self._is_throttled and self._report is not None:
            self._report["limits"] = self._home.throttle(self._limits)
            self._is_throttled = True
        for container in containers:
            container.release()
        return {"started": [await container.started for container in containers]}, []

    async def _signal(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        number = int(args["signal"])
        for container in [self._known(name) for name in args["containers"]]:
            container.signal(number)
        return {}, []

    async def _resize(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        limits: LimitsPlan = args["limits"]
        if args["container"]:
            return {"limits": self._known(args["container"]).resize(limits)}, []
        if self._report is None:
            raise Conflict(f"sandbox {self._plan['id']}: it is not ready")
        self._report["limits"] = self._home.resize(limits, is_throttled=self._is_throttled)
        self._limits = limits
        self._save()
        return {"limits": self._report["limits"]}, []

    async def _destroy_container(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        container = self._containers.get(args["container"])
        if container is not None:
            await container.destroy()
            self._containers.pop(container.id, None)
            self._save()
        else:  # remains of one that an attendant had begun when it failed
            await kill_group(self._loop, self._pod.group.child(args["container"]))
            await containers.remove(self._pod, args["container"])
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
        self._peers.notify({"event": "exited", "container": container.id, "exit": record})

    # ---- execs -------------------------------------------------------------------------------------------------------

    async def _exec(self, peer: str, args: dict[str, Any], fds: Descriptors) -> Answer:
        pid, terminal = await self._execs.start(self._known(args["container"]), args["exec"], fds, peer)
        if not self._peers.has(peer):  # it has hung up meanwhile
            self._execs.end_of(peer)
        return {"pid": pid}, terminal

    async def _exec_wait(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        return await self._known_exec(args["exec"]).ended, []

    async def _exec_kill(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        with suppress(NotFound):
            self._known_exec(args["exec"]).kill()
        return {}, []

    def _known_exec(self, name: str) -> Exec:
        entry = self._execs.get(name)
        if entry is None:
            raise NotFound(f"exec {name}: it was never started, or ended too long ago")
        return entry

    def _on_exec_exit(self, exec_id: str, record: ExitRecord) -> None:
        self._peers.notify({"event": "exec_exited", "exec": exec_id, "exit": record})
