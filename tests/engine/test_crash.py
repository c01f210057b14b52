"""podd is killed at every single point at which it writes a record or calls a driver; the next podd makes it good."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from harness import Crash, apply, engine

from podd.engine.engine import Engine
from podd.errors import NotFound, PoddError, Unavailable
from podd.testing.fake import FakeHost, Program

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


class Points:
    """Counts the points that were reached, and ends podd at one of them: whoever still asks it something gets no
    further than the next."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.reached: list[str] = []
        self._crash_at = crash_at

    def __call__(self, point: str) -> None:
        if len(self.reached) != self._crash_at:
            self.reached.append(point)
        if len(self.reached) == self._crash_at:
            raise Crash(point)


async def live(one: Engine) -> None:
    """A pod's life: it starts, one member crashes and comes back, it is paused, stopped, started, deleted."""
    await apply(one)
    await anyio.sleep(8)
    await one.pause("web", None)
    await one.resume("web", None)
    await one.stop("web", None, grace_period_s=1, wait=True)
    await one.start("web", None, wait=True)
    await one.delete("web", None, grace_period_s=None, wait=True)


def make_host() -> FakeHost:
    host = FakeHost()
    host.programs["a"] = [Program(exits_after_s=5, code=1), Program()]
    host.programs["b"] = Program(term_takes_s=0.5, term_code=0)
    return host


async def run_until_crash(
    tmp_path: Path, host: FakeHost, points: Points, story: Callable[[Engine], Awaitable[None]]
) -> bool:
    """True: the crash came."""
    try:
        async with engine(tmp_path, host, failpoint=points) as one:
            await story(one)
    except BaseExceptionGroup as group:
        if group.subgroup(Crash) is None:
            raise
        return True
    except Crash:
        return True
    return False


async def count_points(tmp_path: Path) -> int:
    points = Points()
    assert not await run_until_crash(tmp_path, make_host(), points, live)
    assert len(points.reached) > 100
    return len(points.reached)


async def test_a_crash_at_every_point_is_made_good(tmp_path: Path) -> None:
    total = await count_points(tmp_path / "count")
    for n in range(1, total + 1):
        place = tmp_path / str(n)
        host, points = make_host(), Points(crash_at=n)
        assert await run_until_crash(place, host, points, live)
        async with engine(place, host) as one:
            await anyio.sleep(900)
            context = f"crash {n} of {total}, at {points.reached[-1]}"
            try:
                status = (await one.get("web", None)).status
            except NotFound:
                assert not host.sandboxes, context
            else:
                assert status.podd is not None
                wanted = status.podd.wanted
                assert status.phase == ("Running" if wanted == "Running" else status.phase), (context, status)
                assert bool(host.sandboxes) == (wanted == "Running"), context
                assert not any(s.frozen for s in host.sandboxes.values() if not status.podd.paused), context
                if status.podd.paused:
                    await one.resume("web", None)
                await one.delete("web", None, grace_period_s=None, wait=True)
            assert not host.sandboxes, context
        assert not host.violations, (context, host.violations)


async def test_what_ran_goes_on_running_unharmed(tmp_path: Path) -> None:
    """Killed while all is quiet, podd finds the same processes; nothing was restarted; exits meanwhile are known."""
    host = FakeHost()
    host.programs["c"] = [Program(exits_after_s=100, code=7), Program()]
    async with engine(tmp_path, host) as one:
        await apply(one)
        pids = {m.name: m.pid for m in (await one.get("web", None)).status.container_statuses}
    async with engine(tmp_path, host) as one:
        await anyio.sleep(1)
        status = (await one.get("web", None)).status
        assert {m.name: m.pid for m in status.container_statuses} == pids
        assert [m.restart_count for m in status.container_statuses] == [0, 0, 0]
    await anyio.sleep(200)  # c ends while nobody is there
    async with engine(tmp_path, host) as one:
        await anyio.sleep(1)
        c = (await one.get("web", None)).status.container_statuses[2]
        assert c.restart_count == 1
        assert c.last_state.terminated is not None
        assert c.last_state.terminated.exit_code == 7


async def test_a_reboot_brings_the_pods_back(tmp_path: Path) -> None:
    host = FakeHost()
    async with engine(tmp_path, host) as one:
        await apply(one)
    host.sandboxes.clear()
    async with engine(tmp_path, host) as one:
        await anyio.sleep(30)
        status = (await one.get("web", None)).status
        assert status.phase == "Running"
        assert len(host.sandboxes) == 1


async def test_a_pod_that_was_stopped_stays_stopped(tmp_path: Path) -> None:
    host = FakeHost()
    async with engine(tmp_path, host) as one:
        await apply(one)
        await one.stop("web", None, grace_period_s=0, wait=True)
    async with engine(tmp_path, host) as one:
        await anyio.sleep(3600)
        assert (await one.get("web", None)).status.reason == "Stopped"
        assert not host.sandboxes


async def test_orphans_are_removed(tmp_path: Path) -> None:
    host = FakeHost()
    async with engine(tmp_path / "one", host) as one:
        await apply(one)
    async with engine(tmp_path / "two", host) as one:
        assert not host.sandboxes
        assert await one.list_pods(None, "") == []


async def test_a_store_that_fails_refuses_requests_and_loses_nothing(tmp_path: Path) -> None:
    failing = False

    def fail(point: str) -> None:
        if failing and point == "store.save.before":
            raise Unavailable("store: disk full", remedy="free some")

    host = FakeHost()
    host.programs["a"] = [Program(exits_after_s=100, code=1), Program()]
    async with engine(tmp_path, host, failpoint=fail) as one:
        await apply(one)
        failing = True
        with pytest.raises(PoddError, match="disk full"):
            await one.stop("web", None, grace_period_s=0, wait=True)
        await anyio.sleep(200)  # a's end cannot be written, so nothing is done about it
        assert sum(c.running for s in host.sandboxes.values() for c in s.containers.values()) == 2
        failing = False
        await anyio.sleep(30)
        assert sum(c.running for s in host.sandboxes.values() for c in s.containers.values()) == 3
