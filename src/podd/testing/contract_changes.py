"""The driver contract's tests of what changes a sandbox that runs: limits, and containers that look into others.

See podd.testing.contract.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from podd.driver.contract import CanResize, Handle, Limits, NamespaceScopes
from podd.errors import Conflict, NotFound
from podd.model.ids import ContainerId, SandboxId
from podd.testing.cancelling import cancelled_everywhere
from podd.testing.lab import FOREVER, SHARED, UNTIL_TERM, Act, Lab, needs

SMALL = Limits(cpu_quota_us=20_000, memory_bytes=64 << 20, pids=50)
LARGE = Limits(cpu_quota_us=70_000, memory_bytes=128 << 20, pids=90)
HELD_BYTES = 24 << 20
HOLDS_MEMORY = Act(f"cat {SHARED}/blob > /dev/shm/blob; echo full > {SHARED}/full; exec sleep 3600")
LOOKS_AROUND = Act(
    f"cat /proc/1/cmdline > {SHARED}/first.new; echo >> {SHARED}/first.new; mv {SHARED}/first.new {SHARED}/first; "
    "exec sleep 3600"
)


class Changes:
    """Mixed into DriverContract."""

    # ---- resize

    async def test_resize_grows_and_shrinks_what_runs(self, lab: Lab) -> None:
        driver = _resizer(lab)
        box = (await lab.sandbox(limits=SMALL)).handle
        container = await lab.started(box, limits=SMALL)
        for _ in range(2):
            assert _known(await driver.resize_sandbox(box, LARGE)) == LARGE
            assert _known(await driver.resize_container(box, container, LARGE)) == LARGE
        assert await _limits(lab, box, container) == (LARGE, LARGE)
        assert _known(await driver.resize_container(box, container, SMALL)) == SMALL
        assert _known(await driver.resize_sandbox(box, SMALL)) == SMALL
        assert await _limits(lab, box, container) == (SMALL, SMALL)

    async def test_resize_lifts_what_is_not_given(self, lab: Lab) -> None:
        driver = _resizer(lab)
        box = (await lab.sandbox(limits=SMALL)).handle
        container = await lab.started(box, limits=SMALL)
        for found in (await driver.resize_sandbox(box, Limits()), await driver.resize_container(box, container, SMALL)):
            assert found.pids in (None, SMALL.pids)
        lifted = await driver.resize_container(box, container, Limits())
        assert (lifted.cpu_quota_us, lifted.memory_bytes, lifted.pids) == (None, None, None)

    async def test_resize_of_what_is_held_stays_after_its_start(self, lab: Lab) -> None:
        needs(lab, "held_start")
        driver = _resizer(lab)
        box = (await lab.sandbox(limits=SMALL)).handle
        container = (await lab.created(box, limits=SMALL)).handle
        await driver.resize_sandbox(box, LARGE)
        await driver.resize_container(box, container, LARGE)
        await lab.driver.start_containers([container])
        assert await _limits(lab, box, container) == (LARGE, LARGE)

    async def test_resize_outlives_podd(self, lab: Lab) -> None:
        needs(lab, "outlives_podd")
        driver = _resizer(lab)
        box = (await lab.sandbox(limits=SMALL)).handle
        container = await lab.started(box, limits=SMALL)
        await driver.resize_sandbox(box, LARGE)
        await driver.resize_container(box, container, LARGE)
        async with lab.away():
            pass
        await lab.driver.recover(box, [container])
        assert await _limits(lab, box, container) == (LARGE, LARGE)

    async def test_resize_below_what_is_in_use_is_a_conflict_and_changes_nothing(self: Any, lab: Lab) -> None:
        driver = _resizer(lab)
        (lab.shared / "blob").write_bytes(b"x" * HELD_BYTES)
        box = (await lab.sandbox(limits=LARGE)).handle
        container = await lab.started(box, HOLDS_MEMORY, limits=LARGE)
        if self.real_processes:
            await lab.seen("full")
        too_small = replace(LARGE, memory_bytes=HELD_BYTES // 4 if self.real_processes else 4096)
        with pytest.raises(Conflict):
            await driver.resize_container(box, container, too_small)
        with pytest.raises(Conflict):
            await driver.resize_sandbox(box, too_small)
        assert await _limits(lab, box, container) == (LARGE, LARGE)
        assert (await lab.driver.container_status(container)).state == "running"

    async def test_resize_cancelled_anywhere_and_asked_again(self, lab: Lab) -> None:
        driver = _resizer(lab)
        box = (await lab.sandbox(limits=SMALL)).handle
        container = await lab.started(box, limits=SMALL)
        async for _ in cancelled_everywhere(lambda: driver.resize_sandbox(box, LARGE)):
            pass
        async for _ in cancelled_everywhere(lambda: driver.resize_container(box, container, LARGE)):
            pass
        await driver.resize_sandbox(box, LARGE)
        await driver.resize_container(box, container, LARGE)
        assert await _limits(lab, box, container) == (LARGE, LARGE)

    async def test_resize_of_what_is_gone_is_not_found(self, lab: Lab) -> None:
        driver = _resizer(lab)
        box = (await lab.sandbox()).handle
        container = await lab.started(box)
        await lab.driver.destroy_container(box, ContainerId(container.id))
        with pytest.raises(NotFound):
            await driver.resize_container(box, container, SMALL)
        await lab.driver.destroy_sandbox(SandboxId(box.id))
        with pytest.raises(NotFound):
            await driver.resize_sandbox(box, SMALL)

    # ---- the processes of another container

    async def test_a_container_that_shares_the_processes_of_another(self: Any, lab: Lab) -> None:
        needs(lab, "pid_target")
        box = (await lab.sandbox()).handle
        target = await lab.started(box)
        visitor = await lab.started(box, LOOKS_AROUND, pid_target=ContainerId(target.id))
        seen, own = await _namespaces(lab, visitor), await _namespaces(lab, target)
        assert seen["pid"] == own["pid"]
        assert seen["mnt"] != own["mnt"]
        if self.real_processes:
            assert await lab.seen("first") == "sleep\x003600\x00"

    async def test_a_container_ends_with_the_one_whose_processes_it_shares(self, lab: Lab) -> None:
        needs(lab, "pid_target")
        box = (await lab.sandbox()).handle
        target = await lab.started(box)
        visitor = await lab.started(box, pid_target=ContainerId(target.id))
        await lab.driver.signal_containers([target], 9)
        with anyio.fail_after(10):
            ended = await lab.driver.wait_container(visitor)
        assert (ended.code, ended.signal, ended.oom_killed) == (137, 9, False)

    async def test_the_end_of_a_visitor_is_its_own(self, lab: Lab) -> None:
        needs(lab, "pid_target")
        box = (await lab.sandbox()).handle
        target = await lab.started(box)
        visitor = await lab.started(box, UNTIL_TERM, pid_target=ContainerId(target.id))
        await lab.driver.signal_containers([visitor], 9)
        await lab.driver.wait_container(visitor)
        await lab.driver.destroy_container(box, ContainerId(visitor.id))
        assert (await lab.driver.container_status(target)).state == "running"

    async def test_the_processes_of_what_does_not_run_cannot_be_shared(self, lab: Lab) -> None:
        needs(lab, "pid_target")
        box = (await lab.sandbox()).handle
        held = (await lab.created(box)).handle
        ended = await lab.started(box)
        await lab.driver.signal_containers([ended], 9)
        await lab.driver.wait_container(ended)
        for target in (held, ended):
            with pytest.raises(Conflict):
                await lab.created(box, pid_target=ContainerId(target.id))

    async def test_where_the_pod_shares_its_processes_a_target_makes_no_difference(self, lab: Lab) -> None:
        needs(lab, "pid_target")
        needs(lab, "pid_pod")
        made = await lab.sandbox(namespaces=NamespaceScopes(pid="pod"))
        target = await lab.started(made.handle)
        visitor = await lab.started(made.handle, FOREVER, pid_target=ContainerId(target.id))
        assert (await _namespaces(lab, visitor))["pid"] == made.observed.namespaces["pid"]


def _resizer(lab: Lab) -> CanResize:
    needs(lab, "resize")
    assert isinstance(lab.driver, CanResize)
    return lab.driver


def _known(limits: Limits) -> Limits:
    """Without what was not asked for, and the kernel has a value of its own for."""
    return replace(limits, cpu_shares=None)


async def _limits(lab: Lab, box: Handle, container: Handle) -> tuple[Limits, Limits]:
    """Of the sandbox and of the container, as the kernel has them."""
    status = await lab.driver.container_status(container)
    assert status.observed is not None
    return _known((await lab.driver.sandbox_status(box)).observed.limits), _known(status.observed.limits)


async def _namespaces(lab: Lab, container: Handle) -> dict[str, int]:
    status = await lab.driver.container_status(container)
    assert status.observed is not None
    return {**status.observed.namespaces}
