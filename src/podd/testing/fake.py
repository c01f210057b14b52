"""FakeDriver: a driver without a kernel, for tests of everything above drivers.

    host = FakeHost()
    host.programs["web"] = [Program(exits_after_s=3, code=1), FOREVER]   # the second instance runs for ever
    host.fault("create_container", of="db", call=1, error=Invalid("db: no such command"))
    host.fault("destroy_sandbox", hang=True, leaves="effect")            # done, and the answer is lost
    async with FakeDriver(host) as driver: ...
    async with FakeDriver(host) as driver: ...                           # podd was restarted; the host was not

Everything happens on the event loop's clock, so on a virtual one no test waits.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Self, TypeVar

import anyio
import anyio.lowlevel

from podd.driver.contract import (
    Capabilities,
    ContainerConfig,
    ContainerCreated,
    ContainerStarted,
    ContainerStatus,
    ExecRequest,
    Exit,
    Handle,
    Health,
    InterfaceUsage,
    Limits,
    NetworkStatus,
    Owned,
    PortMapping,
    SandboxConfig,
    SandboxCreated,
    SandboxStatus,
    SandboxUsage,
    Usage,
)
from podd.errors import Conflict, NotFound, Unavailable
from podd.model.ids import ContainerId, SandboxId
from podd.testing.fakehost import USED_BYTES, FakeContainer, FakeHost, FakeSandbox, wake
from podd.testing.fakeimages import FakeImages
from podd.testing.fakescript import FOREVER, Entry, Fault, Program

__all__ = ["CAPABILITIES", "FOREVER", "Entry", "FakeDriver", "FakeHost", "Fault", "Program"]

T = TypeVar("T")

HANDLE_VERSION = 1
CAPABILITIES = Capabilities(
    held_start=True,
    shared_uts=True,
    pid_pod=True,
    pid_node=True,
    exec=True,
    pause=True,
    stats=True,
    connect=True,
    resize=True,
    pid_target=True,
    images=True,
    rootfs_directory=True,
    network=True,
    publish=True,
)
AT_ONCE = Program(exits_after_s=0)
_SILENT = InterfaceUsage(
    name="eth0",
    received_bytes=0,
    received_packets=0,
    received_errors=0,
    sent_bytes=0,
    sent_packets=0,
    sent_errors=0,
)


@dataclass(eq=False)
class _Exec:
    container: FakeContainer
    ends_s: float
    code: int
    signal: int = 0

    def kill(self) -> None:
        """End it now, if it has not ended."""
        if self.ends_s > anyio.current_time():
            self.ends_s, self.code, self.signal = anyio.current_time(), 137, 9
            wake(self.container)


class FakeDriver:
    """One life of podd on a FakeHost. Strict: a sandbox that it has not made it must `recover` before it is used."""

    def __init__(self, host: FakeHost, *, name: str = "fake", capabilities: Capabilities = CAPABILITIES) -> None:
        self.name = name
        self.capabilities = capabilities
        self.health = Health(usable=True, version="1")
        self.images = FakeImages(host, self._do)
        self._host = host
        self._entered = False
        self._taken_up: set[str] = set()
        self._execs: dict[str, _Exec] = {}
        self._exec_ids = count(1)

    async def __aenter__(self) -> Self:
        assert not self._entered, "a driver is entered once"
        self._host.now_ns()
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._entered = False

    async def probe(self) -> Health:
        await anyio.lowlevel.checkpoint()
        return self.health

    async def owned(self) -> Sequence[Owned]:
        def found() -> list[Owned]:
            return [
                Owned(
                    sandbox_id=box.config.id,
                    handle=self._handle(box.config.id) if box.whole and not box.lost else None,
                    pod_uid=box.config.pod_uid,
                    containers=tuple(box.containers),
                )
                for box in self._host.sandboxes.values()
            ]

        return await self._do("owned", "", (), found)

    async def recover(self, sandbox: Handle, containers: Sequence[Handle]) -> SandboxStatus:
        self._must_be_in(sandbox, [handle.id for handle in containers])

        def taken_up() -> SandboxStatus:
            box = self._host.sandboxes.get(SandboxId(sandbox.id))
            if box is None or box.lost or not box.whole:
                raise NotFound(f"sandbox {sandbox.id}: {'gone' if box is None else box.lost or 'was never whole'}")
            self._taken_up.add(sandbox.id)
            return _sandbox_status(box)

        return await self._do("recover", sandbox.id, self._pod_of(sandbox.id), taken_up)

    # ---- sandbox

    async def create_sandbox(self, config: SandboxConfig) -> SandboxCreated:
        def made() -> SandboxCreated:
            self._taken_up.add(config.id)
            box = self._host.make_sandbox(config)
            handle = self._handle(config.id)
            return SandboxCreated(handle=handle, observed=box.observed, cgroup=box.observed.cgroup, ips=box.ips)

        def half() -> None:
            self._host.make_sandbox(config, whole=False)

        return await self._do("create_sandbox", config.id, (config.pod_name,), made, half)

    async def sandbox_status(self, sandbox: Handle) -> SandboxStatus:
        return await self._do(
            "sandbox_status", sandbox.id, self._pod_of(sandbox.id), lambda: _sandbox_status(self._there(sandbox))
        )

    async def wait_sandbox(self, sandbox: Handle) -> str:
        box = await self._do("wait_sandbox", sandbox.id, self._pod_of(sandbox.id), lambda: self._there(sandbox))
        while not box.lost:
            await box.changed.wait()
        return box.lost

    async def destroy_sandbox(self, sandbox_id: SandboxId) -> None:
        await self._do(
            "destroy_sandbox", sandbox_id, self._pod_of(sandbox_id), lambda: self._host.remove_sandbox(sandbox_id)
        )

    # ---- container

    async def create_container(self, sandbox: Handle, config: ContainerConfig) -> ContainerCreated:
        held = self.capabilities.held_start

        def made() -> ContainerCreated:
            container = self._host.make_container(self._alive(sandbox.id), config)
            return ContainerCreated(handle=self._handle(config.id), observed=container.observed if held else None)

        def half() -> None:
            self._host.make_container(self._alive(sandbox.id), config, whole=False)

        return await self._do(
            "create_container", config.id, (config.name, *self._qualified(sandbox, config)), made, half
        )

    async def start_containers(self, containers: Sequence[Handle]) -> Sequence[ContainerStarted]:
        """A fault of one container is its answer's `error`; one of any is the whole call's."""
        failed: dict[str, str] = {}
        async with self._each("start_containers", containers) as members:
            for container, fault in members:
                if fault is not None and fault.error is not None and fault.of:
                    failed[container.config.id] = str(fault.error)
                    self._host.cannot_start(container)
                elif fault is None or fault.leaves == "effect":
                    self._host.release(container)
            for _, fault in members:
                if fault is not None and not (fault.error is not None and fault.of):
                    await fault.happen()
        return [self._started(self._container(handle), failed.get(handle.id, "")) for handle in containers]

    async def signal_containers(self, containers: Sequence[Handle], signal: int) -> None:
        async with self._each("signal_containers", containers) as members:
            for container, fault in members:
                if fault is None or fault.leaves == "effect":
                    self._host.signal(container, signal)
            for _, fault in members:
                if fault is not None:
                    await fault.happen()

    async def wait_container(self, container: Handle) -> Exit:
        await self._do("wait_container", container.id, self._names(container.id), lambda: self._container(container))
        while True:
            self._host.settle()
            found = self._container(container)
            if found.exit is not None:
                return found.exit
            left_s = math.inf if found.ends_s is None else found.ends_s - anyio.current_time()
            with anyio.move_on_after(left_s):
                await found.changed.wait()

    async def container_status(self, container: Handle) -> ContainerStatus:
        def looked() -> ContainerStatus:
            found = self._container(container)
            return ContainerStatus(
                id=found.config.id,
                state="exited" if found.exit else "running" if found.running else "created",
                pid=None if found.exit else found.pid,
                started_at_ns=None if found.started_s is None else self._host.wall_ns(found.started_s),
                exit=found.exit,
                observed=found.observed,
            )

        return await self._do("container_status", container.id, self._names(container.id), looked)

    async def destroy_container(self, sandbox: Handle, container_id: ContainerId) -> None:
        self._must_be_in(sandbox, [container_id])
        await self._do(
            "destroy_container",
            container_id,
            self._names(container_id),
            lambda: self._host.remove_container(container_id),
        )

    # ---- optional powers

    async def exec_start(self, container: Handle, request: ExecRequest, stdio: Sequence[int]) -> tuple[str, int | None]:
        """Plays host.execs[" ".join(argv)], by default a program that ends well at once. With tty nothing is shown."""

        def started() -> tuple[str, int | None]:
            found = self._container(container)
            if not found.running:
                raise Conflict(f"container {found.config.name}: is not running")
            program = self._host.execs.get(" ".join(request.argv), AT_ONCE)
            exec_id = f"exec-{next(self._exec_ids)}"
            ends_s = math.inf if program.exits_after_s is None else anyio.current_time() + program.exits_after_s
            self._execs[exec_id] = _Exec(found, ends_s, program.code)
            self._host.effect("exec_started", container.id, found.config.name, " ".join(request.argv))
            if request.tty:
                master, slave = os.openpty()
                os.close(slave)
                return exec_id, master
            for line in program.output:
                os.write(stdio[1], f"{line}\n".encode())
            return exec_id, None

        return await self._do("exec_start", container.id, self._names(container.id), started)

    async def exec_wait(self, container: Handle, exec_id: str) -> Exit:
        """It ends with its container at the latest."""
        one = self._execs.get(exec_id)
        if one is None or one.container.config.id != container.id:
            raise NotFound(f"exec {exec_id}: no such exec")
        while (left_s := one.ends_s - anyio.current_time()) > 0:
            self._host.settle()
            if one.container.exit is not None:
                one.kill()
                continue
            with anyio.move_on_after(left_s):
                await one.container.changed.wait()
        return Exit(code=one.code, signal=one.signal, finished_at_ns=self._host.wall_ns(one.ends_s))

    async def exec_kill(self, container: Handle, exec_id: str) -> None:
        await self._do("exec_kill", container.id, self._names(container.id), self._execs[exec_id].kill)

    async def open_socket(self, sandbox: Handle, family: int, kind: int) -> int:
        """One of the test's own network: on this host every pod has that."""

        def opened() -> int:
            self._alive(sandbox.id)
            with socket.socket(family, kind | socket.SOCK_NONBLOCK) as made:
                return made.detach()

        return await self._do("open_socket", sandbox.id, self._pod_of(sandbox.id), opened)

    async def network_status(self) -> NetworkStatus:
        return await self._do("network_status", "", (), lambda: self._host.network)

    async def publish(self, sandbox: Handle, ports: Sequence[PortMapping]) -> None:
        await self._do(
            "publish",
            sandbox.id,
            self._pod_of(sandbox.id),
            lambda: self._host.publish(self._alive(sandbox.id), ports),
        )

    async def resize_sandbox(self, sandbox: Handle, limits: Limits) -> Limits:
        return await self._do(
            "resize_sandbox",
            sandbox.id,
            self._pod_of(sandbox.id),
            lambda: self._host.resize_sandbox(self._alive(sandbox.id), limits),
        )

    async def resize_container(self, sandbox: Handle, container: Handle, limits: Limits) -> Limits:
        self._must_be_in(sandbox, [container.id])
        return await self._do(
            "resize_container",
            container.id,
            self._names(container.id),
            lambda: self._host.resize_container(self._container(container), limits),
        )

    async def pause(self, sandbox: Handle) -> None:
        await self._do(
            "pause", sandbox.id, self._pod_of(sandbox.id), lambda: self._host.freeze(self._alive(sandbox.id))
        )

    async def resume(self, sandbox: Handle) -> None:
        await self._do("resume", sandbox.id, self._pod_of(sandbox.id), lambda: self._host.thaw(self._alive(sandbox.id)))

    async def usage(self, sandbox: Handle, containers: Sequence[Handle]) -> SandboxUsage:
        """Each running container uses a processor and a mebibyte."""

        def read() -> SandboxUsage:
            box = self._alive(sandbox.id)
            used = {handle.id: _usage(self._container(handle)) for handle in containers}
            pod = Usage(
                cpu_usage_ns=sum(one.cpu_usage_ns or 0 for one in used.values()),
                memory_usage_bytes=sum(one.memory_usage_bytes or 0 for one in used.values()),
                memory_working_set_bytes=sum(one.memory_working_set_bytes or 0 for one in used.values()),
                memory_limit_bytes=box.observed.limits.memory_bytes,
                pids=sum(one.pids or 0 for one in used.values()),
                pids_limit=box.observed.limits.pids,
            )
            layers = {one.id: self._host.written.get(self._container(one).config.name, 0) for one in containers}
            interfaces = [_SILENT] if box.ips else []
            return SandboxUsage(
                at_ns=self._host.now_ns(), pod=pod, containers=used, layers=layers, interfaces=interfaces
            )

        return await self._do("usage", sandbox.id, self._pod_of(sandbox.id), read)

    # ---- inside

    async def _do(
        self,
        verb: str,
        subject: str,
        names: Sequence[str],
        effect: Callable[[], T],
        half: Callable[[], None] | None = None,
    ) -> T:
        """A verb on one thing. The effect happens in one piece; half is what of it may be left behind."""
        async with self._call(verb, subject, names) as faults:
            fault = next(iter(faults.values()), None)
            if fault is None or not fault.fails:
                return effect()
            if fault.leaves == "effect":
                effect()
            elif fault.leaves == "remains" and half is not None:
                half()
            await fault.happen()
        raise AssertionError("not reached")

    @asynccontextmanager
    async def _each(
        self, verb: str, handles: Sequence[Handle]
    ) -> AsyncIterator[list[tuple[FakeContainer, Fault | None]]]:
        """A verb on several containers: each with the failure that is to happen to it."""
        names = {handle.id: self._names(handle.id) for handle in handles}
        everyone = [name for several in names.values() for name in several]
        async with self._call(verb, ",".join(names), everyone) as faults:
            failures = {name: fault for name, fault in faults.items() if fault.fails}
            members = [self._container(handle) for handle in handles]
            yield [
                (one, next((failures[name] for name in ("", *names[one.config.id]) if name in failures), None))
                for one in members
            ]

    @asynccontextmanager
    async def _call(self, verb: str, subject: str, names: Sequence[str]) -> AsyncIterator[dict[str, Fault]]:
        """Every call: noted, cancellable, late when it is to be late. Yields its faults by the name that each is of."""
        faults = self._host.begin(verb, subject, names)
        assert self._entered, f"{verb}: the driver was not entered, or was left"
        try:
            await anyio.lowlevel.checkpoint()
            await anyio.sleep(max((fault.delay_s for fault in faults.values()), default=0))
            yield faults
        except BaseException as exc:
            self._host.end(verb, subject, exc)
            raise
        self._host.end(verb, subject)

    def _handle(self, subject: str) -> Handle:
        return Handle(id=subject, driver=self.name, version=HANDLE_VERSION)

    def _there(self, sandbox: Handle) -> FakeSandbox:
        self._must_have_taken_up(sandbox.id)
        box = self._host.sandboxes.get(SandboxId(sandbox.id))
        if box is None:
            raise NotFound(f"sandbox {sandbox.id}: no such sandbox")
        return box

    def _alive(self, sandbox_id: str) -> FakeSandbox:
        box = self._there(self._handle(sandbox_id))
        if box.lost:
            raise Unavailable(f"sandbox {sandbox_id}: {box.lost}")
        return box

    def _container(self, handle: Handle) -> FakeContainer:
        try:
            box, container = self._host.find(handle.id)
        except KeyError:
            raise NotFound(f"container {handle.id}: no such container") from None
        self._must_have_taken_up(box.config.id)
        if box.lost:
            raise Unavailable(f"container {handle.id}: {box.lost}")
        return container

    def _must_have_taken_up(self, sandbox_id: str) -> None:
        if sandbox_id not in self._taken_up:
            self._host.violations.append(f"sandbox {sandbox_id}: used without being recovered first")

    def _must_be_in(self, sandbox: Handle, container_ids: Sequence[str]) -> None:
        for box in self._host.sandboxes.values():
            strays = box.containers.keys() & container_ids if box.config.id != sandbox.id else ()
            self._host.violations.extend(f"container {stray}: is not in sandbox {sandbox.id}" for stray in strays)

    def _pod_of(self, sandbox_id: str) -> tuple[str, ...]:
        box = self._host.sandboxes.get(SandboxId(sandbox_id))
        return () if box is None else (box.config.pod_name,)

    def _names(self, container_id: str) -> tuple[str, ...]:
        try:
            box, container = self._host.find(container_id)
        except KeyError:
            return ()
        return container.config.name, f"{box.config.pod_name}/{container.config.name}"

    def _qualified(self, sandbox: Handle, config: ContainerConfig) -> tuple[str, ...]:
        return tuple(f"{pod}/{config.name}" for pod in self._pod_of(sandbox.id))

    def _started(self, container: FakeContainer, error: str) -> ContainerStarted:
        if container.started_s is None:
            error = error or "it was ended before it was started"
        started_s = anyio.current_time() if container.started_s is None else container.started_s
        return ContainerStarted(
            id=container.config.id,
            pid=container.pid,
            started_at_ns=self._host.wall_ns(started_s),
            released_ns=round(started_s * 1e9),
            error=error,
            observed=None if self.capabilities.held_start else container.observed,
        )


def _sandbox_status(box: FakeSandbox) -> SandboxStatus:
    return SandboxStatus(
        id=box.config.id, state="notready" if box.lost else "ready", paused=box.frozen, observed=box.observed
    )


def _usage(container: FakeContainer) -> Usage:
    if not container.running:
        return Usage()
    assert container.started_s is not None
    return Usage(
        cpu_usage_ns=round((anyio.current_time() - container.started_s) * 1e9),
        memory_usage_bytes=USED_BYTES,
        memory_working_set_bytes=USED_BYTES,
        memory_limit_bytes=container.observed.limits.memory_bytes,
        pids=1,
        pids_limit=container.observed.limits.pids,
    )
