"""The docker driver: sandboxes and containers made by dockerd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import anyio
import structlog
from anyio.abc import TaskGroup
from msgspec.structs import replace

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
from podd.errors import Internal, NotFound, PoddError, Unsupported
from podd.linux import process
from podd.model.ids import SandboxId
from podd_docker import handles, look
from podd_docker.api import Api
from podd_docker.config import parse
from podd_docker.containers import Containers
from podd_docker.execs import Execs, end_bound
from podd_docker.flights import Flights
from podd_docker.hold import Holds
from podd_docker.host import Host
from podd_docker.images import Images
from podd_docker.sandboxes import Sandboxes
from podd_docker.service import DockerImages
from podd_docker.watch import Watch

log = structlog.get_logger(__name__)

LEAVING_S = 3.0
"""How long podd's end may wait for dockerd to finish what it was asked: what podd does not know of, it cannot store."""


class DockerDriver:
    """See podd.driver.contract.Driver.

    A request to dockerd is carried to its end, also where the verb is cancelled: what it made has its name from podd,
    is found by it, and is undone by destroy_*.
    """

    capabilities = Capabilities(
        held_start=False,
        shared_uts=False,
        pid_pod=True,
        pid_node=True,
        exec=True,
        attach=True,
        pause=True,
        stats=True,
        resize=True,
        connect=True,
        pid_target=True,
        images=True,
        outlives_podd=True,
    )

    def __init__(self, name: str, section: Mapping[str, Any], paths: DriverPaths) -> None:
        self.name = name
        self._section = parse(name, section)
        if self._section.runtime:
            self.capabilities = replace(self.capabilities, held_start=True, shared_uts=True)
        if self._section.network != "none":
            self.capabilities = replace(self.capabilities, network=True)
        self._paths = paths
        self._api = Api(name, self._section.socket, self._section.deadline_s)
        self.images = DockerImages(self._api, self._section.socket, self._section.pull_deadline_s)
        self._unusable: PoddError | None = None

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
        folder = f"{self._paths.run_dir}/docker"
        self._host = await anyio.to_thread.run_sync(Host, self.name, folder, self._section.cgroup_parent)
        await anyio.to_thread.run_sync(process.boot_id)
        self._flights = Flights(self._tasks)
        self._watch = Watch(self._api, self._paths.run_dir)
        self._execs = Execs(folder, self._section.exec_root, self._tasks)
        await anyio.to_thread.run_sync(end_bound, folder)
        images = Images(self._api, self._tasks)
        how = (self._api, self._host, self._watch, self._tasks)
        holds = Holds(self._section.exec_root, folder)
        self._containers = Containers(*how, self._section, self._paths.run_dir, images, holds)
        self._sandboxes = Sandboxes(*how, self._section, self._paths.run_dir, images, self._containers)
        self._tasks.start_soon(self._watch.run)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Leave every sandbox running."""
        if hasattr(self, "_flights"):
            with anyio.move_on_after(LEAVING_S, shield=True):
                await self._flights.all_settled()
        self._tasks.cancel_scope.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                await self._api.close()

    async def probe(self) -> Health:
        try:
            self._check_usable()
            told = await self._api.negotiate()
            info = await self._api.get("info")
        except PoddError as exc:
            return Health(usable=False, reason=exc.message, remedy=exc.remedy)
        runtimes: Mapping[str, Any] = info.get("Runtimes") or {}
        self._execs.runtimes = {
            name: [one.get("path") or name, *(one.get("runtimeArgs") or ())] for name, one in runtimes.items()
        }
        version = f"Docker {told.get('Version')}, API {self._api.version[0]}.{self._api.version[1]}"
        why, remedy = self._unfit(info)
        if why:
            return Health(usable=False, reason=why, remedy=remedy, version=version)
        notes = []
        if not self._section.runtime:
            notes.append(
                "members are not held at their start, and have uts namespaces of their own with the pod's hostname: "
                "see podd-cli docker setup"
            )
        if self._host.least_oom_score_adj == 0:
            notes.append("oom_score_adj cannot be lowered: CAP_SYS_RESOURCE is missing")
        return Health(usable=True, version=version, notes=notes)

    def _unfit(self, info: Mapping[str, Any]) -> tuple[str, str]:
        """Why it cannot be used, and what to do; "" where it can."""
        try:
            self._host.ways.chosen(info.get("CgroupDriver", ""))
        except PoddError as exc:
            return exc.message, exc.remedy
        if self._section.runtime and self._section.runtime not in (info.get("Runtimes") or {}):
            return (
                f"drivers.{self.name}.runtime: dockerd has no runtime {self._section.runtime}",
                "podd-cli docker setup tells what to put into /etc/docker/daemon.json",
            )
        return "", ""

    def _check_usable(self) -> None:
        if self._unusable is not None:
            raise self._unusable
        if not hasattr(self, "_sandboxes"):
            raise Internal(f"drivers.{self.name}: used before it was entered")

    # ---- sandboxes ---------------------------------------------------------------------------------------------------

    async def owned(self) -> Sequence[Owned]:
        self._check_usable()
        found = {one.sandbox_id: one for one in await self._sandboxes.owned(self.name)}
        begun = self._flights.sandboxes() - set(found)
        return [*found.values(), *(Owned(sandbox_id=SandboxId(one), handle=None) for one in sorted(begun))]

    async def recover(self, sandbox: Handle, containers: Sequence[Handle]) -> SandboxStatus:
        status = await self.sandbox_status(sandbox)
        if status.state != "ready":
            raise NotFound(f"sandbox {sandbox.id}: its holder has ended")
        await self._containers.logs.take_up([container.id for container in containers])
        return status

    async def create_sandbox(self, config: SandboxConfig) -> SandboxCreated:
        self._check_usable()
        check_id(config.id)
        body = await self._sandboxes.plan(config)
        key = ("create", config.id, body["Labels"]["io.podd.config"])
        return await self._flights.join(config.id, key, lambda: self._sandboxes.create(self.name, config, body))

    async def sandbox_status(self, sandbox: Handle) -> SandboxStatus:
        self._check_usable()
        return await self._sandboxes.status(sandbox)

    async def wait_sandbox(self, sandbox: Handle) -> str:
        self._check_usable()
        return await self._sandboxes.wait(sandbox)

    async def destroy_sandbox(self, sandbox_id: SandboxId) -> None:
        self._check_usable()
        check_id(sandbox_id)
        key = ("destroy", sandbox_id)

        async def destroy() -> None:
            await self._flights.settled(sandbox_id, but=key)
            await self._sandboxes.destroy(sandbox_id)

        await self._flights.join(sandbox_id, key, destroy)

    async def network_status(self) -> NetworkStatus:
        self._check_usable()
        return await self._sandboxes.network_status()

    async def publish(self, sandbox: Handle, ports: Sequence[PortMapping]) -> None:  # noqa: ARG002
        raise Unsupported(
            f"sandbox {sandbox.id}: dockerd leads ports to a container when it is made, and no others later",
            remedy="podd-cli recreate, or delete and apply",
        )

    # ---- containers --------------------------------------------------------------------------------------------------

    async def create_container(self, sandbox: Handle, config: ContainerConfig) -> ContainerCreated:
        self._check_usable()
        check_id(config.id)
        state = handles.sandbox_state(sandbox)
        image = await self._containers.image(config)
        key = ("create", config.id)
        return await self._flights.join(
            sandbox.id, key, lambda: self._containers.create(self.name, state, config, image)
        )

    async def start_containers(self, containers: Sequence[Handle]) -> Sequence[ContainerStarted]:
        if not containers:
            return []
        self._check_usable()
        key = ("start", *(container.id for container in containers))
        return await self._flights.join(_sandbox_of(containers), key, lambda: self._containers.start(containers))

    async def signal_containers(self, containers: Sequence[Handle], signal: int) -> None:
        if containers:
            self._check_usable()
            await self._containers.signal(containers, signal)

    async def wait_container(self, container: Handle) -> Exit:
        self._check_usable()
        return await self._containers.wait(container)

    async def container_status(self, container: Handle) -> ContainerStatus:
        self._check_usable()
        return await self._containers.status(container)

    async def destroy_container(self, sandbox: Handle, container_id: str) -> None:
        self._check_usable()
        check_id(container_id)
        key = ("destroy", container_id)
        await self._flights.join(sandbox.id, key, lambda: self._destroy_container(sandbox.id, container_id))

    async def _destroy_container(self, sandbox_id: str, container_id: str) -> None:
        await self._flights.settled(sandbox_id, but=("destroy", container_id), of=container_id)
        await self._containers.destroy(sandbox_id, container_id)

    # ---- exec and attach ---------------------------------------------------------------------------------------------

    async def exec_start(self, container: Handle, request: ExecRequest, stdio: Sequence[int]) -> tuple[str, int | None]:
        self._check_usable()
        return await self._execs.start(handles.container_state(container), request, stdio)

    async def exec_wait(self, container: Handle, exec_id: str) -> Exit:  # noqa: ARG002 the id tells
        return await self._execs.wait(exec_id)

    async def exec_kill(self, container: Handle, exec_id: str) -> None:  # noqa: ARG002 the id tells
        self._execs.kill(exec_id)

    async def attach(self, container: Handle, *, stdin: bool) -> int:
        self._check_usable()
        return await self._containers.attach(container, stdin=stdin)

    # ---- connect, resize, pause, stats, inspect ----------------------------------------------------------------------

    async def open_socket(self, sandbox: Handle, family: int, kind: int) -> int:
        """On the event loop: to have a thread do it takes ten times as long."""
        return look.open_socket(sandbox, family, kind)

    async def resize_sandbox(self, sandbox: Handle, limits: Limits) -> Limits:
        self._check_usable()
        return await self._sandboxes.resize(sandbox, limits)

    async def resize_container(
        self,
        sandbox: Handle,  # noqa: ARG002 its own handle tells
        container: Handle,
        limits: Limits,
    ) -> Limits:
        self._check_usable()
        return await self._containers.resize(container, limits)

    async def pause(self, sandbox: Handle) -> None:
        self._check_usable()
        group = self._host.group(handles.sandbox_state(sandbox).cgroup)
        await anyio.to_thread.run_sync(group.freeze)

    async def resume(self, sandbox: Handle) -> None:
        self._check_usable()
        group = self._host.group(handles.sandbox_state(sandbox).cgroup)
        await anyio.to_thread.run_sync(group.thaw)

    async def usage(self, sandbox: Handle, containers: Sequence[Handle]) -> SandboxUsage:
        self._check_usable()
        layers = await self._containers.written(containers)
        return await anyio.to_thread.run_sync(look.usage, self._host.layout, sandbox, containers, layers)

    async def namespaces(self, sandbox: Handle, containers: Sequence[Handle]) -> Sequence[NamespaceRow]:
        self._check_usable()
        pids = await self._containers.pids(containers)
        return await anyio.to_thread.run_sync(look.rows, sandbox, pids)

    async def cgroups(self, sandbox: Handle, containers: Sequence[Handle]) -> CgroupNode:
        self._check_usable()
        return await anyio.to_thread.run_sync(look.cgroups, self._host.layout, sandbox, containers)


def _sandbox_of(containers: Sequence[Handle]) -> str:
    sandboxes = {handles.container_state(container).sandbox for container in containers}
    if len(sandboxes) != 1:
        raise Internal(f"containers of several sandboxes in one call: {', '.join(sorted(sandboxes))}")
    return sandboxes.pop()
