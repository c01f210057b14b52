"""The setns driver: sandboxes and containers made by shims of podd's own, with no container runtime."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio
import structlog
from anyio.abc import TaskGroup

from podd.driver.contract import (
    Capabilities,
    CgroupNode,
    ContainerConfig,
    ContainerCreated,
    ContainerStarted,
    ContainerStatus,
    ExecRequest,
    Exit,
    Handle,
    Health,
    NamespaceRow,
    Owned,
    SandboxConfig,
    SandboxCreated,
    SandboxStatus,
    SandboxUsage,
)
from podd.driver.hookspecs import DriverPaths
from podd.errors import Conflict, Internal, NotFound, PoddError, Unavailable
from podd.linux.process import PidIdentity, boot_id
from podd.model.ids import SandboxId
from podd.shim.plan import ExecPlan, SandboxPlan, SandboxReport
from podd_setns import handles, host, inspect, plans
from podd_setns.config import parse
from podd_setns.filters import Filters
from podd_setns.link import Link
from podd_setns.zygote import Zygote

log = structlog.get_logger(__name__)

SHUTDOWN_S = 15.0
"""How long a shim may take to make or to remove its sandbox before it is killed. It takes milliseconds; the bound is
there so that destroy_sandbox ends even where a shim does not answer at all."""

SWEEP_S = 60.0
"""How long the zygote may take to sweep."""


class _Sandbox:
    """One sandbox that this driver has in hand, from before it is made until nothing is left of it."""

    def __init__(self, plan: SandboxPlan | None = None) -> None:
        self.plan = plan  # None: taken up from an earlier daemon
        self.made = anyio.Event()  # or failed
        self.created: SandboxCreated | None = None
        self.failure: PoddError | None = None
        self.link: Link | None = None
        self.making = anyio.CancelScope()
        self.lock = anyio.Lock()  # of removing it


class SetnsDriver:
    """See podd.driver.contract.Driver.

    A verb that is cancelled has been handed to the shim whole and is carried out: what it made keeps its id, is found
    by that id, and is undone by destroy_*. Its answer is discarded when it comes, descriptors closed.
    """

    capabilities = Capabilities(
        held_start=True,
        shared_uts=True,
        pid_pod=True,
        pid_node=True,
        exec=True,
        attach=True,
        pause=True,
        stats=True,
        rootfs_directory=True,
        outlives_podd=True,
    )

    def __init__(self, name: str, section: Mapping[str, Any], paths: DriverPaths) -> None:
        self.name = name
        self._section = parse(name, section)
        self._paths = paths
        self._sandboxes: dict[str, _Sandbox] = {}
        self._filters = Filters()
        self._host: host.Host | None = None
        self._unusable: PoddError | None = None

    # ---- the driver itself -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._tasks: TaskGroup = await anyio.create_task_group().__aenter__()
        self._zygote = Zygote(self._tasks)
        try:
            self._host = await anyio.to_thread.run_sync(host.prepare, self._section, self._paths)
            await self._zygote.start()
            self._tasks.start_soon(self._filters.warm)
        except PoddError as exc:  # probe tells; every verb refuses
            self._unusable = exc
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Leave every sandbox running."""
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def probe(self) -> Health:
        return await anyio.to_thread.run_sync(host.probe, self._unusable)

    async def owned(self) -> Sequence[Owned]:
        found = await anyio.to_thread.run_sync(self._here.owned, self.name)
        begun = self._sandboxes.keys() - {one.sandbox_id for one in found}
        return [*found, *(Owned(sandbox_id=SandboxId(one), handle=None) for one in sorted(begun))]

    @property
    def _here(self) -> host.Host:
        if self._host is None:
            raise self._unusable or Internal(f"drivers.{self.name}: used before it was entered")
        return self._host

    # ---- sandboxes ---------------------------------------------------------------------------------------------------

    async def create_sandbox(self, config: SandboxConfig) -> SandboxCreated:
        handles.check_id(config.id)
        plan = plans.sandbox_plan(config, self._here.places)
        sandbox = self._sandboxes.get(config.id)
        if sandbox is None:
            sandbox = self._sandboxes[config.id] = _Sandbox(plan)
            # In a task of its own: a caller that is cancelled must not leave a fork that destroy_sandbox cannot await.
            self._tasks.start_soon(self._make, sandbox, plan)
        await sandbox.made.wait()
        if sandbox.failure is not None:
            raise sandbox.failure
        if sandbox.created is None or sandbox.plan != plan:  # taken up, or made of something else: the shim knows
            sandbox.created = self._created(await self._ask(config.id, "create_sandbox", {"sandbox": plan}))
        return sandbox.created

    async def recover(
        self,
        sandbox: Handle,
        containers: Sequence[Handle],  # noqa: ARG002 the shim knows its own
    ) -> SandboxStatus:
        link = await self._link(sandbox.id, handles.sandbox_state(sandbox))
        if link.lost.is_set():
            raise NotFound(f"sandbox {sandbox.id}: {link.why}")
        return await self.sandbox_status(sandbox)

    async def sandbox_status(self, sandbox: Handle) -> SandboxStatus:
        try:
            link = await self._link(sandbox.id)
            answer = await self._ask(sandbox.id, "status", {})
        except (NotFound, Unavailable):
            if await anyio.to_thread.run_sync(self._here.remains, sandbox.id):
                return SandboxStatus(id=SandboxId(sandbox.id), state="notready")
            raise NotFound(f"sandbox {sandbox.id}: it does not exist") from None
        report: SandboxReport = answer["sandbox"]
        paused = await anyio.to_thread.run_sync(self._here.group(sandbox.id).frozen)
        return SandboxStatus(
            id=SandboxId(link.sandbox),
            state="ready",
            paused=paused,
            observed=plans.observed(report["namespaces"], report["cgroup"], report["limits"]),
        )

    async def wait_sandbox(self, sandbox: Handle) -> str:
        link = await self._link(sandbox.id)
        await link.lost.wait()
        return link.why

    async def destroy_sandbox(self, sandbox_id: SandboxId) -> None:
        handles.check_id(sandbox_id)
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            sandbox = self._sandboxes[sandbox_id] = _Sandbox()
            sandbox.failure = Conflict(f"sandbox {sandbox_id}: it is being destroyed")
            sandbox.made.set()
        async with sandbox.lock:
            with anyio.move_on_after(SHUTDOWN_S):
                await sandbox.made.wait()
            sandbox.making.cancel()
            if self._sandboxes.get(sandbox_id) is sandbox:  # else who had the lock before has removed it
                await self._remove(sandbox_id, sandbox)

    async def _remove(self, sandbox_id: str, sandbox: _Sandbox) -> None:
        if sandbox.link is None:
            with suppress(NotFound, Unavailable):
                sandbox.link = await self._connect(sandbox_id)
        if sandbox.link is not None:
            await _shut_down(sandbox.link)
        if await anyio.to_thread.run_sync(self._here.remains, sandbox_id):
            await self._sweep(sandbox_id)
        if sandbox.link is not None:
            await sandbox.link.aclose()
        del self._sandboxes[sandbox_id]

    async def _make(self, sandbox: _Sandbox, plan: SandboxPlan) -> None:
        try:
            with sandbox.making:
                try:
                    sandbox.created = self._created(await self._fork(sandbox, plan))
                except Conflict:  # a shim, or remains, of an earlier daemon that did not live to store the handle
                    await self._make_again(sandbox, plan)
                return
            sandbox.failure = Unavailable(f"sandbox {plan['id']}: making it was given up")
        except PoddError as exc:
            sandbox.failure = exc
            with suppress(PoddError):  # else it is found by owned, and removed by whoever asks for that
                await self._remove(plan["id"], sandbox)
        finally:
            sandbox.made.set()

    async def _fork(self, sandbox: _Sandbox, plan: SandboxPlan) -> SandboxReport:
        ours, theirs = socket.socketpair()
        try:
            forked, fds = await self._zygote.call("fork", {"sandbox": plan}, (theirs.fileno(),))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        (pidfd,) = fds.take()
        shim = PidIdentity(forked["pid"], forked["starttime_ticks"], boot_id())
        sandbox.link = link = Link(plan["id"], plan["run_dir"], shim, pidfd, ours)
        report = link.peer.expect(0)
        link.peer.post("subscribe", {})
        self._tasks.start_soon(link.run)
        answer, _ = await report.answer()
        return answer  # type: ignore[return-value]  # the wire's word for it

    async def _make_again(self, sandbox: _Sandbox, plan: SandboxPlan) -> None:
        if sandbox.link is not None:
            await sandbox.link.aclose()
            sandbox.link = None
        try:
            sandbox.link = await self._connect(plan["id"])
        except NotFound:
            await self._sweep(plan["id"])
            sandbox.created = self._created(await self._fork(sandbox, plan))
        else:
            answer, _ = await sandbox.link.call("create_sandbox", {"sandbox": plan})
            sandbox.created = self._created(answer)

    def _created(self, report: SandboxReport | dict[str, Any]) -> SandboxCreated:
        for note in report["notes"]:
            log.warning("sandbox.limited", sandbox=report["id"], note=note)
        state = handles.SandboxState(
            run_dir=self._here.places.sandbox_dir(report["id"]),
            cgroup=report["cgroup"],
            pid=report["shim_pid"],
            starttime_ticks=report["starttime_ticks"],
            boot_id=report["boot_id"],
        )
        return SandboxCreated(
            handle=handles.make(self.name, report["id"], state),
            observed=plans.observed(report["namespaces"], report["cgroup"], report["limits"]),
            cgroup=report["cgroup"],
        )

    async def _link(self, sandbox_id: str, state: handles.SandboxState | None = None) -> Link:
        """To the sandbox's shim, dead or alive; taken up from an earlier daemon where need be.

        state: where to look for it, else where this driver keeps its own. Raises NotFound: it has no shim.
        """
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            sandbox = self._sandboxes[handles.check_id(sandbox_id)] = _Sandbox()
            self._tasks.start_soon(self._take_up, sandbox_id, sandbox, state)
        await sandbox.made.wait()
        if sandbox.link is None:
            raise sandbox.failure or NotFound(f"sandbox {sandbox_id}: it has no shim")
        return sandbox.link

    async def _take_up(self, sandbox_id: str, sandbox: _Sandbox, state: handles.SandboxState | None) -> None:
        try:
            sandbox.link = await self._connect(sandbox_id, state)
        except PoddError as exc:
            sandbox.failure = exc
            del self._sandboxes[sandbox_id]
        finally:
            sandbox.made.set()

    async def _connect(self, sandbox_id: str, state: handles.SandboxState | None = None) -> Link:
        """Raises NotFound: it has no shim; Unavailable: it cannot be reached."""
        if state is None:
            state = await anyio.to_thread.run_sync(self._here.state_of, sandbox_id)
        link = await Link.connect(sandbox_id, state.run_dir, state.shim)
        self._tasks.start_soon(link.run)
        try:
            await link.refresh()
        except BaseException:
            await link.aclose()
            raise
        return link

    async def _ask(self, sandbox_id: str, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        link = await self._link(sandbox_id)
        if link.lost.is_set():
            raise Unavailable(f"sandbox {sandbox_id}: {link.why}")
        answer, _ = await link.call(verb, args)
        return answer

    async def _sweep(self, sandbox_id: str) -> None:
        try:
            with anyio.fail_after(SWEEP_S):
                await self._zygote.call("sweep", {"sandbox": self._here.places.sweep_plan(sandbox_id)})
        except TimeoutError as exc:
            await self._zygote.restart()
            raise Unavailable(f"sandbox {sandbox_id}: removing its remains took longer than {SWEEP_S:g} s") from exc

    # ---- containers --------------------------------------------------------------------------------------------------

    async def create_container(self, sandbox: Handle, config: ContainerConfig) -> ContainerCreated:
        handles.check_id(config.id)
        plan = plans.container_plan(config, self._section)
        if not config.security.privileged:
            plan["seccomp_bpf"] = await self._filters.program(config.security.seccomp, plan["capabilities"])
        report = await self._ask(sandbox.id, "create_container", {"container": plan})
        (await self._link(sandbox.id)).expect_exit(config.id)
        for note in report["notes"]:
            log.warning("container.limited", container=config.id, name=config.name, note=note)
        state = handles.ContainerState(
            sandbox=sandbox.id,
            name=config.name,
            pid=report["pid"],
            starttime_ticks=report["starttime_ticks"],
            boot_id=boot_id(),
        )
        return ContainerCreated(
            handle=handles.make(self.name, config.id, state),
            observed=plans.observed(report["namespaces"], report["cgroup"], report["limits"]),
        )

    async def start_containers(self, containers: Sequence[Handle]) -> Sequence[ContainerStarted]:
        if not containers:
            return []
        ids = [container.id for container in containers]
        answer = await self._ask(_sandbox_of(containers), "start", {"containers": ids})
        return [
            ContainerStarted(
                id=report["id"],
                pid=report["pid"],
                started_at_ns=report["started_at_ns"],
                released_ns=report["released_ns"],
                error=report["error"],
            )
            for report in answer["started"]
        ]

    async def signal_containers(self, containers: Sequence[Handle], signal: int) -> None:
        if containers:
            ids = [container.id for container in containers]
            await self._ask(_sandbox_of(containers), "signal", {"containers": ids, "signal": signal})

    async def wait_container(self, container: Handle) -> Exit:
        sandbox_id = handles.container_state(container).sandbox
        try:
            link = await self._link(sandbox_id)
        except NotFound:
            return await anyio.to_thread.run_sync(self._here.exit_of, sandbox_id, container.id)
        return await link.exit_of(container.id)

    async def container_status(self, container: Handle) -> ContainerStatus:
        state = handles.container_state(container)
        answer = await self._ask(state.sandbox, "status", {})
        if container.id not in answer["containers"]:
            raise NotFound(f"container {container.id}: it does not exist in sandbox {state.sandbox}")
        return await anyio.to_thread.run_sync(
            self._here.container_status, state.sandbox, container.id, answer["containers"][container.id]
        )

    async def destroy_container(self, sandbox: Handle, container_id: str) -> None:
        handles.check_id(container_id)
        try:
            link = await self._link(sandbox.id)
            await self._ask(sandbox.id, "destroy_container", {"container": container_id})
        except (NotFound, Unavailable):
            # Without its shim the container is dead, or about to be.
            await anyio.to_thread.run_sync(self._here.remove_container, sandbox.id, container_id)
            return
        link.forget(container_id)

    # ---- exec and attach ---------------------------------------------------------------------------------------------

    async def exec_start(self, container: Handle, request: ExecRequest, stdio: Sequence[int]) -> tuple[str, int | None]:
        link = await self._link(handles.container_state(container).sandbox)
        plan = ExecPlan(id=secrets.token_hex(8), argv=list(request.argv), env=list(request.env), tty=request.tty)
        _, fds = await link.call(
            "exec",
            {"container": container.id, "exec": plan},
            () if request.tty else tuple(stdio),
            late=lambda _: link.peer.post("exec_kill", {"exec": plan["id"]}),  # nobody has its id
        )
        return plan["id"], fds.take()[0] if request.tty else None

    async def exec_wait(self, container: Handle, exec_id: str) -> Exit:
        answer = await self._ask(handles.container_state(container).sandbox, "exec_wait", {"exec": exec_id})
        return plans.exit_of(answer)  # type: ignore[arg-type]

    async def exec_kill(self, container: Handle, exec_id: str) -> None:
        with suppress(NotFound):
            await self._ask(handles.container_state(container).sandbox, "exec_kill", {"exec": exec_id})

    async def attach(self, container: Handle, *, stdin: bool) -> int:
        link = await self._link(handles.container_state(container).sandbox)
        _, fds = await link.call("attach", {"container": container.id, "stdin": stdin})
        return fds.take()[0]

    # ---- pause, stats, inspect ---------------------------------------------------------------------------------------

    async def pause(self, sandbox: Handle) -> None:
        await anyio.to_thread.run_sync(self._here.group(sandbox.id).freeze)

    async def resume(self, sandbox: Handle) -> None:
        await anyio.to_thread.run_sync(self._here.group(sandbox.id).thaw)

    async def usage(self, sandbox: Handle, containers: Sequence[Handle]) -> SandboxUsage:
        return await anyio.to_thread.run_sync(inspect.usage, self._here.group(sandbox.id), sandbox, containers)

    async def namespaces(self, sandbox: Handle, containers: Sequence[Handle]) -> Sequence[NamespaceRow]:
        return await anyio.to_thread.run_sync(inspect.namespaces, sandbox, containers)

    async def cgroups(self, sandbox: Handle, containers: Sequence[Handle]) -> CgroupNode:
        return await anyio.to_thread.run_sync(inspect.cgroups, self._here.group(sandbox.id), sandbox, containers)


def _sandbox_of(containers: Sequence[Handle]) -> str:
    sandboxes = {handles.container_state(container).sandbox for container in containers}
    if len(sandboxes) != 1:
        raise Internal(f"containers of several sandboxes in one call: {', '.join(sorted(sandboxes))}")
    return sandboxes.pop()


async def _shut_down(link: Link) -> None:
    """Have the shim remove everything and end; kill it where it cannot."""
    with anyio.move_on_after(SHUTDOWN_S), suppress(PoddError):
        await link.call("shutdown", {})
        await link.lost.wait()
    if not link.lost.is_set():
        link.kill()
        with anyio.move_on_after(SHUTDOWN_S):
            await link.lost.wait()
