"""Exec probes and hooks on the fake driver's clock, which no test waits for."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest

from podd.driver.contract import ContainerConfig, SandboxConfig
from podd.engine import handlers
from podd.engine.handlers import Outcome, Place
from podd.errors import Invalid, Unavailable
from podd.model.ids import ContainerId, PodUid, SandboxId
from podd.model.pod import Container, ExecAction, LifecycleHandler, Probe
from podd.testing.fake import FOREVER, FakeDriver, FakeHost, Program
from podd.testing.lab import open_descriptors

pytestmark = pytest.mark.anyio

SANDBOX, CONTAINER = SandboxId("a" * 16), ContainerId("b" * 16)


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
async def place(host: FakeHost) -> AsyncIterator[Place]:
    before = open_descriptors()
    async with FakeDriver(host) as driver:
        box = SandboxConfig(
            id=SANDBOX, pod_uid=PodUid("u"), pod_name="p", pod_namespace="default", attempt=0, hostname="p"
        )
        made = await driver.create_sandbox(box)
        config = ContainerConfig(id=CONTAINER, sandbox_id=SANDBOX, name="web", attempt=0, image="rootfs:/")
        handle = (await driver.create_container(made.handle, config)).handle
        await driver.start_containers([handle])
        yield Place(driver, made.handle, handle, Container(name="web"))
    more = {fd: what for fd, what in open_descriptors().items() if before.get(fd) != what}
    assert not more


def probe(*argv: str, timeout_s: int = 5) -> Probe:
    return Probe(exec=ExecAction(command=argv), timeout_seconds=timeout_s)


def hook(*argv: str) -> LifecycleHandler:
    return LifecycleHandler(exec=ExecAction(command=argv))


async def test_it_is_enough_to_end_well(place: Place, host: FakeHost) -> None:
    host.execs["check -q"] = Program(exits_after_s=1, output=["all is well"])
    assert await handlers.probe(place, probe("check", "-q")) == Outcome(result="success")


async def test_what_it_says_is_the_message(place: Place, host: FakeHost) -> None:
    host.execs["check"] = Program(exits_after_s=1, code=3, output=["no", "database"])
    assert await handlers.probe(place, probe("check")) == Outcome(result="failure", message="no\ndatabase\n")
    with pytest.raises(handlers.Failed, match="command 'check' exited with 3: no\ndatabase\n"):
        await handlers.hook(place, hook("check"))


async def test_what_it_says_is_bounded(place: Place, host: FakeHost) -> None:
    host.execs["check"] = Program(exits_after_s=0, code=1, output=["x" * 60_000])
    outcome = await handlers.probe(place, probe("check"))
    assert outcome.message == "x" * 10 * 1024


async def test_one_that_takes_too_long_is_killed(place: Place, host: FakeHost) -> None:
    host.execs["check -v"] = Program()
    began = anyio.current_time()
    outcome = await handlers.probe(place, probe("check", "-v", timeout_s=2))
    assert outcome == Outcome(result="failure", message='command "check -v" timed out')
    assert anyio.current_time() - began == 2
    assert host.calls("exec_kill")


async def test_a_hook_takes_as_long_as_it_takes(place: Place, host: FakeHost) -> None:
    host.execs["prepare"] = Program(exits_after_s=86_400)
    await handlers.hook(place, hook("prepare"))
    assert not host.calls("exec_kill")


async def test_a_command_that_is_not_there_has_failed(place: Place, host: FakeHost) -> None:
    host.fault("exec_start", error=Invalid("check: not found"))
    assert await handlers.probe(place, probe("check")) == Outcome(result="failure", message="check: not found")


@pytest.mark.parametrize("verb", ["exec_start", "exec_wait"])
async def test_a_driver_that_is_away_says_nothing_of_the_container(place: Place, host: FakeHost, verb: str) -> None:
    away = Unavailable("the shim does not answer")
    if verb == "exec_start":
        host.fault(verb, error=away)
    else:
        host.execs["check"] = FOREVER

        async def lost(*_: object) -> None:
            raise away

        place.driver.exec_wait = lost  # type: ignore[attr-defined]
    assert await handlers.probe(place, probe("check")) == Outcome(result="error", message=str(away))


async def test_what_is_left_in_the_background_is_not_waited_for(place: Place, host: FakeHost) -> None:
    """It holds the output open."""
    start, held = place.driver.exec_start, []  # type: ignore[attr-defined]

    async def leaves_something(container: object, request: object, stdio: list[int]) -> object:
        held.append(os.dup(stdio[1]))
        return await start(container, request, stdio)

    place.driver.exec_start = leaves_something  # type: ignore[attr-defined]
    host.execs["check"] = Program(exits_after_s=1, code=1, output=["bad"])
    assert await handlers.probe(place, probe("check")) == Outcome(result="failure", message="bad\n")
    os.close(held[0])


async def test_a_driver_that_cannot_exec(place: Place) -> None:
    class Plain:
        name = "plain"

    cannot = Outcome(result="error", message="driver plain: cannot exec")
    assert await handlers.probe(replace(place, driver=Plain()), probe("check")) == cannot  # type: ignore[arg-type]
