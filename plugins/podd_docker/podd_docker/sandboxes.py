"""Sandboxes: a holder each, and the cgroup in which all of the pod is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import anyio
import structlog
from anyio.abc import TaskGroup

from podd.driver.contract import Handle, Limits, NetworkStatus, Owned, SandboxConfig, SandboxCreated, SandboxStatus
from podd.errors import Conflict, NotFound, Unavailable
from podd.linux import process
from podd.model.ids import ContainerId, PodUid, SandboxId
from podd_docker import filters, groups, handles, look, plans
from podd_docker.api import Api
from podd_docker.config import Section
from podd_docker.containers import Containers
from podd_docker.found import Found
from podd_docker.host import Host
from podd_docker.images import Images
from podd_docker.making import create
from podd_docker.plans import Body
from podd_docker.watch import Watch

log = structlog.get_logger(__name__)

TAKEN = ("port is already allocated", "address already in use")
"""How dockerd says that a port of the host leads elsewhere."""

GONE_S = 20.0
"""How long dockerd may take to remove what it has begun to remove."""


@contextmanager
def deadline(sandbox_id: str) -> Iterator[None]:
    try:
        with anyio.fail_after(GONE_S):
            yield
    except TimeoutError as exc:
        raise Unavailable(
            f"sandbox {sandbox_id}: dockerd did not remove its containers within {GONE_S:g} s",
            remedy="look at dockerd's log",
        ) from exc


class Sandboxes:
    def __init__(
        self,
        api: Api,
        host: Host,
        watch: Watch,
        tasks: TaskGroup,
        section: Section,
        owner: str,
        images: Images,
        containers: Containers,
    ) -> None:
        self._api = api
        self._host = host
        self._watch = watch
        self._tasks = tasks
        self._section = section
        self._owner = owner
        self._images = images
        self._containers = containers

    # ---- making

    async def plan(self, config: SandboxConfig) -> Body:
        way = self._host.ways.chosen(await self._api.cgroup_driver())
        return plans.holder_body(config, self._owner, self._section, way.path(config.id), filters.of_holder())

    async def create(self, driver: str, config: SandboxConfig, body: Body) -> SandboxCreated:
        try:
            return await self._make(driver, config, body)
        except Conflict:
            raise  # there is another of this id: it is not ours to undo
        except Exception:
            await self.destroy(config.id)
            raise

    async def _make(self, driver: str, config: SandboxConfig, body: Body) -> SandboxCreated:
        path = groups.of_parent(body["HostConfig"]["CgroupParent"])
        group = await anyio.to_thread.run_sync(self._host.make_pod, config.id, path, config.limits)
        name = plans.name_of(config.id)
        there = await self._create(name, body)
        if there is None or not there.is_running:
            if there is not None and there.has_ended:
                raise Conflict(f"sandbox {config.id}: it was there, and its holder has ended")
            await self._start(config, name)
        self._watch.expect(config.id)
        found = Found(await self._api.get(f"containers/{name}/json"))
        state = await anyio.to_thread.run_sync(_state, found)
        if state is None:
            raise Unavailable(
                f"sandbox {config.id}: its holder ended at once: {found.error or 'dockerd has no reason'}"
            )
        await self._name(config, found)
        return SandboxCreated(
            handle=handles.make(driver, config.id, state),
            observed=await anyio.to_thread.run_sync(look.sandbox, state, group),
            cgroup=group.path,
            ips=found.addresses,
        )

    async def _start(self, config: SandboxConfig, name: str) -> None:
        try:
            await self._api.post(f"containers/{name}/start")
        except Unavailable as exc:
            if not any(why in exc.message for why in TAKEN):
                raise
            await self.destroy(config.id)
            raise Conflict(f"sandbox {config.id}: {exc.message}", remedy="choose another hostPort") from exc

    async def _name(self, config: SandboxConfig, found: Found) -> None:
        """Write the files from which its containers know what it is called."""
        make = partial(self._host.make_files, config, found.addresses, resolves=self._section.is_resolving)
        for note in await anyio.to_thread.run_sync(make):
            log.warning("sandbox.limited", sandbox=config.id, note=note)

    async def _create(self, name: str, body: Body) -> Found | None:
        try:
            return (await create(self._api, name, body)).there
        except NotFound:  # the image, on a dockerd that has not had a pod yet
            await self._images.import_holder()
            return (await create(self._api, name, body)).there

    # ---- its network

    async def network_status(self) -> NetworkStatus:
        name = self._section.network
        try:
            await self._api.get(f"networks/{name}")
        except NotFound:
            return NetworkStatus(
                ready=False,
                name=name,
                reason=f"dockerd has no network {name}",
                remedy="docker network ls shows what there is; set drivers.docker.network",
            )
        return NetworkStatus(ready=True, name=name)

    # ---- looking

    async def owned(self, driver: str) -> list[Owned]:
        told = await self._api.get("containers/json", all="1", filters=_labelled(plans.OWNER, self._owner))
        members: dict[str, list[ContainerId]] = {}
        holders: dict[str, str] = {}
        for one in told:
            labels = one["Labels"]
            sandbox = labels.get(plans.SANDBOX, "")
            members.setdefault(sandbox, [])
            if labels.get(plans.KIND) == plans.HOLDER:
                holders[sandbox] = one["Id"]
            else:
                members[sandbox].append(ContainerId(labels.get(plans.ID, "")))
        remains = await anyio.to_thread.run_sync(self._host.sandboxes)
        return [
            await self._owned(driver, sandbox, holders.get(sandbox), sorted(members.get(sandbox, [])))
            for sandbox in sorted({*members, *remains})
        ]

    async def _owned(
        self, driver: str, sandbox: str, docker_id: str | None, containers: Sequence[ContainerId]
    ) -> Owned:
        handle = uid = None
        if docker_id is not None:
            try:
                found = Found(await self._api.get(f"containers/{docker_id}/json"))
            except NotFound:
                pass
            else:
                state = await anyio.to_thread.run_sync(_state, found)
                handle = None if state is None else handles.make(driver, sandbox, state)
                uid = PodUid(found.labels[plans.POD_UID])
        return Owned(sandbox_id=SandboxId(sandbox), handle=handle, pod_uid=uid, containers=containers)

    async def status(self, sandbox: Handle) -> SandboxStatus:
        state = handles.sandbox_state(sandbox)
        found = await self._found(sandbox)
        now = await anyio.to_thread.run_sync(_state, found)
        group = self._host.group(state.cgroup)
        if now != state:
            return SandboxStatus(id=SandboxId(sandbox.id), state="notready")
        try:
            observed = await anyio.to_thread.run_sync(look.sandbox, state, group)
        except ProcessLookupError:
            return SandboxStatus(id=SandboxId(sandbox.id), state="notready")
        paused = await anyio.to_thread.run_sync(group.frozen)
        return SandboxStatus(id=SandboxId(sandbox.id), state="ready", paused=paused, observed=observed)

    async def wait(self, sandbox: Handle) -> str:
        """Until its holder has ended. A dockerd that is away may come back with the holder as it was."""
        state = handles.sandbox_state(sandbox)

        async def lost() -> str | None:
            found = await self._found(sandbox)
            is_lost = found.docker_id != state.docker_id or found.has_ended
            return "the holder of its namespaces has ended" if is_lost else None

        return await self._watch.until(sandbox.id, lost)

    async def _found(self, sandbox: Handle) -> Found:
        try:
            return Found(await self._api.get(f"containers/{plans.name_of(sandbox.id)}/json"))
        except NotFound as exc:
            raise NotFound(f"sandbox {sandbox.id}: it does not exist") from exc

    async def resize(self, sandbox: Handle, limits: Limits) -> Limits:
        await self._found(sandbox)
        return await anyio.to_thread.run_sync(self._host.change_pod, handles.sandbox_state(sandbox).cgroup, limits)

    # ---- the end

    async def destroy(self, sandbox_id: str) -> None:
        await anyio.to_thread.run_sync(self._host.kill_pod, sandbox_id)
        filters = _labelled(plans.SANDBOX, sandbox_id)
        with deadline(sandbox_id):
            while told := await self._api.get("containers/json", all="1", filters=filters):
                await self._remove_all(sandbox_id, [(one["Id"], one["Labels"].get(plans.ID, "")) for one in told])
        await anyio.to_thread.run_sync(self._host.unbind_parts, sandbox_id)
        await anyio.to_thread.run_sync(self._host.remove_pod, sandbox_id)
        await anyio.to_thread.run_sync(self._host.forget, sandbox_id)
        self._watch.ring(sandbox_id)

    async def _remove_all(self, sandbox_id: str, told: Sequence[tuple[str, str]]) -> None:
        """Members first: dockerd tells of their ends with the holder's network still there."""
        async with anyio.create_task_group() as tasks:
            for docker_id, of in told:
                tasks.start_soon(self._containers.remove, sandbox_id, of, docker_id)


def _state(found: Found) -> handles.SandboxState | None:
    """None: the holder does not run."""
    if not found.is_running:
        return None
    try:
        pid, starttime_ticks, boot_id = process.identity(found.pid)
    except ProcessLookupError:
        return None
    return handles.SandboxState(
        docker_id=found.docker_id,
        cgroup=found.cgroup,
        hostname=found.hostname,
        namespaces=found.namespaces,
        shares_uts=found.shares_uts,
        pid=pid,
        starttime_ticks=starttime_ticks,
        boot_id=boot_id,
        runtime=found.made_with,
    )


def _labelled(label: str, value: str) -> str:
    return json.dumps({"label": [f"{label}={value}"]})
