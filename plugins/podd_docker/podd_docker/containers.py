"""Containers: made, started together, waited for, removed; and their logs brought over."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from podd.driver.contract import (
    ContainerConfig,
    ContainerCreated,
    ContainerStarted,
    ContainerStatus,
    Exit,
    Handle,
    Limits,
    Observed,
)
from podd.errors import Conflict, NotFound, PoddError, Unavailable
from podd.linux.process import identity, open_pidfd
from podd.model.ids import ContainerId
from podd.supervision.plans import granted
from podd_docker import filters, handles, look, plans
from podd_docker.api import Api
from podd_docker.attach import Bridge
from podd_docker.config import Section
from podd_docker.flights import guarded
from podd_docker.found import Found
from podd_docker.handles import ContainerState, SandboxState
from podd_docker.host import Host
from podd_docker.images import Images
from podd_docker.logs import copy
from podd_docker.watch import Watch

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 1.0
DRAIN_S = 5.0
"""How long an end may wait for the rest of its output: whoever is told of the end may read the log at once."""


class _Copying:
    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()


class Containers:
    def __init__(
        self,
        api: Api,
        host: Host,
        watch: Watch,
        tasks: TaskGroup,
        section: Section,
        owner: str,
        images: Images,
    ) -> None:
        self._api = api
        self._host = host
        self._watch = watch
        self._tasks = tasks
        self._section = section
        self._owner = owner
        self._images = images
        self._copying: dict[str, _Copying] = {}
        self._monotonic_ns = time.monotonic_ns() - time.time_ns()  # dockerd's clock is CLOCK_REALTIME

    # ---- making

    async def image(self, config: ContainerConfig) -> Mapping[str, Any]:
        plans.check(config)
        return await self._images.of(config)

    async def create(
        self, driver: str, sandbox: SandboxState, config: ContainerConfig, image: Mapping[str, Any]
    ) -> ContainerCreated:
        target = "" if config.pid_target is None else await self._running(config, config.pid_target)
        seccomp = "unconfined"
        if not config.security.privileged:
            profile = config.security.seccomp
            seccomp = await anyio.to_thread.run_sync(filters.text, profile, granted(config))
        parts = await anyio.to_thread.run_sync(self._host.bind_parts, config.sandbox_id, config.id, config.mounts)
        body = plans.member_body(
            config,
            owner=self._owner,
            section=self._section,
            sandbox=sandbox,
            image=image["Config"] or {},
            seccomp=seccomp,
            target=target,
            binds=parts,
            least_oom_score_adj=self._host.least_oom_score_adj,
        )
        try:
            docker_id = await create(self._api, plans.name_of(config.id), body)
            await self._images.check_command(config, image, docker_id)
        except Conflict:
            raise
        except Exception:
            await self.destroy(config.sandbox_id, config.id)
            raise
        state = ContainerState(
            sandbox=config.sandbox_id, name=config.name, docker_id=docker_id, cgroup=f"{sandbox.cgroup}/{docker_id}"
        )
        return ContainerCreated(handle=handles.make(driver, config.id, state), observed=None, image_id=image["Id"])

    async def _running(self, config: ContainerConfig, target: ContainerId) -> str:
        found = await self._found(target)
        if not found.is_running:
            raise Conflict(f"container {config.name}: its target {target} does not run")
        return found.docker_id

    # ---- starting

    async def start(self, containers: Sequence[Handle]) -> Sequence[ContainerStarted]:
        answers: dict[str, ContainerStarted] = {}

        async def one(container: Handle) -> None:
            answers[container.id] = await self._start(container)

        async with anyio.create_task_group() as tasks:
            for container in containers:
                tasks.start_soon(one, container)
        return [answers[container.id] for container in containers]

    async def _start(self, container: Handle) -> ContainerStarted:
        try:
            found = await self._found(container.id)
            if found.started_at_ns is None and not found.has_ended:
                await self._api.post(f"containers/{found.docker_id}/start")
                found = await self._found(container.id)
                self._follow(found)
        except PoddError as exc:
            self._watch.ring(container.id)
            return ContainerStarted(
                id=ContainerId(container.id), pid=0, started_at_ns=0, released_ns=0, error=exc.message
            )
        started_ns = found.started_at_ns or time.time_ns()
        return ContainerStarted(
            id=ContainerId(container.id),
            pid=found.pid,
            started_at_ns=started_ns,
            released_ns=started_ns + self._monotonic_ns,
            error=found.error if found.started_at_ns is None else "",
            observed=await self._observed(found),
        )

    async def _observed(self, found: Found) -> Observed | None:
        if not found.is_running:
            return None
        group = self._host.group(found.member().cgroup)
        return await anyio.to_thread.run_sync(look.container, found.pid, group)

    # ---- signals

    async def signal(self, containers: Sequence[Handle], number: int) -> None:
        """Sent by podd itself: at one moment, and where dockerd does not answer, too.

        dockerd would start a program for each.
        """
        if number == signal.SIGKILL:
            async with anyio.create_task_group() as tasks:
                for container in containers:
                    tasks.start_soon(self._kill, handles.container_state(container))
            return
        pids = await self.pids(containers, by="id")
        await anyio.to_thread.run_sync(_signal, list(pids.values()), number)

    async def _kill(self, state: ContainerState) -> None:
        await anyio.to_thread.run_sync(self._host.kill, state.cgroup)

    async def pids(self, containers: Sequence[Handle], *, by: str = "name") -> dict[str, int]:
        """Of the first process of each that runs."""
        found: dict[str, int] = {}

        async def one(container: Handle) -> None:
            with suppress(NotFound):
                it = await self._found(container.id)
                if it.is_running:
                    found[it.id if by == "id" else it.member().name] = it.pid

        async with anyio.create_task_group() as tasks:
            for container in containers:
                tasks.start_soon(one, container)
        return found

    # ---- ends

    async def wait(self, container: Handle) -> Exit:
        with self._watch.bell(container.id) as bell:
            while True:
                with suppress(Unavailable):  # a dockerd that is away comes back, and then the bell rings
                    found = await self._found(container.id)
                    if found.has_ended:
                        await self._drained(found)
                        return found.exit()
                await bell.wait()

    async def status(self, container: Handle) -> ContainerStatus:
        found = await self._found(container.id)
        of = ContainerId(container.id)
        if found.has_ended:
            return ContainerStatus(id=of, state="exited", started_at_ns=found.started_at_ns, exit=found.exit())
        if not found.is_running:
            return ContainerStatus(id=of, state="created")
        return ContainerStatus(
            id=of,
            state="running",
            pid=found.pid,
            started_at_ns=found.started_at_ns,
            observed=await self._observed(found),
        )

    async def _found(self, of: str) -> Found:
        try:
            return Found(await self._api.get(f"containers/{plans.name_of(of)}/json"))
        except NotFound as exc:
            raise NotFound(f"container {of}: it does not exist") from exc

    async def resize(self, container: Handle, limits: Limits) -> Limits:
        """The kernel first, all or nothing; then dockerd, so that it tells the same."""
        found = await self._found(container.id)
        changed = await anyio.to_thread.run_sync(self._host.change, handles.container_state(container).cgroup, limits)
        body = {"CpuQuota": -1, "CpuPeriod": 100_000, "Memory": -1, "MemorySwap": -1, "PidsLimit": -1}
        body |= plans.limits_body(limits)
        try:
            await self._api.post(f"containers/{found.docker_id}/update", body)
        except PoddError as exc:
            log.warning("container.update_refused", container=container.id, error=exc.message)
        return changed

    async def destroy(self, sandbox_id: str, container_id: str) -> None:
        try:
            found = await self._found(container_id)
        except NotFound:
            pass
        else:
            state = found.member()
            await self._kill(state)
            await self.remove(sandbox_id, container_id, found.docker_id)
            await anyio.to_thread.run_sync(self._host.remove_group, state.cgroup)
        await anyio.to_thread.run_sync(self._host.unbind_parts, sandbox_id, container_id)
        self._watch.ring(container_id)

    async def remove(self, sandbox_id: str, container_id: str, docker_id: str) -> None:  # noqa: ARG002
        """With its volumes and dockerd's log. Its processes have been killed; its output is saved before."""
        copying = self._copying.get(container_id)
        if copying is not None:
            with anyio.move_on_after(DRAIN_S):
                await copying.over.wait()
            copying.scope.cancel()
        with suppress(NotFound, Conflict):  # Conflict: somebody removes it just now
            await self._api.delete(f"containers/{docker_id}", force="1", v="1")
        await self._until_gone(container_id, docker_id)
        self._copying.pop(container_id, None)

    async def _until_gone(self, container_id: str, docker_id: str) -> None:
        with self._watch.bell(container_id) as bell:
            while True:
                try:
                    await self._api.get(f"containers/{docker_id}/json")
                except NotFound:
                    return
                with anyio.move_on_after(LOOK_AGAIN_S):
                    await bell.wait()

    # ---- logs

    async def take_up(self, containers: Sequence[str]) -> None:
        """Go on with the logs of containers that an earlier podd started."""
        for of in containers:
            with suppress(NotFound):
                self._follow(await self._found(of))

    def _follow(self, found: Found) -> _Copying | None:
        if found.log is None or found.started_at_ns is None:
            return None
        copying = self._copying.get(found.id)
        if copying is None:
            copying = self._copying[found.id] = _Copying()
            self._tasks.start_soon(guarded, self._copy, found, copying)
        return copying

    async def _copy(self, found: Found, copying: _Copying) -> None:
        assert found.log is not None
        try:
            with copying.scope, self._watch.bell(found.id) as bell:
                while True:
                    try:
                        await copy(self._api, found.docker_id, found.log, tty=found.tty)
                        if (await self._found(found.id)).has_ended:
                            return
                    except NotFound:
                        return
                    except PoddError as exc:
                        log.warning("log.interrupted", container=found.id, error=exc.message)
                    with anyio.move_on_after(LOOK_AGAIN_S):
                        await bell.wait()
        finally:
            copying.over.set()

    async def _drained(self, found: Found) -> None:
        if copying := self._follow(found):
            with anyio.move_on_after(DRAIN_S):
                await copying.over.wait()

    # ---- attach

    async def attach(self, container: Handle, *, stdin: bool) -> int:
        found = await self._found(container.id)
        streams = {"stream": "1", "stdout": "1", "stderr": "1", "stdin": "1" if stdin else "0"}
        reader, writer = await self._api.hijack(f"containers/{found.docker_id}/attach", **streams)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)

        async def resize(rows: int, columns: int) -> None:
            with suppress(PoddError):
                await self._api.post(f"containers/{found.docker_id}/resize", h=str(rows), w=str(columns))

        bridge = Bridge(ours, reader, writer, tty=found.tty, stdin=stdin, resize=resize)
        self._tasks.start_soon(guarded, bridge.run)
        return theirs.detach()


async def create(api: Api, name: str, body: plans.Body) -> str:
    """dockerd's id of the container; of the one that is there, where it was made by the same request.

    Raises Conflict: it was made by another; NotFound: there is no such image; Invalid: dockerd does not like it.
    """
    try:
        made: dict[str, Any] = await api.post("containers/create", body, name=name)
    except Conflict:
        there = Found(await api.get(f"containers/{name}/json"))
        if there.labels.get(plans.CONFIG) != body["Labels"][plans.CONFIG]:
            raise Conflict(f"container {name}: it was made from another configuration") from None
        return there.docker_id
    for warning in made.get("Warnings") or ():
        log.warning("container.limited", container=name, note=warning)
    return str(made["Id"])


def _signal(pids: Sequence[int], number: int) -> None:
    """To each, if it is still the one that it was a moment ago."""
    fds = []
    for pid in pids:
        with suppress(ProcessLookupError):
            fds.append(open_pidfd(identity(pid)))
    for fd in fds:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, number)
        os.close(fd)
