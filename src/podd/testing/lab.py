"""What the driver contract's tests work with: a driver at a time, things with fresh ids, an end that leaves nothing."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from podd.driver.contract import (
    ContainerConfig,
    ContainerCreated,
    Driver,
    Handle,
    Mount,
    NamespaceScopes,
    SandboxConfig,
    SandboxCreated,
    Scope,
    Security,
)
from podd.model.ids import ContainerId, PodUid, SandboxId

T = TypeVar("T")

SHARED = "/podd-shared"
"""Where a test's directory on the host is mounted in its containers."""


@dataclass(frozen=True)
class Act:
    """What a container does. script: for /bin/sh; the rest says the same for drivers without real processes."""

    script: str
    exits_after_s: float | None = None
    code: int = 0
    ignores_term: bool = False


FOREVER = Act("exec sleep 3600")
# `wait` is interrupted by a signal, a foreground sleep is not; and a first process ignores what it does not trap.
UNTIL_TERM = Act("trap 'exit 143' TERM; while :; do sleep 3600 & wait $!; done")
IGNORES_TERM = Act("trap '' TERM; while :; do sleep 3600; done", ignores_term=True)


def exits(code: int, after_s: float = 0.0) -> Act:
    return Act(f"sleep {after_s}; exit {code}" if after_s else f"exit {code}", exits_after_s=after_s, code=code)


class Lab:
    """Everything that one test makes. Configs that are not given are the smallest that there are."""

    def __init__(
        self,
        make_driver: Callable[[], Driver],
        arrange: Callable[[ContainerConfig, Act], ContainerConfig],
        shared: Path,
    ) -> None:
        """arrange: has a container do its act. shared: a directory of the host that containers see at SHARED."""
        self.shared = shared
        self._make_driver = make_driver
        self._arrange = arrange
        self._lives = contextlib.AsyncExitStack()
        self._driver: Driver | None = None
        self._sandboxes: list[SandboxId] = []
        self._numbers = itertools.count(1)

    # ---- lives of podd -----------------------------------------------------------------------------------------------

    @property
    def driver(self) -> Driver:
        assert self._driver is not None, "podd is away"
        return self._driver

    async def enter(self) -> Driver:
        self._driver = await self._lives.enter_async_context(self._make_driver())
        return self._driver

    async def leave(self) -> None:
        self._driver = None
        await self._lives.aclose()

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """podd is stopped, and another started afterwards."""
        await self.leave()
        yield
        await self.enter()

    async def close(self) -> None:
        """Destroy what the test has made; nothing may be left of it, and podd may have no descriptor more."""
        if self._driver is None:
            await self.enter()
        for sandbox in self._sandboxes:
            await self.driver.destroy_sandbox(sandbox)
        left = {one.sandbox_id for one in await self.driver.owned()} & set(self._sandboxes)
        await self.leave()
        assert not left, f"left after destroy_sandbox: {left}"

    # ---- making things -----------------------------------------------------------------------------------------------

    def sandbox_config(self, **given: Any) -> SandboxConfig:
        config = SandboxConfig(
            **{
                "id": SandboxId(secrets.token_hex(8)),
                "pod_uid": PodUid("11111111-2222-3333-4444-555555555555"),
                "pod_name": f"pod-{next(self._numbers)}",
                "pod_namespace": "default",
                "attempt": 0,
                "hostname": "contract",
                "namespaces": self.scopes(),
                **given,
            }
        )
        self._sandboxes.append(config.id)
        return config

    def scopes(self, **given: Scope) -> NamespaceScopes:
        """Those of a plain pod, where the driver has them; else the host's."""
        if self.driver.capabilities.isolation:
            return NamespaceScopes(**given)
        return NamespaceScopes(net="node", ipc="node", uts="node", pid="node")

    def container_config(self, sandbox: Handle, act: Act = FOREVER, **given: Any) -> ContainerConfig:
        """Where containers are programs of the host, they have no mounts, and what is SHARED is where it is."""
        is_apart = self.driver.capabilities.isolation
        if not is_apart:
            act = replace(act, script=act.script.replace(SHARED, str(self.shared)))
        config = ContainerConfig(
            **{
                "id": ContainerId(secrets.token_hex(8)),
                "sandbox_id": SandboxId(sandbox.id),
                "name": f"c{next(self._numbers)}",
                "attempt": 0,
                "image": "",
                "mounts": (Mount(host_path=str(self.shared), container_path=SHARED),) if is_apart else (),
                "security": Security(privileged=not is_apart),
                **given,
            }
        )
        return self._arrange(config, act)

    async def sandbox(self, **given: Any) -> SandboxCreated:
        return await self.driver.create_sandbox(self.sandbox_config(**given))

    async def created(self, sandbox: Handle, act: Act = FOREVER, **given: Any) -> ContainerCreated:
        return await self.driver.create_container(sandbox, self.container_config(sandbox, act, **given))

    async def started(self, sandbox: Handle, act: Act = FOREVER, **given: Any) -> Handle:
        handle = (await self.created(sandbox, act, **given)).handle
        (started,) = await self.driver.start_containers([handle])
        assert not started.error
        return handle

    async def seen(self, name: str) -> str:
        """What a container has written to a file in SHARED, once it has written a whole line."""
        with anyio.fail_after(10):
            while True:
                with contextlib.suppress(FileNotFoundError):
                    text = (self.shared / name).read_text()
                    if text.endswith("\n"):
                        return text.strip()
                await anyio.sleep(0.002)


def needs(lab: Lab, capability: str) -> None:
    """Skip where the driver does not declare it."""
    if not getattr(lab.driver.capabilities, capability):
        pytest.skip(f"the driver does not declare {capability}")


def needs_processes(contract: Any) -> None:
    """Skip where containers are not real."""
    if not contract.real_processes:
        pytest.skip("needs containers that run scripts")


async def together(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Make the calls at the same time; their answers in order."""
    answers: dict[int, T] = {}

    async def one(number: int, call: Callable[[], Awaitable[T]]) -> None:
        answers[number] = await call()

    async with anyio.create_task_group() as tasks:
        for number, call in enumerate(calls):
            tasks.start_soon(one, number, call)
    return [answers[number] for number in range(len(calls))]


def open_descriptors() -> dict[int, str]:
    """Of this process: what each refers to."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found
