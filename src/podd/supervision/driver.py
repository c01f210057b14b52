"""A driver whose sandboxes and containers are made and supervised by shims."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio
import msgspec
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
    Limits,
    NamespaceRow,
    NetworkStatus,
    Owned,
    PortMapping,
    SandboxConfig,
    SandboxCreated,
    SandboxStatus,
    SandboxUsage,
)
from podd.driver.handles import check_id
from podd.driver.hookspecs import DriverPaths
from podd.errors import Internal, NotFound, PoddError, Unavailable
from podd.images.service import opened
from podd.linux.process import boot_id
from podd.model.ids import SandboxId
from podd.network import files
from podd.network.network import Networks
from podd.shim.plan import ContainerPlan, ExecPlan, SandboxPlan, SandboxReport
from podd.supervision import handles, host, inspect, plans
from podd.supervision.link import Link
from podd.supervision.sandboxes import Sandboxes
from podd.supervision.section import Section
from podd.supervision.zygote import Zygote

log = structlog.get_logger(__name__)


class ShimDriver:
    """See podd.driver.contract.Driver.

    A verb that is cancelled has been handed to the shim whole and is carried out: what it made keeps its id, is found
    by that id, and is undone by destroy_*. Its answer is discarded when it comes, descriptors closed.

    Subclasses name their capabilities and complete plans; where need be they prepare and probe differently, too.
    """

    capabilities: Capabilities
    is_eager = True
    """Whether what all pods need is there when podd has started; else it is with the first pod."""

    def __init__(self, name: str, section: Section, paths: DriverPaths) -> None:
        self.name = name
        self._section = section
        self._paths = paths
        self.images = opened(paths.images)
        self._storage = self.images.storage
        self._host: host.Host | None = None
        self._sandboxes: Sandboxes | None = None
        cache_dir = paths.network.cache_dir or f"{paths.state_dir}/cni"
        self._checking = anyio.Semaphore(1)  # there may be hundreds, and nobody waits for them
        self._networks = Networks(name, msgspec.structs.replace(paths.network, cache_dir=cache_dir))
        self._unusable: PoddError | None = None

    # ---- for subclasses ----------------------------------------------------------------------------------------------

    def _find(self) -> host.Host:
        """Check that the driver can work here. In a worker thread. Raises PoddError: it cannot, why, and what to do."""
        return host.find(self.name, self._section, self._paths)

    def _look(self) -> Health:
        """See `probe`. In a worker thread."""
        return host.probe(self._unusable)

    async def _warm(self) -> None:
        """What is done in the background when the driver has been entered."""

    def _complete_sandbox(self, plan: SandboxPlan) -> SandboxPlan:
        return plan

    async def _complete(self, plan: ContainerPlan, config: ContainerConfig) -> ContainerPlan:
        """Give the plan its filter of system calls, and whatever else is of this driver alone."""
        raise NotImplementedError

    # ---- the driver itself -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._tasks: TaskGroup = await anyio.create_task_group().__aenter__()
        try:
            await self._prepare()
        except PoddError as exc:  # probe tells; every verb refuses
            self._unusable = exc
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _prepare(self) -> None:
        here = await anyio.to_thread.run_sync(self._find)
        zygote = Zygote(self._tasks, here.place_supervisors)
        if self.is_eager:
            await anyio.to_thread.run_sync(here.settle)
            await zygote.start()
        self._host, self._sandboxes = here, Sandboxes(here, self._networks, zygote, self._tasks)
        self._tasks.start_soon(self._warm)
        self._tasks.start_soon(self.images.tidy)
        self._tasks.start_soon(self._networks.collect)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Leave every sandbox running."""
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def probe(self) -> Health:
        return await anyio.to_thread.run_sync(self._look)

    async def owned(self) -> Sequence[Owned]:
        found = await anyio.to_thread.run_sync(self._here.owned, self.name)
        known = {*self._in_hand.ids(), *await anyio.to_thread.run_sync(self._networks.held)}
        begun = known - {one.sandbox_id for one in found}
        return [*found, *(Owned(sandbox_id=SandboxId(one), handle=None) for one in sorted(begun))]

    @property
    def _here(self) -> host.Host:
        if self._host is None:
            raise self._unusable or Internal(f"drivers.{self.name}: used before it was entered")
        return self._host

    # ---- sandboxes ---------------------------------------------------------------------------------------------------

    async def create_sandbox(self, config: SandboxConfig) -> SandboxCreated:
        check_id(config.id)
        if not self.is_eager:
            await anyio.to_thread.run_sync(self._here.settle)
        plan = self._complete_sandbox(plans.sandbox_plan(config, self._here.places))
        report, ips = await self._in_hand.create(plan, plans.wanted_network(config, self._here.places))
        await self._name(config, ips)
        state = handles.SandboxState(
            run_dir=self._here.places.sandbox_dir(config.id),
            cgroup=report["cgroup"],
            pid=report["shim_pid"],
            starttime_ticks=report["starttime_ticks"],
            boot_id=report["boot_id"],
            net=config.namespaces.net if config.namespaces.net == "node" else "pod",
        )
        return SandboxCreated(
            handle=handles.make(self.name, config.id, state),
            observed=plans.observed(report["namespaces"], report["cgroup"], report["limits"]),
            cgroup=report["cgroup"],
            ips=ips,
        )

    async def _name(self, config: SandboxConfig, ips: Sequence[str]) -> None:
        """Write the files from which its containers know what it is called."""
        place = f"{self._here.places.sandbox_dir(config.id)}/etc"
        for note in await anyio.to_thread.run_sync(files.make, place, config, ips):
            log.warning("sandbox.limited", sandbox=config.id, note=note)

    async def recover(
        self,
        sandbox: Handle,
        containers: Sequence[Handle],  # noqa: ARG002 the shim knows its own
    ) -> SandboxStatus:
        link = await self._in_hand.link(sandbox.id, handles.sandbox_state(sandbox))
        if link.lost.is_set():
            raise NotFound(f"sandbox {sandbox.id}: {link.why}")
        self._tasks.start_soon(self._check_network, sandbox.id)
        return await self.sandbox_status(sandbox)

    async def _check_network(self, sandbox_id: str) -> None:
        """Say so where the network of a pod was damaged while podd was away, as by a firewall that was set up anew."""
        try:
            async with self._checking:
                await self._networks.check(sandbox_id)
        except PoddError as exc:
            remedy = "podd-cli restart makes its network anew"
            log.warning("network.damaged", sandbox=sandbox_id, error=exc.message, remedy=remedy)

    async def sandbox_status(self, sandbox: Handle) -> SandboxStatus:
        link = await self._live_link(sandbox.id)
        if link is None:
            if await anyio.to_thread.run_sync(self._here.remains, sandbox.id):
                return SandboxStatus(id=SandboxId(sandbox.id), state="notready")
            raise NotFound(f"sandbox {sandbox.id}: it does not exist")
        answer, _ = await link.call("status", {})
        report: SandboxReport = answer["sandbox"]
        paused = await anyio.to_thread.run_sync(self._here.group(sandbox.id).frozen)
        return SandboxStatus(
            id=SandboxId(sandbox.id),
            state="ready",
            paused=paused,
            observed=plans.observed(report["namespaces"], report["cgroup"], report["limits"]),
        )

    async def wait_sandbox(self, sandbox: Handle) -> str:
        link = await self._in_hand.link(sandbox.id)
        await link.lost.wait()
        if link.let_go:
            raise Unavailable(f"sandbox {sandbox.id}: {link.why}")
        return link.why

    async def destroy_sandbox(self, sandbox_id: SandboxId) -> None:
        await self._in_hand.destroy(check_id(sandbox_id))

    async def _live_link(self, sandbox_id: str) -> Link | None:
        """None: it has no shim, or has lost it."""
        try:
            link = await self._in_hand.link(sandbox_id)
        except NotFound:
            return None
        return None if link.lost.is_set() else link

    @property
    def _in_hand(self) -> Sandboxes:
        if self._sandboxes is None:
            raise self._unusable or Internal(f"drivers.{self.name}: used before it was entered")
        return self._sandboxes

    # ---- containers --------------------------------------------------------------------------------------------------

    async def create_container(self, sandbox: Handle, config: ContainerConfig) -> ContainerCreated:
        check_id(config.id)
        root = await self._root(config)
        plan = await self._complete(plans.container_plan(config, root, self._section), config)
        report = await self._in_hand.ask(sandbox.id, "create_container", {"container": plan})
        if root.image_id and not await anyio.to_thread.run_sync(self._storage.holds, root.image_id):
            await self.destroy_container(sandbox, config.id)
            raise NotFound(f"container {config.name}: image {config.image!r} was removed meanwhile")
        (await self._in_hand.link(sandbox.id)).expect_exit(config.id)
        if root.image.stop_signal and plans.stop_signal(root) is None:
            report["notes"].append(f"stop signal {root.image.stop_signal!r} of the image: there is none of this name")
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
            image_id=root.image_id,
            stop_signal=plans.stop_signal(root),
        )

    async def _root(self, config: ContainerConfig) -> plans.Root:
        """A directory needs no look at the disk, and so no thread."""
        if (directory := plans.directory(config)) is not None:
            return plans.Root([directory])
        return await anyio.to_thread.run_sync(plans.stored, config, self._storage)

    async def start_containers(self, containers: Sequence[Handle]) -> Sequence[ContainerStarted]:
        if not containers:
            return []
        ids = [container.id for container in containers]
        answer = await self._in_hand.ask(_sandbox_of(containers), "start", {"containers": ids})
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
            await self._in_hand.ask(_sandbox_of(containers), "signal", {"containers": ids, "signal": signal})

    async def wait_container(self, container: Handle) -> Exit:
        sandbox_id = handles.container_state(container).sandbox
        try:
            link = await self._in_hand.link(sandbox_id)
        except NotFound:
            return await anyio.to_thread.run_sync(self._here.exit_of, sandbox_id, container.id)
        return await link.exit_of(container.id)

    async def container_status(self, container: Handle) -> ContainerStatus:
        state = handles.container_state(container)
        answer = await self._in_hand.ask(state.sandbox, "status", {})
        if container.id not in answer["containers"]:
            raise NotFound(f"container {container.id}: it does not exist in sandbox {state.sandbox}")
        return await anyio.to_thread.run_sync(
            self._here.container_status, state.sandbox, container.id, answer["containers"][container.id]
        )

    async def destroy_container(self, sandbox: Handle, container_id: str) -> None:
        check_id(container_id)
        link = await self._live_link(sandbox.id)
        if link is None:  # then the container is dead, too, or about to be
            await anyio.to_thread.run_sync(self._here.remove_container, sandbox.id, container_id)
        else:
            await link.call("destroy_container", {"container": container_id})
            link.forget(container_id)

    # ---- exec and attach ---------------------------------------------------------------------------------------------

    async def exec_start(self, container: Handle, request: ExecRequest, stdio: Sequence[int]) -> tuple[str, int | None]:
        link = await self._in_hand.link(handles.container_state(container).sandbox)
        plan = ExecPlan(
            id=secrets.token_hex(8),
            argv=list(request.argv),
            env=list(request.env),
            tty=request.tty,
            terminal_size=request.terminal_size,
            bound=request.bound,
        )
        _, fds = await link.call(
            "exec",
            {"container": container.id, "exec": plan},
            () if request.tty else tuple(stdio),
            late=lambda _: link.peer.post("exec_kill", {"exec": plan["id"]}),  # nobody has its id
        )
        return plan["id"], fds.take()[0] if request.tty else None

    async def exec_wait(self, container: Handle, exec_id: str) -> Exit:
        answer = await self._in_hand.ask(handles.container_state(container).sandbox, "exec_wait", {"exec": exec_id})
        return plans.exit_of(answer)  # type: ignore[arg-type]  # the wire's word for it

    async def exec_kill(self, container: Handle, exec_id: str) -> None:
        with suppress(NotFound):
            await self._in_hand.ask(handles.container_state(container).sandbox, "exec_kill", {"exec": exec_id})

    async def attach(self, container: Handle, *, stdin: bool) -> int:
        link = await self._in_hand.link(handles.container_state(container).sandbox)
        _, fds = await link.call("attach", {"container": container.id, "stdin": stdin})
        return fds.take()[0]

    # ---- connect -----------------------------------------------------------------------------------------------------

    async def open_socket(self, sandbox: Handle, family: int, kind: int) -> int:
        """On the event loop: to have a thread do it takes ten times as long."""
        return host.open_socket(sandbox, family, kind)

    # ---- network -----------------------------------------------------------------------------------------------------

    async def network_status(self) -> NetworkStatus:
        return await self._networks.status()

    async def publish(self, sandbox: Handle, ports: Sequence[PortMapping]) -> None:
        await self._in_hand.link(sandbox.id)  # it is there
        await self._networks.publish(sandbox.id, ports)

    # ---- resize, pause, stats, inspect -------------------------------------------------------------------------------

    async def resize_sandbox(self, sandbox: Handle, limits: Limits) -> Limits:
        return await self._resize(sandbox.id, "", limits)

    async def resize_container(self, sandbox: Handle, container: Handle, limits: Limits) -> Limits:
        return await self._resize(sandbox.id, container.id, limits)

    async def _resize(self, sandbox_id: str, container_id: str, limits: Limits) -> Limits:
        asked = {"container": container_id, "limits": plans.limits_plan(limits)}
        return plans.limits((await self._in_hand.ask(sandbox_id, "resize", asked))["limits"])

    async def pause(self, sandbox: Handle) -> None:
        await anyio.to_thread.run_sync(self._here.group(sandbox.id).freeze)

    async def resume(self, sandbox: Handle) -> None:
        await anyio.to_thread.run_sync(self._here.group(sandbox.id).thaw)

    async def usage(self, sandbox: Handle, containers: Sequence[Handle]) -> SandboxUsage:
        layers = f"{self._here.places.containers_dir}/{sandbox.id}"
        return await anyio.to_thread.run_sync(inspect.usage, self._here.group(sandbox.id), sandbox, containers, layers)

    async def namespaces(self, sandbox: Handle, containers: Sequence[Handle]) -> Sequence[NamespaceRow]:
        return await anyio.to_thread.run_sync(inspect.namespaces, sandbox, containers)

    async def cgroups(self, sandbox: Handle, containers: Sequence[Handle]) -> CgroupNode:
        return await anyio.to_thread.run_sync(inspect.cgroups, self._here.group(sandbox.id), sandbox, containers)


def _sandbox_of(containers: Sequence[Handle]) -> str:
    sandboxes = {handles.container_state(container).sandbox for container in containers}
    if len(sandboxes) != 1:
        raise Internal(f"containers of several sandboxes in one call: {', '.join(sorted(sandboxes))}")
    return sandboxes.pop()
