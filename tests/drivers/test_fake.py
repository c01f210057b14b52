"""The fake host and its driver, on which the engine's tests rest: what is their own, then every driver's contract."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import anyio
import pytest

from podd.driver.contract import (
    ContainerConfig,
    ContainerCreated,
    Driver,
    ExecRequest,
    Handle,
    NamespaceScopes,
    Observed,
    SandboxConfig,
)
from podd.driver.plugins import missing_powers
from podd.errors import Conflict, Invalid, NotFound, Unavailable
from podd.model.ids import ContainerId, PodUid, SandboxId
from podd.testing.contract import DriverContract
from podd.testing.fake import FOREVER, FakeDriver, FakeHost, Program
from podd.testing.lab import Act

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


@pytest.fixture
def host() -> FakeHost:
    return FakeHost(wall_ns=1_800_000_000_000_000_000)


def sandbox_config(number: int = 1, **fields: object) -> SandboxConfig:
    given = {
        "id": SandboxId(f"{number:016x}"),
        "pod_uid": PodUid(f"uid-{number}"),
        "pod_name": f"pod-{number}",
        "pod_namespace": "default",
        "attempt": 0,
        "hostname": f"pod-{number}",
    }
    return SandboxConfig(**(given | fields))  # type: ignore[arg-type]


def container_config(name: str, number: int, *, sandbox: int = 1, attempt: int = 0) -> ContainerConfig:
    return ContainerConfig(
        id=ContainerId(f"{0xC0 + number:016x}"),
        sandbox_id=SandboxId(f"{sandbox:016x}"),
        name=name,
        attempt=attempt,
        image="rootfs:/",
    )


async def made(driver: FakeDriver, *names: str) -> tuple[Handle, list[ContainerCreated]]:
    box = (await driver.create_sandbox(sandbox_config())).handle
    return box, [await driver.create_container(box, container_config(name, n)) for n, name in enumerate(names)]


async def test_it_is_a_driver_with_the_powers_that_it_declares(host: FakeHost) -> None:
    driver: Driver = FakeDriver(host)
    assert missing_powers(driver) == []
    assert (await driver.probe()).usable


async def test_containers_are_held_released_together_and_end_on_time(host: FakeHost) -> None:
    host.programs["job"] = Program(exits_after_s=3600, code=3)
    async with FakeDriver(host) as driver:
        _, (job, web) = await made(driver, "job", "web")
        await anyio.sleep(5)
        assert host.running() == []
        started = await driver.start_containers([job.handle, web.handle])
        assert len({s.released_ns for s in started}) == 1
        assert host.running() == ["job", "web"]
        before = anyio.current_time()
        ended = await driver.wait_container(job.handle)
        assert anyio.current_time() - before == pytest.approx(3600)
        assert (ended.code, ended.signal) == (3, 0)
        assert ended.started_at_ns is not None
        assert ended.finished_at_ns - ended.started_at_ns == pytest.approx(3600e9)
        assert host.running() == ["web"]
        assert await driver.wait_container(job.handle) == ended
    host.verify()


@pytest.mark.parametrize(
    ("program", "signum", "ends_after_s", "code", "signal_"),
    [
        (FOREVER, signal.SIGTERM, 0, 143, 15),
        (FOREVER, signal.SIGKILL, 0, 137, 9),
        (Program(term_takes_s=7), signal.SIGTERM, 7, 143, 15),
        (Program(term_takes_s=7, term_code=0), signal.SIGTERM, 7, 0, 0),
        (Program(term_takes_s=7), signal.SIGKILL, 0, 137, 9),
        (Program(ignores_term=True, exits_after_s=60, code=4), signal.SIGTERM, 60, 4, 0),
        (Program(term_takes_s=90, exits_after_s=60, code=4), signal.SIGTERM, 60, 4, 0),
    ],
)
async def test_what_a_signal_does(
    host: FakeHost, program: Program, signum: int, ends_after_s: float, code: int, signal_: int
) -> None:
    host.programs["a"] = program
    async with FakeDriver(host) as driver:
        _, (a,) = await made(driver, "a")
        await driver.start_containers([a.handle])
        before = anyio.current_time()
        await driver.signal_containers([a.handle], signum)
        ended = await driver.wait_container(a.handle)
        assert (anyio.current_time() - before, ended.code, ended.signal) == (ends_after_s, code, signal_)
        await driver.signal_containers([a.handle], signum)  # of one that has ended: quiet


async def test_every_attempt_has_its_own_program(host: FakeHost) -> None:
    host.programs["a"] = [Program(exits_after_s=1, code=1), Program(exits_after_s=2, code=2)]
    async with FakeDriver(host) as driver:
        box = (await driver.create_sandbox(sandbox_config())).handle
        codes = []
        for attempt in range(3):
            created = await driver.create_container(box, container_config("a", attempt, attempt=attempt))
            await driver.start_containers([created.handle])
            codes.append((await driver.wait_container(created.handle)).code)
            await driver.destroy_container(box, ContainerId(created.handle.id))
        assert codes == [1, 2, 2]
    host.verify()


async def test_what_runs_goes_on_while_no_driver_is_there(host: FakeHost) -> None:
    host.programs["job"] = Program(exits_after_s=100, code=5)
    async with FakeDriver(host) as driver:
        box, (job, web) = await made(driver, "job", "web")
        await driver.start_containers([job.handle, web.handle])
    await anyio.sleep(1000)
    async with FakeDriver(host) as driver:
        (owned,) = await driver.owned()
        assert owned.handle == box
        assert set(owned.containers) == {job.handle.id, web.handle.id}
        assert (await driver.recover(box, [job.handle, web.handle])).state == "ready"
        ended = await driver.wait_container(job.handle)
        assert ended.code == 5
        assert ended.finished_at_ns - (ended.started_at_ns or 0) == pytest.approx(100e9)
        assert (await driver.container_status(web.handle)).state == "running"
        await driver.destroy_sandbox(SandboxId(box.id))
        await driver.destroy_sandbox(SandboxId(box.id))
        assert await driver.owned() == []
        with pytest.raises(NotFound):
            await driver.recover(box, [])
    host.verify_empty()


async def test_a_sandbox_used_without_being_recovered_is_noticed(host: FakeHost) -> None:
    async with FakeDriver(host) as driver:
        box, _ = await made(driver, "a")
    async with FakeDriver(host) as driver:
        await driver.sandbox_status(box)
    with pytest.raises(AssertionError, match="without being recovered"):
        host.verify()


async def test_two_live_instances_are_noticed(host: FakeHost) -> None:
    async with FakeDriver(host) as driver:
        await made(driver, "a", "a")
    with pytest.raises(AssertionError, match="2 live instances"):
        host.verify()


async def test_an_effect_without_a_proper_id_is_noticed(host: FakeHost) -> None:
    async with FakeDriver(host) as driver:
        await driver.create_sandbox(sandbox_config(id=SandboxId("web")))
    with pytest.raises(AssertionError, match="'web' is no id"):
        host.verify()


async def test_the_same_id_for_something_else_is_noticed(host: FakeHost) -> None:
    async with FakeDriver(host) as driver:
        first = await driver.create_sandbox(sandbox_config())
        assert await driver.create_sandbox(sandbox_config()) == first
        host.verify()
        await driver.create_sandbox(sandbox_config(hostname="other"))
    with pytest.raises(AssertionError, match="other contents"):
        host.verify()


async def test_a_lost_sandbox_ends_all_that_waits(host: FakeHost) -> None:
    async with FakeDriver(host) as driver:
        box, (a,) = await made(driver, "a")
        await driver.start_containers([a.handle])
        told: list[str] = []

        async def wait_for_container() -> None:
            with pytest.raises(Unavailable):
                await driver.wait_container(a.handle)
            told.append("container")

        async def wait_for_sandbox() -> None:
            told.append(await driver.wait_sandbox(box))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for_container)
            tasks.start_soon(wait_for_sandbox)
            await anyio.sleep(10)
            assert told == []
            host.lose_sandbox(box.id, "killed")
        assert sorted(told) == ["container", "killed"]
        assert host.running() == []
        assert (await driver.owned())[0].handle is None
        with pytest.raises(Unavailable):
            await driver.create_container(box, container_config("b", 9))
        await driver.destroy_sandbox(SandboxId(box.id))
    host.verify_empty()


async def test_pause_stops_the_time_of_what_runs(host: FakeHost) -> None:
    host.programs["job"] = Program(exits_after_s=10)
    async with FakeDriver(host) as driver:
        box, (job, web) = await made(driver, "job", "web")
        await driver.start_containers([job.handle, web.handle])
        await anyio.sleep(4)
        await driver.pause(box)
        await driver.pause(box)
        assert (await driver.sandbox_status(box)).paused
        await driver.signal_containers([web.handle], signal.SIGTERM)
        await anyio.sleep(100)
        assert host.running() == ["job", "web"]
        await driver.resume(box)
        assert host.running() == ["job"]
        before = anyio.current_time()
        await driver.wait_container(job.handle)
        assert anyio.current_time() - before == pytest.approx(6)


class TestFaults:
    async def test_error_of_one_container_on_one_call(self, host: FakeHost) -> None:
        host.fault("create_container", of="b", call=2, error=Invalid("b: no such command"))
        async with FakeDriver(host) as driver:
            box, _ = await made(driver, "a", "b")
            with pytest.raises(Invalid):
                await driver.create_container(box, container_config("b", 1))
            await driver.create_container(box, container_config("b", 1))
        assert len(host.effects("container_made")) == 2

    async def test_delay(self, host: FakeHost) -> None:
        host.fault("create_sandbox", delay_s=30)
        async with FakeDriver(host) as driver:
            before = anyio.current_time()
            await driver.create_sandbox(sandbox_config())
            assert anyio.current_time() - before == 30

    async def test_a_call_that_hangs_can_be_cancelled(self, host: FakeHost) -> None:
        host.fault("create_sandbox", of="pod-1", hang=True)
        async with FakeDriver(host) as driver:
            with anyio.move_on_after(60) as scope:
                await driver.create_sandbox(sandbox_config())
        assert scope.cancelled_caught
        assert host.effects() == []
        assert host.journal[-1].detail.startswith("Cancelled")

    @pytest.mark.parametrize(("leaves", "sandboxes"), [("nothing", 0), ("remains", 1), ("effect", 1)])
    async def test_what_a_lost_answer_leaves(self, host: FakeHost, leaves: str, sandboxes: int) -> None:
        host.fault("create_sandbox", call=1, hang=True, leaves=leaves)  # type: ignore[arg-type]
        async with FakeDriver(host) as driver:
            with anyio.move_on_after(60):
                await driver.create_sandbox(sandbox_config())
        async with FakeDriver(host) as driver:
            owned = await driver.owned()
            assert len(owned) == sandboxes
            if owned:
                assert (owned[0].handle is None) == (leaves == "remains")
                await driver.destroy_sandbox(owned[0].sandbox_id)
        host.verify_empty()

    async def test_failure_after_the_fact(self, host: FakeHost) -> None:
        host.fault("destroy_sandbox", call=1, error=Unavailable("no answer"), leaves="effect")
        async with FakeDriver(host) as driver:
            box, _ = await made(driver)
            with pytest.raises(Unavailable):
                await driver.destroy_sandbox(SandboxId(box.id))
        host.verify_empty()

    async def test_one_of_several_cannot_be_started_and_the_others_run(self, host: FakeHost) -> None:
        host.fault("start_containers", of="pod-1/b", error=Invalid("b: no such interpreter"))
        async with FakeDriver(host) as driver:
            _, created = await made(driver, "a", "b", "c")
            started = await driver.start_containers([c.handle for c in created])
            assert [one.error for one in started] == ["", "b: no such interpreter", ""]
            ended = await driver.wait_container(created[1].handle)
            assert (ended.code, ended.reason, ended.started_at_ns) == (128, "StartError", None)
        assert host.running() == ["a", "c"]

    @pytest.mark.parametrize(("leaves", "running"), [("nothing", []), ("effect", ["a", "b"])])
    async def test_none_of_several_is_known_to_have_been_started(
        self, host: FakeHost, leaves: str, running: list[str]
    ) -> None:
        host.fault("start_containers", error=Unavailable("no answer"), leaves=leaves)  # type: ignore[arg-type]
        async with FakeDriver(host) as driver:
            _, created = await made(driver, "a", "b")
            with pytest.raises(Unavailable):
                await driver.start_containers([c.handle for c in created])
        assert host.running() == running

    async def test_a_signal_that_one_of_several_does_not_get(self, host: FakeHost) -> None:
        host.fault("signal_containers", of="b", error=Unavailable("no answer"))
        async with FakeDriver(host) as driver:
            _, created = await made(driver, "a", "b")
            await driver.start_containers([c.handle for c in created])
            with pytest.raises(Unavailable):
                await driver.signal_containers([c.handle for c in created], signal.SIGTERM)
        assert host.running() == ["b"]


async def test_the_journal_tells_calls_effects_and_times(host: FakeHost) -> None:
    seen: list[str] = []
    host.on_effect = lambda entry: seen.append(entry.name)
    async with FakeDriver(host) as driver:
        _, (a,) = await made(driver, "a")
        await anyio.sleep(3)
        await driver.start_containers([a.handle])
        host.kill_container(a.handle.id, oom_killed=True)
        assert (await driver.wait_container(a.handle)).oom_killed
    assert seen == ["sandbox_made", "container_made", "released", "exited"]
    assert [e.name for e in host.effects()] == seen
    made_at, released_at = (host.effects(name, of="a")[0].at_s for name in ("container_made", "released"))
    assert released_at - made_at == 3
    assert [e.name for e in host.calls()] == [
        "create_sandbox",
        "create_container",
        "start_containers",
        "wait_container",
    ]


async def test_sharing_is_as_the_scopes_say_and_can_be_falsified(host: FakeHost) -> None:
    async with FakeDriver(host) as driver:
        scopes = NamespaceScopes(net="node", pid="pod")
        box = await driver.create_sandbox(sandbox_config(namespaces=scopes))
        a = await driver.create_container(box.handle, container_config("a", 1))
        host.observe = lambda _config, observed: Observed(namespaces={"net": 1}, cgroup=observed.cgroup)
        b = await driver.create_container(box.handle, container_config("b", 2))
    assert a.observed is not None
    assert b.observed is not None
    shared = {name: inode for name, inode in a.observed.namespaces.items() if name not in ("mnt", "cgroup")}
    assert shared == box.observed.namespaces
    assert a.observed.cgroup.startswith(f"{box.cgroup}/")
    assert b.observed.namespaces == {"net": 1}


async def test_exec_plays_its_program_and_ends_with_its_container(host: FakeHost) -> None:
    host.execs["cat /ready"] = Program(exits_after_s=2, code=1, output=("no",))
    host.execs["top"] = FOREVER
    async with FakeDriver(host) as driver:
        _, (a,) = await made(driver, "a")
        with pytest.raises(Conflict):
            await driver.exec_start(a.handle, ExecRequest(argv=["true"]), [0, 1, 2])
        await driver.start_containers([a.handle])
        reader, writer = os.pipe()
        try:
            exec_id, _ = await driver.exec_start(a.handle, ExecRequest(argv=["cat", "/ready"]), [writer] * 3)
            assert (await driver.exec_wait(a.handle, exec_id)).code == 1
            assert os.read(reader, 100) == b"no\n"
            top, _ = await driver.exec_start(a.handle, ExecRequest(argv=["top"]), [writer] * 3)
            await driver.exec_kill(a.handle, top)
            assert (await driver.exec_wait(a.handle, top)).signal == 9
            top, _ = await driver.exec_start(a.handle, ExecRequest(argv=["top"]), [writer] * 3)
            host.kill_container(a.handle.id)
            ended = await driver.exec_wait(a.handle, top)
            assert (ended.code, ended.signal) == (137, 9)
        finally:
            os.close(reader)
            os.close(writer)


async def test_usage_counts_what_runs(host: FakeHost) -> None:
    async with FakeDriver(host) as driver:
        box, (a, b) = await made(driver, "a", "b")
        await driver.start_containers([a.handle])
        await anyio.sleep(2)
        usage = await driver.usage(box, [a.handle, b.handle])
    assert usage.containers[a.handle.id].cpu_usage_ns == pytest.approx(2e9)
    assert usage.pod.pids == 1


async def test_a_reboot_leaves_nothing(host: FakeHost) -> None:
    async with FakeDriver(host) as driver:
        await made(driver, "a")
    host.reboot()
    host.verify_empty()


class TestContract(DriverContract):
    """The contract on the real clock, since it compares with the real time."""

    real_processes = False

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def host(self) -> Iterator[FakeHost]:
        host = FakeHost()
        yield host
        assert not host.sandboxes

    @pytest.fixture
    def make_driver(self, host: FakeHost) -> Callable[[], Driver]:
        self._host = host
        return lambda: FakeDriver(host)

    def arrange(self, config: ContainerConfig, act: Act) -> ContainerConfig:
        self._host.programs[config.name] = Program(
            exits_after_s=act.exits_after_s, code=act.code, ignores_term=act.ignores_term
        )
        return config

    async def let_end(self, pid: int) -> None:
        while any(container.pid == pid for container in self._host.containers() if container.exit is None):
            await anyio.sleep(0.01)
            self._host.settle()

    @pytest.fixture
    def remote(self, host: FakeHost) -> str:
        host.remote["far:1"] = 0
        return "far:1"

    async def lose(self, sandbox: Handle) -> None:
        self._host.lose_sandbox(sandbox.id)
