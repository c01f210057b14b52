"""What goes wrong below and beside an actor costs its own pod, and that as little as can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest
from harness import POD, apply, engine

from podd.core import events as ev
from podd.core import pod
from podd.driver.contract import Health, Owned
from podd.engine import recovery
from podd.engine.engine import Engine
from podd.errors import Internal, Unavailable
from podd.testing.fake import FakeDriver, FakeHost, Fault, Program

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


async def running(one: Engine) -> dict[str, int | None]:
    return {m.name: m.pid for m in (await one.get("web", None)).status.container_statuses}


async def test_a_bug_costs_its_pod_a_moment_and_no_other_anything(
    tmp_path: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one)
        await apply(one, POD.replace("name: web", "name: other"))
        before = await running(one)
        real: Callable[..., object] = pod.step

        def broken(state: object, event: ev.Event, now_ns: int) -> object:
            if isinstance(event, ev.PauseAsked):
                raise AssertionError("a bug")
            return real(state, event, now_ns)

        monkeypatch.setattr(pod, "step", broken)
        with pytest.raises(Internal, match="unexpected AssertionError"):
            await one.pause("web", None)
        await anyio.sleep(5)
        assert await running(one) == before
        await one.delete("web", None, grace_period_s=0, wait=True)
        assert [v.pod.metadata.name for v in await one.list_pods(None, "")] == ["other"]
    assert not host.violations


async def test_whatever_the_store_says_what_happened_waits_to_be_written(tmp_path: Path, host: FakeHost) -> None:
    failing = False

    def fail(point: str) -> None:
        if failing and point == "store.save.before":
            raise Internal("store: cannot save: protocol error")

    host.programs["a"] = [Program(exits_after_s=100, code=1), Program()]
    async with engine(tmp_path, host, failpoint=fail) as one:
        await apply(one)
        failing = True
        await anyio.sleep(200)
        failing = False
        await anyio.sleep(30)
        a = (await one.get("web", None)).status.container_statuses[0]
        assert (a.restart_count, a.ready) == (1, True)


async def test_a_timeout_of_the_drivers_own_is_not_taken_for_ours(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="create_sandbox", error=TimeoutError("connect timed out")))
    async with engine(tmp_path, host) as one:
        result = await apply(one)
        assert result.message.startswith("driver fake: create_sandbox: TimeoutError: connect timed out")


async def test_a_backend_that_is_away_for_a_moment_has_not_lost_the_pod(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="wait_sandbox", call=1, error=Unavailable("backend: connection refused")))
    async with engine(tmp_path, host) as one:
        await apply(one)
        before = await running(one)
        await anyio.sleep(60)
        assert await running(one) == before
        (box,) = host.sandboxes
        host.lose_sandbox(box)
        await anyio.sleep(60)
        assert list(host.sandboxes) != [box], "and it is asked again"


class Silent(FakeDriver):
    async def owned(self) -> Sequence[Owned]:
        await anyio.sleep_forever()
        raise AssertionError


class Nonsense(FakeDriver):
    async def owned(self) -> Sequence[Owned]:
        raise ConnectionError("no route")


@pytest.mark.parametrize(
    ("driver", "why"), [(Silent, "no answer within 30 s"), (Nonsense, "ConnectionError: no route")]
)
async def test_a_driver_that_cannot_say_what_it_holds_does_not_keep_podd_from_serving(
    tmp_path: Path, host: FakeHost, driver: type[FakeDriver], why: str
) -> None:
    async with engine(tmp_path, host, driver=driver) as one:
        (problem,) = (await one.info()).problems
        assert problem == f"driver fake: cannot say what it holds: {why}"
        assert (await apply(one)).phase == "Running"


class Uninstalled(FakeDriver):
    def __init__(self, host: FakeHost) -> None:
        super().__init__(host, name="nobody")

    async def probe(self) -> Health:
        return Health(usable=False, reason="no backend", remedy="install it")

    async def owned(self) -> Sequence[Owned]:
        raise Unavailable("no backend")


async def test_a_driver_that_was_never_installed_is_no_problem_until_a_pod_needs_it(host: FakeHost) -> None:
    drivers = [Uninstalled(host)]
    assert await recovery.sweep(drivers, set(), lambda _: False, {"fake"}) == []
    (problem,) = await recovery.sweep(drivers, set(), lambda _: False, {"fake", "nobody"})
    assert problem == "driver nobody: cannot say what it holds: no backend"


async def test_one_pod_that_cannot_tell_does_not_silence_the_others(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one)
        await apply(one, POD.replace("name: web", "name: other"))
        host.faults.append(Fault(verb="usage", of="web", error=Unavailable("gone just now")))
        assert [u.view.pod.metadata.name for u in await one.stats(None, None)] == ["other"]
        with pytest.raises(Unavailable, match="gone just now"):
            await one.stats("web", None)


class Vague(FakeDriver):
    async def probe(self) -> object:  # type: ignore[override]
        raise OSError("who knows")


async def test_a_probe_that_raises_is_shown(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host, driver=Vague) as one:
        (report,) = await one.drivers()
        assert (report.health.usable, report.health.reason) == (False, "probe: OSError: who knows")
