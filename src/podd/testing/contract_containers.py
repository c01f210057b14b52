"""The driver contract's tests of containers. See podd.testing.contract."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest

from podd.driver.contract import ContainerStarted, Exit, Handle, Limits, Scope
from podd.errors import Invalid, NotFound
from podd.model.ids import ContainerId, SandboxId
from podd.testing.cancelling import cancelled_everywhere
from podd.testing.lab import (
    FOREVER,
    IGNORES_TERM,
    SHARED,
    UNTIL_TERM,
    Act,
    Lab,
    exits,
    needs,
    needs_processes,
    together,
)


class Containers:
    """Mixed into DriverContract."""

    # ---- held

    async def test_create_container_again_is_the_same_container(self, lab: Lab) -> None:
        made = await lab.sandbox()
        config = lab.container_config(made.handle)
        first = await lab.driver.create_container(made.handle, config)
        assert await lab.driver.create_container(made.handle, config) == first
        assert first.handle.id == config.id
        status = await lab.driver.container_status(first.handle)
        assert (status.state, status.exit, status.started_at_ns) == ("created", None, None)

    async def test_three_containers_at_once(self, lab: Lab) -> None:
        made = await lab.sandbox()
        created = await together([lambda: lab.created(made.handle)] * 3)
        assert len({one.handle.id for one in created}) == 3
        if lab.driver.capabilities.held_start:
            assert all(one.observed for one in created)

    async def test_held_means_that_nothing_has_run(self: Any, lab: Lab) -> None:
        """Whatever a held container would do at once, it has not done when all others have been made and looked at."""
        needs(lab, "held_start")
        made = await lab.sandbox()
        acts = [Act(f"echo ran > {SHARED}/{n}", exits_after_s=0) for n in range(3)]
        created = [(await lab.created(made.handle, act)).handle for act in acts]
        for handle in created:
            assert (await lab.driver.container_status(handle)).state == "created"
        assert os.listdir(lab.shared) == []
        await lab.driver.start_containers(created)
        assert [(await lab.driver.wait_container(handle)).code for handle in created] == [0, 0, 0]
        if self.real_processes:
            assert sorted(os.listdir(lab.shared)) == ["0", "1", "2"]

    async def test_limits_of_a_container_are_read_back(self, lab: Lab) -> None:
        needs(lab, "held_start")
        limits = Limits(cpu_quota_us=25_000, memory_bytes=32 << 20, pids=10)
        made = await lab.sandbox()
        created = await lab.created(made.handle, limits=limits)
        assert created.observed is not None
        found = created.observed.limits
        assert (found.cpu_quota_us, found.memory_bytes, found.pids) == (25_000, 32 << 20, 10)

    async def test_a_command_that_is_missing_is_refused_when_it_is_made(self: Any, lab: Lab) -> None:
        needs_processes(self)
        made = await lab.sandbox()
        config = lab.container_config(made.handle)
        wrong = msgspec.structs.replace(config, command=("/no/such/command",))
        with pytest.raises(Invalid, match="/no/such/command"):
            await lab.driver.create_container(made.handle, wrong)
        (mine,) = [one for one in await lab.driver.owned() if one.sandbox_id == made.handle.id]
        assert not mine.containers
        await lab.driver.create_container(made.handle, config)  # its id is free

    async def test_create_container_cancelled_anywhere_leaves_what_destroy_removes(self, lab: Lab) -> None:
        made = await lab.sandbox()
        ids: list[ContainerId] = []

        async def create() -> None:
            config = lab.container_config(made.handle)
            ids.append(config.id)
            await lab.driver.create_container(made.handle, config)

        async for where in cancelled_everywhere(create):
            await lab.driver.destroy_container(made.handle, ids[-1])
            (mine,) = [one for one in await lab.driver.owned() if one.sandbox_id == made.handle.id]
            assert not mine.containers, f"cancelled {where}, destroyed, and left"

    async def test_create_container_cancelled_and_asked_again(self, lab: Lab) -> None:
        made = await lab.sandbox()
        config = lab.container_config(made.handle, exits(7))
        async for _ in cancelled_everywhere(lambda: lab.driver.create_container(made.handle, config)):
            pass
        handle = (await lab.driver.create_container(made.handle, config)).handle
        await lab.driver.start_containers([handle])
        assert (await lab.driver.wait_container(handle)).code == 7

    # ---- released

    async def test_all_are_released_in_one_call(self, lab: Lab) -> None:
        made = await lab.sandbox()
        handles = [(await lab.created(made.handle)).handle for _ in range(3)]
        before_ns = time.time_ns()
        started = await lab.driver.start_containers(handles)
        assert [one.id for one in started] == [handle.id for handle in handles]
        assert not any(one.error for one in started)
        assert len({one.pid for one in started}) == 3
        assert all(before_ns <= one.started_at_ns <= time.time_ns() for one in started)
        released = [one.released_ns for one in started]
        assert max(released) - min(released) < 1e9, "nanoseconds of one clock"
        for handle, one in zip(handles, started, strict=True):
            status = await lab.driver.container_status(handle)
            assert (status.state, status.pid, status.started_at_ns) == ("running", one.pid, one.started_at_ns)

    async def test_start_containers_again_answers_as_they_are(self, lab: Lab) -> None:
        made = await lab.sandbox()
        first, second = [(await lab.created(made.handle)).handle for _ in range(2)]
        (began,) = await lab.driver.start_containers([first])
        again = await lab.driver.start_containers([first, second])
        assert again[0] == began
        assert again[1].id == second.id

    async def test_start_containers_cancelled_anywhere_can_be_done_again(self, lab: Lab) -> None:
        made = await lab.sandbox()
        handles = [(await lab.created(made.handle)).handle for _ in range(2)]
        async for _ in cancelled_everywhere(lambda: lab.driver.start_containers(handles)):
            pass
        started: Sequence[ContainerStarted] = await lab.driver.start_containers(handles)
        assert not any(one.error for one in started)
        for handle in handles:
            assert (await lab.driver.container_status(handle)).state == "running"

    # ---- the end

    @pytest.mark.parametrize("code", [0, 1, 7, 255])
    async def test_exit_codes(self, lab: Lab, code: int) -> None:
        made = await lab.sandbox()
        before_ns = time.time_ns()
        handle = await lab.started(made.handle, exits(code))
        ended = await lab.driver.wait_container(handle)
        assert (ended.code, ended.signal, ended.oom_killed) == (code, 0, False)
        assert ended.started_at_ns is not None
        assert before_ns <= ended.started_at_ns <= ended.finished_at_ns
        status = await lab.driver.container_status(handle)
        assert (status.state, status.exit) == ("exited", ended)

    async def test_an_end_by_a_signal(self, lab: Lab) -> None:
        made = await lab.sandbox()
        stubborn = await lab.started(made.handle, IGNORES_TERM)  # first: deaf by the time that the other has heard
        polite = await lab.started(made.handle, UNTIL_TERM)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._signal_until_it_ends, lab, polite)
        await lab.driver.signal_containers([stubborn], signal.SIGTERM)
        assert (await lab.driver.container_status(stubborn)).state == "running"
        await lab.driver.signal_containers([stubborn], signal.SIGKILL)
        ended = await lab.driver.wait_container(stubborn)
        assert (ended.code, ended.signal) == (137, 9)
        await lab.driver.signal_containers([polite, stubborn], signal.SIGTERM)  # of what has ended: quiet

    @pytest.mark.parametrize("number", [signal.SIGRTMIN, signal.SIGRTMIN + 3, signal.SIGRTMAX])
    async def test_signals_without_a_name_arrive(self: Any, lab: Lab, number: int) -> None:
        needs_processes(self)
        waits = f"trap 'exit 9' {int(number)}; echo ready > {SHARED}/ready; while :; do sleep 3600 & wait $!; done"
        made = await lab.sandbox()
        container = await lab.started(made.handle, Act(waits))
        await lab.seen("ready")
        await lab.driver.signal_containers([container], int(number))
        with anyio.fail_after(10):
            assert (await lab.driver.wait_container(container)).code == 9

    async def _signal_until_it_ends(self, lab: Lab, handle: Handle) -> None:
        """Until a shell has set its trap, a signal to it is lost: it is a first process."""
        with anyio.fail_after(10):
            while True:
                await lab.driver.signal_containers([handle], signal.SIGTERM)
                with anyio.move_on_after(0.02):
                    assert (await lab.driver.wait_container(handle)).code == 143
                    return

    async def test_signal_containers_cancelled_anywhere(self, lab: Lab) -> None:
        made = await lab.sandbox()
        handle = await lab.started(made.handle, IGNORES_TERM)
        async for _ in cancelled_everywhere(lambda: lab.driver.signal_containers([handle], signal.SIGKILL)):
            pass
        assert (await lab.driver.wait_container(handle)).code == 137

    async def test_sigkill_ends_every_process_of_the_container(self: Any, lab: Lab) -> None:
        needs_processes(self)
        for scope in _pid_scopes(lab):
            made = await lab.sandbox(namespaces=lab.scopes(pid=scope))
            handle = await lab.started(made.handle, Act(_daemonize(lab, f"{SHARED}/{scope}") + "exec sleep 3600"))
            told = int(await lab.seen(scope))
            daemons = {*_daemons(lab, told)}
            await lab.driver.signal_containers([handle], signal.SIGKILL)
            assert (await lab.driver.wait_container(handle)).signal == 9
            await _until(lambda daemons=daemons, told=told: not daemons & {*_daemons(lab, told)})

    async def test_many_wait_and_some_come_late(self, lab: Lab) -> None:
        made = await lab.sandbox()
        handle = (await lab.created(made.handle, exits(7, after_s=0.05))).handle
        ends: list[Exit] = []

        async def wait() -> None:
            ends.append(await lab.driver.wait_container(handle))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(wait)
            await lab.driver.start_containers([handle])
        await wait()
        assert ends[0].code == 7
        assert ends == [ends[0]] * 6

    async def test_a_waiter_that_is_cancelled_costs_no_other(self, lab: Lab) -> None:
        made = await lab.sandbox()
        handle = await lab.started(made.handle, exits(7, after_s=0.1))
        async for _ in cancelled_everywhere(lambda: lab.driver.wait_container(handle)):
            pass
        assert (await lab.driver.wait_container(handle)).code == 7

    async def test_an_end_while_podd_was_away(self: Any, lab: Lab) -> None:
        needs(lab, "outlives_podd")
        made = await lab.sandbox()
        handle = (await lab.created(made.handle, exits(7, after_s=0.1))).handle
        (started,) = await lab.driver.start_containers([handle])
        async with lab.away():
            await self.let_end(started.pid)
        await lab.driver.recover(made.handle, [handle])
        with anyio.fail_after(10):
            ended = await lab.driver.wait_container(handle)
        assert (ended.code, ended.started_at_ns) == (7, started.started_at_ns)

    async def test_an_end_after_podd_was_away(self, lab: Lab) -> None:
        needs(lab, "outlives_podd")
        made = await lab.sandbox()
        handle = await lab.started(made.handle, FOREVER)
        async with lab.away():
            pass
        await lab.driver.recover(made.handle, [handle])
        await lab.driver.signal_containers([handle], signal.SIGKILL)
        with anyio.fail_after(10):
            assert (await lab.driver.wait_container(handle)).code == 137

    async def test_a_container_held_while_podd_was_away_can_be_started(self, lab: Lab) -> None:
        needs(lab, "outlives_podd")
        needs(lab, "held_start")
        made = await lab.sandbox()
        handle = (await lab.created(made.handle, exits(7))).handle
        async with lab.away():
            pass
        await lab.driver.recover(made.handle, [handle])
        assert (await lab.driver.container_status(handle)).state == "created"
        await lab.driver.start_containers([handle])
        assert (await lab.driver.wait_container(handle)).code == 7

    # ---- gone

    async def test_destroy_container_of_nothing_is_quiet(self, lab: Lab) -> None:
        made = await lab.sandbox()
        await lab.driver.destroy_container(made.handle, ContainerId(secrets.token_hex(8)))
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
        await lab.driver.destroy_container(made.handle, ContainerId(secrets.token_hex(8)))

    async def test_a_destroyed_container_is_not_found(self, lab: Lab) -> None:
        made = await lab.sandbox()
        for handle in [(await lab.created(made.handle)).handle, await lab.started(made.handle, IGNORES_TERM)]:
            for _ in range(2):
                await lab.driver.destroy_container(made.handle, ContainerId(handle.id))
            with pytest.raises(NotFound):
                await lab.driver.container_status(handle)
            with pytest.raises(NotFound):
                await lab.driver.wait_container(handle)
        (mine,) = [one for one in await lab.driver.owned() if one.sandbox_id == made.handle.id]
        assert not mine.containers

    async def test_who_waits_for_a_container_that_is_destroyed_is_told(self, lab: Lab) -> None:
        made = await lab.sandbox()
        handle = await lab.started(made.handle)
        told: list[object] = []

        async def wait() -> None:
            try:
                told.append((await lab.driver.wait_container(handle)).code)
            except NotFound:
                told.append(137)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.sleep(0.01)
                await lab.driver.destroy_container(made.handle, ContainerId(handle.id))
        assert told == [137]

    async def test_destroy_container_cancelled_anywhere_can_be_done_again(self, lab: Lab) -> None:
        made = await lab.sandbox()
        ids: list[ContainerId] = [ContainerId((await lab.started(made.handle)).id)]
        async for where in cancelled_everywhere(lambda: lab.driver.destroy_container(made.handle, ids[-1])):
            await lab.driver.destroy_container(made.handle, ids[-1])
            (mine,) = [one for one in await lab.driver.owned() if one.sandbox_id == made.handle.id]
            assert not mine.containers, f"cancelled {where}, destroyed again, and left"
            ids.append(ContainerId((await lab.started(made.handle)).id))

    async def test_another_instance_after_the_first(self, lab: Lab) -> None:
        made = await lab.sandbox()
        first = await lab.started(made.handle, exits(1), name="web")
        await lab.driver.wait_container(first)
        second = await lab.started(made.handle, exits(2), name="web", attempt=1)
        await lab.driver.destroy_container(made.handle, ContainerId(first.id))
        assert (await lab.driver.wait_container(second)).code == 2

    async def test_destroy_sandbox_ends_what_has_daemonized(self: Any, lab: Lab) -> None:
        needs_processes(self)
        for scope in _pid_scopes(lab):
            made = await lab.sandbox(namespaces=lab.scopes(pid=scope))
            await lab.started(
                made.handle, Act("trap '' TERM; " + _daemonize(lab, f"{SHARED}/{scope}") + "exec sleep 3600")
            )
            told = int(await lab.seen(scope))
            daemons = _daemons(lab, told)
            assert daemons
            await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
            assert not {*daemons} & {*_daemons(lab, told)}, "the number of a namespace may be another's by now"


def _pid_scopes(lab: Lab) -> list[Scope]:
    if not lab.driver.capabilities.isolation:
        return ["node"]
    return ["container", "pod"] if lab.driver.capabilities.pid_pod else ["container"]


def _daemonize(lab: Lab, note: str) -> str:
    """A double fork that nobody waits for. It writes that by which it can be found: of a container that is kept apart
    the inode of its mount namespace, of one that is not its own number."""
    tell = "stat -Lc %i /proc/self/ns/mnt" if lab.driver.capabilities.isolation else "echo $$"
    return f"(setsid sh -c '{tell} > {note}; exec sleep 7200' &) ; "


def _daemons(lab: Lab, told: int) -> list[int]:
    """The processes that are there of what has told so."""
    if lab.driver.capabilities.isolation:
        return _holding(told)
    return [told] if os.path.exists(f"/proc/{told}/exe") else []


def _holding(inode: int) -> list[int]:
    """The processes whose mount namespace has that inode."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if os.stat(f"/proc/{name}/ns/mnt").st_ino == inode:
                    found.append(int(name))
            except OSError:
                continue
    return found


async def _until(true: Any) -> None:
    with anyio.fail_after(10):
        while not true():  # noqa: ASYNC110 nobody tells of the end of a stranger
            await anyio.sleep(0.002)
