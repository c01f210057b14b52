"""The driver: sandboxes are directories and control groups, members are children of podd itself.

It keeps every rule of podd.driver.contract in the plainest way:
* A verb that has begun to change something is shielded from being cancelled, so that its effect is whole.
* One lock for each sandbox, so that the same thing asked twice at once is made once.
* What lies on the host is found there (`owned`, `destroy_sandbox`), whoever made it.
Members end with podd, which is declared: `outlives_podd=False`.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread

from podd.driver.contract import (
    Capabilities,
    ContainerConfig,
    ContainerCreated,
    ContainerStarted,
    ContainerStatus,
    Exit,
    Handle,
    Health,
    Limits,
    Observed,
    Owned,
    SandboxConfig,
    SandboxCreated,
    SandboxStatus,
)
from podd.driver.hookspecs import DriverPaths
from podd.errors import Invalid, NotFound, PoddError, Unsupported
from podd.linux import process
from podd.linux.cgroup import Group, Layout, default_parent, prepare_parent
from podd.model.ids import INSTANCE_ID, ContainerId, PodUid, SandboxId
from podd_process.member import SHARED, Member, check, limits_for

VERSION = 1
"""Of handles: a later driver that needs more in them knows by it which it has."""


class Box:
    """A sandbox of this life of podd."""

    def __init__(self, config: SandboxConfig, handle: Handle, group: Group) -> None:
        self.config = config
        self.handle = handle
        self.group = group
        self.lock = anyio.Lock()
        self.members: dict[str, Member] = {}
        self.gone = anyio.Event()

    def observed(self) -> Observed:
        names = process.namespaces(os.getpid())
        limits = Limits(**self.group.read_limits())
        return Observed(namespaces={name: names[name] for name in SHARED}, cgroup=f"/{self.group.path}", limits=limits)


class ProcessDriver:
    """See podd.driver.contract.Driver."""

    capabilities = Capabilities(
        held_start=True,
        shared_uts=True,
        pid_pod=False,
        pid_node=True,
        isolation=False,
        rootfs_directory=True,
        outlives_podd=False,
    )

    def __init__(self, name: str, section: Mapping[str, Any], paths: DriverPaths) -> None:
        """section: cgroup_parent, the group below which this driver's are; where it is not given, podd's own."""
        for key in section:
            if key != "cgroup_parent":
                raise Invalid(f"drivers.{name}.{key}: unknown key", remedy="known is cgroup_parent")
        self.name = name
        self._parent = section.get("cgroup_parent", "")
        self._places = f"{paths.run_dir}/{name}"
        self._boxes: dict[str, Box] = {}

    # ---- the driver itself

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        self._layout = Layout.detect()
        await anyio.to_thread.run_sync(self._settle)
        return self

    def _settle(self) -> None:
        parent = self._parent or default_parent(self._layout)
        prepare_parent(self._layout, parent)
        self._root = self._layout.group(f"{parent}/{self.name}")
        self._root.create()
        self._root.pass_on()
        os.makedirs(self._places, 0o700, exist_ok=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Every member ends, and has been waited for. Its sandbox's remains are found by the next life of podd."""
        with anyio.CancelScope(shield=True):
            for box in self._boxes.values():
                for member in box.members.values():
                    await member.kill()
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def probe(self) -> Health:
        if os.geteuid() != 0:
            return Health(usable=False, reason="podd is not root", remedy="run it as root")
        missing = [f"limits of {name}: no control group has the controller" for name in self._layout.missing]
        return Health(usable=True, version=f"Linux {os.uname().release}", notes=missing)

    async def owned(self) -> Sequence[Owned]:
        return await anyio.to_thread.run_sync(self._owned)

    def _owned(self) -> list[Owned]:
        """Looked up on the host. What no member of this life is in, can only be destroyed: it has no handle."""
        found = {*os.listdir(self._places), *(group.name for group in self._root.children())}
        return [
            Owned(
                sandbox_id=SandboxId(one),
                handle=self._boxes[one].handle if one in self._boxes else None,
                pod_uid=self._pod_of(one),
                containers=[ContainerId(group.name) for group in self._root.child(one).children()],
            )
            for one in sorted(found)
        ]

    def _pod_of(self, sandbox: str) -> PodUid | None:
        try:
            with open(f"{self._places}/{sandbox}/pod") as file:
                return PodUid(file.read())
        except FileNotFoundError:
            return None

    async def recover(self, sandbox: Handle, containers: Sequence[Handle]) -> SandboxStatus:  # noqa: ARG002
        """What ran in an earlier life of podd has ended with it."""
        return await self.sandbox_status(sandbox)

    # ---- sandboxes

    async def create_sandbox(self, config: SandboxConfig) -> SandboxCreated:
        _check_sandbox(config)
        handle = Handle(id=config.id, driver=self.name, version=VERSION)
        box = self._boxes.setdefault(config.id, Box(config, handle, self._root.child(config.id)))
        async with box.lock:
            with anyio.CancelScope(shield=True):
                observed = await anyio.to_thread.run_sync(self._make, box)
        return SandboxCreated(handle=box.handle, observed=observed, cgroup=f"/{box.group.path}")

    def _make(self, box: Box) -> Observed:
        """Bears repeating."""
        place = f"{self._places}/{box.config.id}"
        os.makedirs(place, 0o700, exist_ok=True)
        with open(f"{place}/pod", "w") as file:
            file.write(box.config.pod_uid)
        box.group.create()
        box.group.apply(limits_for(box.config.limits))
        return box.observed()

    async def sandbox_status(self, sandbox: Handle) -> SandboxStatus:
        box = self._box(sandbox)
        return SandboxStatus(id=box.config.id, state="ready", observed=await anyio.to_thread.run_sync(box.observed))

    async def wait_sandbox(self, sandbox: Handle) -> str:
        """Nothing holds it but podd, so it is never lost while podd is there."""
        await self._box(sandbox).gone.wait()
        raise NotFound(f"sandbox {sandbox.id}: was destroyed")

    async def destroy_sandbox(self, sandbox_id: SandboxId) -> None:
        group = self._root.child(_checked(sandbox_id))
        box = self._boxes.get(sandbox_id)
        with anyio.CancelScope(shield=True):
            if box is not None:
                async with box.lock:
                    for member in box.members.values():
                        await member.kill()
            await anyio.to_thread.run_sync(group.kill_all)
            await anyio.to_thread.run_sync(group.remove)
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(f"{self._places}/{sandbox_id}", ignore_errors=True))
            if box is not None:
                self._boxes.pop(sandbox_id, None)
                box.gone.set()

    def _box(self, sandbox: Handle) -> Box:
        if sandbox.id not in self._boxes:
            raise NotFound(f"sandbox {sandbox.id}: there is none")
        return self._boxes[sandbox.id]

    # ---- members

    async def create_container(self, sandbox: Handle, config: ContainerConfig) -> ContainerCreated:
        check(config)
        box = self._box(sandbox)
        async with box.lock:
            if config.id in box.members:
                return box.members[config.id].created
            handle = Handle(id=config.id, driver=self.name, version=VERSION, state={"sandbox": sandbox.id})
            member = Member(config, handle, box.group.child(config.id))
            with anyio.CancelScope(shield=True):
                return await self._made(box, member)

    async def _made(self, box: Box, member: Member) -> ContainerCreated:
        try:
            created = await member.make(self._tasks)
        except (PoddError, OSError):
            await self._end(box, ContainerId(member.handle.id), member)
            raise
        box.members[member.handle.id] = member
        return created

    async def start_containers(self, containers: Sequence[Handle]) -> Sequence[ContainerStarted]:
        return [member.release() for member in [self._member(one) for one in containers]]

    async def signal_containers(self, containers: Sequence[Handle], signal: int) -> None:
        members = [self._member(one) for one in containers]
        if signal != KILL:
            for member in members:
                member.signal(signal)
            return
        async with anyio.create_task_group() as tasks:
            for member in members:
                tasks.start_soon(member.kill)

    async def wait_container(self, container: Handle) -> Exit:
        return await self._member(container).wait()

    async def container_status(self, container: Handle) -> ContainerStatus:
        return self._member(container).status()

    async def destroy_container(self, sandbox: Handle, container_id: ContainerId) -> None:
        _checked(container_id)
        box = self._boxes.get(sandbox.id)
        if box is not None:
            with anyio.CancelScope(shield=True):
                async with box.lock:
                    await self._end(box, container_id, box.members.get(container_id))
                    box.members.pop(container_id, None)

    async def _end(self, box: Box, container_id: ContainerId, member: Member | None) -> None:
        if member is not None and member.is_made:
            await member.kill()
        group = box.group.child(container_id)
        await anyio.to_thread.run_sync(group.kill_all)
        await anyio.to_thread.run_sync(group.remove)

    def _member(self, container: Handle) -> Member:
        box = self._boxes.get(container.state["sandbox"])
        if box is None or container.id not in box.members:
            raise NotFound(f"container {container.id}: there is none")
        return box.members[container.id]


KILL = signal.SIGKILL


def _checked(one: str) -> str:
    """Names of groups and directories are made of it."""
    if not INSTANCE_ID.fullmatch(one):
        raise Invalid(f"{one!r}: is no id")
    return one


def _check_sandbox(config: SandboxConfig) -> None:
    """Refuse what programs of the host do not have. Raises Invalid, Unsupported."""
    _checked(config.id)
    for name in SHARED:
        if getattr(config.namespaces, name) != "node":
            raise Unsupported(f"sandbox {config.id}: {name}: this driver has the host's namespaces alone")
    if config.sysctls:
        raise Unsupported(f"sandbox {config.id}: sysctls: they would be the host's")
