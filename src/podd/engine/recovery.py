"""What podd does first: read its records, and remove from the host what none of them knows."""

# ruff: noqa: ARG002  a stand-in for a driver takes what the contract says
from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable
from types import TracebackType
from typing import NoReturn, Self, TypeVar

import anyio
import msgspec
import structlog

from podd.core.state import RECORD_VERSION, PodState
from podd.driver.contract import (
    Capabilities,
    ContainerConfig,
    ContainerCreated,
    ContainerStarted,
    ContainerStatus,
    Driver,
    Exit,
    Handle,
    Health,
    Owned,
    SandboxConfig,
    SandboxCreated,
    SandboxStatus,
)
from podd.errors import Internal, PoddError, Unavailable
from podd.model.ids import ContainerId, SandboxId

log = structlog.get_logger()

T = TypeVar("T")

OWNED_S = 30
DESTROY_S = 90

_decoder = msgspec.json.Decoder(PodState)


def decode(record: bytes) -> PodState:
    """Raises msgspec.ValidationError or ValueError: not a record of this version of podd."""
    state = _decoder.decode(record)
    if state.version != RECORD_VERSION:
        raise ValueError(f"record version {state.version}: this podd reads {RECORD_VERSION}")
    return state


async def sweep(
    drivers: Iterable[Driver], known: set[SandboxId], spared: Callable[[Owned], bool], needed: Container[str]
) -> list[str]:
    """Destroy every sandbox that a driver holds and no record knows. Returns what could not be, as messages.

    spared: whose record is known to be lost, so that a person must decide. needed: the drivers that pods are with, or
    may be; that another does not work here, as its backend was never installed, is no problem.
    """
    problems: list[str] = []
    async with anyio.create_task_group() as tasks:
        for driver in drivers:
            tasks.start_soon(_sweep, driver, known, spared, needed, problems)
    return problems


async def destroy_all_of(drivers: Iterable[Driver], uid: str) -> None:
    """Destroy every sandbox of a pod, whoever holds it. Raises a podd.errors kind: one would not go.

    A driver that cannot say what it holds, as one whose engine is not on this host, keeps nobody from deleting a pod of
    another. Should it hold something after all, `sweep` finds that it belongs to no pod when the driver is back.
    """
    for driver in drivers:
        try:
            owned = await answer(driver.owned(), OWNED_S)
        except PoddError as exc:
            log.warning("driver.silent", driver=driver.name, pod_uid=uid, error=str(exc))
            continue
        for found in owned:
            if found.pod_uid == uid:
                await answer(driver.destroy_sandbox(found.sandbox_id), DESTROY_S)


async def _sweep(
    driver: Driver,
    known: set[SandboxId],
    spared: Callable[[Owned], bool],
    needed: Container[str],
    problems: list[str],
) -> None:
    try:
        if driver.name not in needed and not (await answer(driver.probe(), OWNED_S)).usable:
            return
        owned = await answer(driver.owned(), OWNED_S)
    except PoddError as exc:
        problems.append(f"driver {driver.name}: cannot say what it holds: {exc}")
        return
    for found in owned:
        if found.sandbox_id in known or spared(found):
            continue
        log.warning("orphan.found", driver=driver.name, sandbox=found.sandbox_id, pod_uid=found.pod_uid)
        try:
            await answer(driver.destroy_sandbox(found.sandbox_id), DESTROY_S)
        except PoddError as exc:
            problems.append(f"sandbox {found.sandbox_id}: belongs to no pod and cannot be removed: {exc}")


async def answer(call: Awaitable[T], limit_s: float) -> T:
    """Of a driver, whatever it does: PoddError is all that this raises. Unavailable: none came in time."""
    with anyio.move_on_after(limit_s):
        try:
            return await call
        except PoddError:
            raise
        except Exception as exc:
            raise Internal(f"{type(exc).__name__}: {exc}") from exc
    raise Unavailable(f"no answer within {limit_s:g} s")


class Absent:
    """Stands in for a driver that a record names and that is not there, so that the pod waits instead of being lost."""

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        self.name = name
        self.capabilities = Capabilities(held_start=False, shared_uts=False, pid_pod=False, pid_node=False)
        self._reason = reason
        self._remedy = remedy

    def _away(self) -> NoReturn:
        raise Unavailable(f"driver {self.name}: {self._reason}", remedy=self._remedy)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        return None

    async def probe(self) -> Health:
        return Health(usable=False, reason=self._reason, remedy=self._remedy)

    async def owned(self) -> list[Owned]:
        return []

    async def recover(self, sandbox: Handle, containers: object) -> SandboxStatus:
        self._away()

    async def create_sandbox(self, config: SandboxConfig) -> SandboxCreated:
        self._away()

    async def sandbox_status(self, sandbox: Handle) -> SandboxStatus:
        self._away()

    async def wait_sandbox(self, sandbox: Handle) -> str:
        self._away()

    async def destroy_sandbox(self, sandbox_id: SandboxId) -> None:
        self._away()

    async def create_container(self, sandbox: Handle, config: ContainerConfig) -> ContainerCreated:
        self._away()

    async def start_containers(self, containers: object) -> list[ContainerStarted]:
        self._away()

    async def signal_containers(self, containers: object, signal: int) -> None:
        self._away()

    async def wait_container(self, container: Handle) -> Exit:
        self._away()

    async def container_status(self, container: Handle) -> ContainerStatus:
        self._away()

    async def destroy_container(self, sandbox: Handle, container_id: ContainerId) -> None:
        self._away()


def no_health(reason: str) -> Health:
    return Health(usable=False, reason=reason)
