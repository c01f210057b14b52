"""Containers: made, started together, waited for, removed."""

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
from podd.errors import Conflict, Invalid, NotFound, PoddError, Unavailable
from podd.linux.process import identity, open_pidfd
from podd.model.ids import ContainerId
from podd.supervision.plans import granted
from podd_docker import filters, groups, handles, look, plans
from podd_docker.api import Api
from podd_docker.attach import Bridge
from podd_docker.config import Section
from podd_docker.flights import guarded
from podd_docker.following import Following
from podd_docker.found import Found
from podd_docker.handles import ContainerState, Hold, SandboxState
from podd_docker.hold import Held, Holds
from podd_docker.host import Host
from podd_docker.images import Images
from podd_docker.making import Made, create
from podd_docker.watch import Watch

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 1.0


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
        holds: Holds,
    ) -> None:
        self._api = api
        self._host = host
        self._watch = watch
        self._tasks = tasks
        self._section = section
        self._owner = owner
        self._images = images
        self._holds = holds
        self._fresh: set[str] = set()  # made by this podd and never started: of these dockerd need not be asked
        self.logs = Following(api, watch, tasks, self._found)
        self._monotonic_ns = time.monotonic_ns() - time.time_ns()  # dockerd's clock is CLOCK_REALTIME

    # ---- making

    async def image(self, config: ContainerConfig) -> Mapping[str, Any]:
        plans.check(config)
        return await self._images.of(config)

    async def create(
        self, driver: str, sandbox: SandboxState, config: ContainerConfig, image: Mapping[str, Any]
    ) -> ContainerCreated:
        target = "" if config.pid_target is None else await self._target(config, config.pid_target)
        seccomp = "unconfined"
        if not config.security.privileged:
            profile = config.security.seccomp
            seccomp = await anyio.to_thread.run_sync(filters.text, profile, granted(config))
        parts = {}
        if any(mount.sub_path for mount in config.mounts):
            parts = await anyio.to_thread.run_sync(self._host.bind_parts, config.sandbox_id, config.id, config.mounts)
        files = await anyio.to_thread.run_sync(self._host.files, config.sandbox_id)
        body = plans.member_body(
            config,
            owner=self._owner,
            section=self._section,
            sandbox=sandbox,
            image=image["Config"] or {},
            seccomp=seccomp,
            target=target,
            binds=parts,
            files=files,
            least_oom_score_adj=self._host.least_oom_score_adj,
        )
        try:
            docker_id, there = await self._make(config, body)
            if there is None:
                self._watch.expect(config.id)
            hold, observed = await self._held(sandbox, config, image, docker_id, there)
        except Conflict:
            raise
        except Exception:
            await self.destroy(config.sandbox_id, config.id)
            raise
        if there is None and hold is None:
            self._fresh.add(config.id)
        state = ContainerState(
            sandbox=config.sandbox_id,
            name=config.name,
            docker_id=docker_id,
            cgroup=groups.of_container(sandbox.cgroup, docker_id),
            hold=hold,
        )
        return ContainerCreated(
            handle=handles.make(driver, config.id, state),
            observed=observed,
            image_id=image["Id"],
            stop_signal=plans.stop_signal(image["Config"] or {}),
        )

    async def _make(self, config: ContainerConfig, body: plans.Body) -> Made:
        try:
            return await create(self._api, plans.name_of(config.id), body)
        except NotFound as exc:
            raise self._images.gone(config) from exc

    async def _target(self, config: ContainerConfig, target: ContainerId) -> str:
        found = await self._found(target)
        if not found.is_running or await self._waits(found):
            raise Conflict(f"container {config.name}: its target {target} does not run")
        return found.docker_id

    # ---- holding

    async def _held(
        self,
        sandbox: SandboxState,
        config: ContainerConfig,
        image: Mapping[str, Any],
        docker_id: str,
        found: Found | None,
    ) -> tuple[Hold | None, Observed | None]:
        """None: dockerd cannot, so its program is looked at beforehand. found: where it was there before."""
        if not sandbox.runtime:
            await self._images.check_command(config, image, docker_id)
            return None, None
        if found is None or not found.is_running:
            try:
                await self._holds.start(self._api, docker_id)
            except Invalid:
                await self._images.check_command(config, image, docker_id)  # tells it in fewer words
                raise
            found = await self._found(config.id)
        hold = await anyio.to_thread.run_sync(self._holds.of, docker_id, found.pid)
        if hold is None:
            raise Unavailable(
                f"container {config.name}: dockerd's runtime {sandbox.runtime} did not hold it before its program",
                remedy="compare podd-cli docker setup with /etc/docker/daemon.json, and drivers.docker.exec_root "
                "with dockerd's --exec-root",
            )
        return hold, await self._observed(found)

    async def _waits(self, found: Found) -> bool:
        return await anyio.to_thread.run_sync(self._holds.waits, found.docker_id)

    # ---- starting

    async def start(self, containers: Sequence[Handle]) -> Sequence[ContainerStarted]:
        states = [(container.id, handles.container_state(container)) for container in containers]
        held = [Held(of, its.sandbox, its.docker_id, its.hold) for of, its in states if its.hold is not None]
        passed = await self._holds.release(held)
        answers: dict[str, ContainerStarted] = {}

        async def one(of: str, state: ContainerState) -> None:
            if of in passed and state.hold is not None:
                answers[of] = self._released(of, state.hold, passed[of])
            else:
                answers[of] = await self._start(of, state)

        async with anyio.create_task_group() as tasks:
            for of, state in states:
                tasks.start_soon(one, of, state)
        return [answers[of] for of, _ in states]

    def _released(self, of: str, hold: Hold, at_ns: int | None) -> ContainerStarted:
        if at_ns is None:
            self._watch.ring(of)
            return _not_started(of, "its process was killed before it could start")
        self._tasks.start_soon(guarded, self.logs.take_up, [of])
        return self._started(of, hold.pid, at_ns)

    async def _start(self, of: str, state: ContainerState) -> ContainerStarted:
        try:
            found = None if of in self._fresh else await self._found(of)
            if found is None or (found.started_at_ns is None and not found.has_ended):
                self._fresh.discard(of)
                await self._api.post(f"containers/{state.docker_id}/start")
                found = await self._found(of)
                self.logs.follow(found)
        except PoddError as exc:
            self._watch.ring(of)
            return _not_started(of, exc.message)
        started_ns = await self._started_ns(of, state, found)
        if started_ns is None:
            return _not_started(of, found.error or "it ended before it was started")
        observed = None if state.hold else await self._observed(found)
        return self._started(of, found.pid, started_ns, observed)

    def _started(self, of: str, pid: int, at_ns: int, observed: Observed | None = None) -> ContainerStarted:
        return ContainerStarted(
            id=ContainerId(of),
            pid=pid,
            started_at_ns=at_ns,
            released_ns=at_ns + self._monotonic_ns,
            observed=observed,
        )

    async def _started_ns(self, of: str, state: ContainerState, found: Found) -> int | None:
        """When its program was. None: never."""
        if state.hold is None:
            return found.started_at_ns
        return await anyio.to_thread.run_sync(self._holds.released_ns, state.sandbox, of)

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
        running = await self._running(containers)
        pids = [found.pid for found in running if not await self._waits(found)]  # else it is no program of the pod's
        await anyio.to_thread.run_sync(_signal, pids, number)

    async def _kill(self, state: ContainerState) -> None:
        await anyio.to_thread.run_sync(self._host.kill, state.cgroup)

    async def pids(self, containers: Sequence[Handle]) -> dict[str, int]:
        """Of the first process of each that runs, by its name."""
        return {found.member().name: found.pid for found in await self._running(containers)}

    async def written(self, containers: Sequence[Handle]) -> dict[str, int]:
        """By id, how many bytes each has in its writable layer, as far as that can be found out."""
        there = await self._there(containers)
        found = await anyio.to_thread.run_sync(look.sizes, {one.id: one.layer for one in there if one.layer})
        for one in there:
            if not one.layer:
                with suppress(NotFound):
                    found |= await self._size(one)
        return found

    async def _size(self, found: Found) -> dict[str, int]:
        """Where its layer is no directory, dockerd alone knows; it looks for what differs, which may take long."""
        try:
            told = await self._api.get(f"containers/{found.docker_id}/json", size="1")
        except Unavailable as exc:
            log.warning("container.not_measured", container=found.id, error=exc.message)
            return {}
        return {found.id: max(0, int(told.get("SizeRw") or 0))}

    async def _running(self, containers: Sequence[Handle]) -> list[Found]:
        return [found for found in await self._there(containers) if found.is_running]

    async def _there(self, containers: Sequence[Handle]) -> list[Found]:
        there: list[Found] = []

        async def one(container: Handle) -> None:
            with suppress(NotFound):
                there.append(await self._found(container.id))

        async with anyio.create_task_group() as tasks:
            for container in containers:
                tasks.start_soon(one, container)
        return there

    # ---- ends

    async def wait(self, container: Handle) -> Exit:
        async def ended() -> Found | None:
            found = await self._found(container.id)
            return found if found.has_ended else None

        found = await self._watch.until(container.id, ended)
        await self.logs.drained(found)
        return await self._exit(container, found)

    async def _exit(self, container: Handle, found: Found) -> Exit:
        return found.exit(await self._started_ns(container.id, handles.container_state(container), found))

    async def status(self, container: Handle) -> ContainerStatus:
        found = await self._found(container.id)
        of = ContainerId(container.id)
        if found.has_ended:
            ended = await self._exit(container, found)
            return ContainerStatus(id=of, state="exited", started_at_ns=ended.started_at_ns, exit=ended)
        if not found.is_running:
            return ContainerStatus(id=of, state="created")
        started_ns = None
        if not (waits := await self._waits(found)):
            started_ns = await self._started_ns(container.id, handles.container_state(container), found)
        return ContainerStatus(
            id=of,
            state="created" if waits else "running",
            pid=found.pid,
            started_at_ns=started_ns,
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
        self._fresh.discard(container_id)
        self._watch.ring(container_id)
        await self.logs.forget(container_id)
        with suppress(NotFound, Conflict):  # Conflict: somebody removes it just now
            await self._api.delete(f"containers/{docker_id}", force="1", v="1")
        await self._until_gone(container_id, docker_id)
        await anyio.to_thread.run_sync(self._holds.unmark, docker_id)

    async def _until_gone(self, container_id: str, docker_id: str) -> None:
        with self._watch.bell(container_id) as bell:
            while True:
                try:
                    await self._api.get(f"containers/{docker_id}/json")
                except NotFound:
                    return
                with anyio.move_on_after(LOOK_AGAIN_S):
                    await bell.wait()

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


def _not_started(of: str, why: str) -> ContainerStarted:
    return ContainerStarted(id=ContainerId(of), pid=0, started_at_ns=0, released_ns=0, error=why)


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
