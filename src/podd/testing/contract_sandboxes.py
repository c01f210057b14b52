"""The driver contract's tests of sandboxes. See podd.testing.contract."""

from __future__ import annotations

import secrets
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from podd.core.verify import differences
from podd.driver.contract import Handle, Limits, NamespaceScopes, Scope
from podd.errors import NotFound
from podd.model.ids import SandboxId
from podd.testing.cancelling import cancelled_everywhere
from podd.testing.lab import FOREVER, Lab, needs, together

NOBODY = SandboxId("0" * 16)


class Sandboxes:
    """Mixed into DriverContract."""

    # ---- the driver itself

    async def test_probe_says_that_it_is_usable_here(self, lab: Lab) -> None:
        health = await lab.driver.probe()
        assert health.usable, f"{health.reason}; {health.remedy}"

    async def test_a_sandbox_outlives_podd(self, lab: Lab) -> None:
        needs(lab, "outlives_podd")
        made = await lab.sandbox()
        container = await lab.started(made.handle)
        before = await lab.driver.container_status(container)
        async with lab.away():
            pass
        status = await lab.driver.recover(made.handle, [container])
        assert status.state == "ready"
        again = await lab.driver.recover(made.handle, [container])
        assert again == status
        after = await lab.driver.container_status(container)
        assert (after.state, after.pid, after.started_at_ns) == ("running", before.pid, before.started_at_ns)

    async def test_recover_cancelled_anywhere_can_be_done_again(self, lab: Lab) -> None:
        needs(lab, "outlives_podd")
        made = await lab.sandbox()
        container = await lab.started(made.handle)
        async with lab.away():
            pass
        async for _ in cancelled_everywhere(lambda: lab.driver.recover(made.handle, [container])):
            async with lab.away():
                pass
        assert (await lab.driver.recover(made.handle, [container])).state == "ready"
        assert (await lab.driver.container_status(container)).state == "running"

    async def test_what_was_destroyed_cannot_be_recovered(self, lab: Lab) -> None:
        made = await lab.sandbox()
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
        async with lab.away():
            pass
        with pytest.raises(NotFound):
            await lab.driver.recover(made.handle, [])

    # ---- making

    async def test_create_sandbox_again_is_the_same_sandbox(self, lab: Lab) -> None:
        config = lab.sandbox_config()
        first = await lab.driver.create_sandbox(config)
        assert await lab.driver.create_sandbox(config) == first
        assert first.handle.id == config.id
        assert first.handle.driver == lab.driver.name

    async def test_create_sandbox_twice_at_once_is_one_sandbox(self, lab: Lab) -> None:
        config = lab.sandbox_config()
        one, other = await together([lambda: lab.driver.create_sandbox(config)] * 2)
        assert one == other

    async def test_create_sandbox_cancelled_anywhere_leaves_what_destroy_removes(self, lab: Lab) -> None:
        ids: list[SandboxId] = []

        async def create() -> None:
            config = lab.sandbox_config()
            ids.append(config.id)
            await lab.driver.create_sandbox(config)

        async for where in cancelled_everywhere(create):
            await lab.driver.destroy_sandbox(ids[-1])
            left = [one.sandbox_id for one in await lab.driver.owned() if one.sandbox_id in ids[:-1]]
            assert not left, f"cancelled {where}, destroyed, and left"

    async def test_create_sandbox_cancelled_and_asked_again(self, lab: Lab) -> None:
        config = lab.sandbox_config()
        async for _ in cancelled_everywhere(lambda: lab.driver.create_sandbox(config)):
            pass
        made = await lab.driver.create_sandbox(config)
        assert (await lab.driver.sandbox_status(made.handle)).state == "ready"

    async def test_eight_sandboxes_at_once(self, lab: Lab) -> None:
        made = await together([lab.sandbox for _ in range(8)])
        assert len({one.handle.id for one in made}) == 8
        if lab.driver.capabilities.isolation:
            inodes = [one.observed.namespaces.get("net") for one in made]
            assert len(set(inodes)) == len(inodes)

    # ---- what it is

    async def test_status_of_a_sandbox(self, lab: Lab) -> None:
        made = await lab.sandbox()
        status = await lab.driver.sandbox_status(made.handle)
        assert (status.id, status.state, status.paused) == (made.handle.id, "ready", False)
        assert status.observed.namespaces == made.observed.namespaces

    async def test_an_unknown_sandbox_is_not_found(self, lab: Lab) -> None:
        made = await lab.sandbox()
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
        with pytest.raises(NotFound):
            await lab.driver.sandbox_status(made.handle)
        with pytest.raises(NotFound):
            await lab.driver.wait_sandbox(made.handle)
        with pytest.raises(NotFound):
            await lab.driver.recover(made.handle, [])

    async def test_owned_tells_of_it_until_it_is_gone(self, lab: Lab) -> None:
        config = lab.sandbox_config()
        made = await lab.driver.create_sandbox(config)
        container = await lab.created(made.handle)
        if lab.driver.capabilities.outlives_podd:
            async with lab.away():
                pass
        (mine,) = [one for one in await lab.driver.owned() if one.sandbox_id == config.id]
        assert (mine.handle, mine.pod_uid, list(mine.containers)) == (
            made.handle,
            config.pod_uid,
            [container.handle.id],
        )
        await lab.driver.destroy_sandbox(config.id)
        assert config.id not in [one.sandbox_id for one in await lab.driver.owned()]

    async def test_what_an_earlier_life_of_podd_has_left_is_found_and_destroyed(self, lab: Lab) -> None:
        config = lab.sandbox_config()
        made = await lab.driver.create_sandbox(config)
        await lab.started(made.handle)
        async with lab.away():
            pass
        (left,) = [one for one in await lab.driver.owned() if one.sandbox_id == config.id]
        assert left.pod_uid == config.pod_uid
        if not lab.driver.capabilities.outlives_podd:
            assert left.handle is None
            with pytest.raises(NotFound):
                await lab.driver.recover(made.handle, [])
        await lab.driver.destroy_sandbox(config.id)
        assert config.id not in [one.sandbox_id for one in await lab.driver.owned()]

    async def test_limits_of_the_sandbox_are_read_back(self, lab: Lab) -> None:
        limits = Limits(cpu_quota_us=50_000, memory_bytes=64 << 20, pids=100)
        made = await lab.sandbox(limits=limits)
        found = made.observed.limits
        assert (found.memory_bytes, found.pids) == (64 << 20, 100)
        await lab.started(made.handle)  # the processor's limit may wait for the first program to run
        found = (await lab.driver.sandbox_status(made.handle)).observed.limits
        assert (found.cpu_quota_us, found.memory_bytes, found.pids) == (50_000, 64 << 20, 100)

    # ---- namespaces

    async def test_members_share_what_is_of_the_pod_and_nothing_else(self, lab: Lab) -> None:
        await _check_sharing(lab, lab.scopes())

    async def test_pid_namespace_of_the_pod(self, lab: Lab) -> None:
        needs(lab, "pid_pod")
        await _check_sharing(lab, NamespaceScopes(pid="pod"))

    @pytest.mark.parametrize("name", ["net", "ipc", "uts", "pid"])
    async def test_namespaces_of_the_node(self, lab: Lab, name: str) -> None:
        if name == "pid":
            needs(lab, "pid_node")
        given: dict[str, Scope] = {name: "node"}
        await _check_sharing(lab, lab.scopes(**given))

    # ---- the end

    async def test_destroy_sandbox_of_nothing_is_quiet(self, lab: Lab) -> None:
        await lab.driver.destroy_sandbox(NOBODY)
        await lab.driver.destroy_sandbox(SandboxId(secrets.token_hex(8)))

    async def test_destroy_sandbox_again_and_at_once(self, lab: Lab) -> None:
        made = await lab.sandbox()
        await lab.started(made.handle)
        await together([lambda: lab.driver.destroy_sandbox(SandboxId(made.handle.id))] * 3)
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))

    async def test_destroy_sandbox_cancelled_anywhere_can_be_done_again(self, lab: Lab) -> None:
        sandboxes: list[SandboxId] = []

        async def destroy() -> None:
            await lab.driver.destroy_sandbox(sandboxes[-1])

        async def prepare() -> None:
            made = await lab.sandbox()
            await lab.started(made.handle)
            sandboxes.append(SandboxId(made.handle.id))

        await prepare()
        async for where in cancelled_everywhere(destroy):
            await lab.driver.destroy_sandbox(sandboxes[-1])
            left = [one.sandbox_id for one in await lab.driver.owned() if one.sandbox_id in sandboxes]
            assert not left, f"cancelled {where}, destroyed again, and left"
            await prepare()

    async def test_destroy_sandbox_after_a_restart_needs_no_recover(self, lab: Lab) -> None:
        needs(lab, "outlives_podd")
        made = await lab.sandbox()
        await lab.started(made.handle)
        async with lab.away():
            pass
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
        assert made.handle.id not in [one.sandbox_id for one in await lab.driver.owned()]

    async def test_a_sandbox_that_is_lost_is_told_of(self: Any, lab: Lab) -> None:
        needs(lab, "outlives_podd")  # what nobody but podd holds is not lost while podd is there
        made = await lab.sandbox()
        container = await lab.started(made.handle)
        reasons: list[str] = []

        async def wait() -> None:
            reasons.append(await lab.driver.wait_sandbox(made.handle))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                tasks.start_soon(wait)
                await anyio.lowlevel.checkpoint()
                await self.lose(made.handle)
        assert reasons[0]
        assert reasons == [reasons[0]] * 2
        assert await lab.driver.wait_sandbox(made.handle) == reasons[0]
        assert (await lab.driver.sandbox_status(made.handle)).state == "notready"
        async with lab.away():
            pass
        with pytest.raises(NotFound):
            await lab.driver.recover(made.handle, [container])
        owned = {one.sandbox_id: one for one in await lab.driver.owned()}
        assert owned[SandboxId(made.handle.id)].handle is None
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))


async def _check_sharing(lab: Lab, scopes: NamespaceScopes) -> None:
    made = await lab.sandbox(namespaces=scopes)
    others: dict[str, Any] = {}
    for _ in range(3):
        created = await lab.created(made.handle, FOREVER)
        member = created.observed or await _observed(lab, created.handle)
        found = differences(
            scopes=scopes,
            limits=Limits(),
            sandbox=made.observed,
            sandbox_cgroup=made.cgroup,
            member=member,
            others=others,
        )
        assert found == []
        others[created.handle.id] = member


async def _observed(lab: Lab, container: Handle) -> Any:
    (started,) = await lab.driver.start_containers([container])
    return started.observed
