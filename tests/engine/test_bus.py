"""Watchers: nobody waits for them, and none of them costs unbounded memory."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.engine.bus import Bus, Watch
from podd.errors import Unavailable

pytestmark = pytest.mark.anyio


async def drain(watch: Watch[int]) -> list[int]:
    return [item async for item in watch]


async def test_each_watcher_gets_all_from_its_subscription_on() -> None:
    bus: Bus[int] = Bus()
    bus.publish(0)
    with bus.subscribe() as early:
        bus.publish(1)
        with bus.subscribe() as late:
            bus.publish(2)
            bus.close()
            assert await drain(early) == [1, 2]
            assert await drain(late) == [2]


async def test_a_watcher_waits_for_what_comes() -> None:
    bus: Bus[int] = Bus()
    got: list[int] = []
    moments: list[float] = []

    async def watch() -> None:
        async for item in waiting:
            moments.append(anyio.current_time())
            got.append(item)

    with bus.subscribe() as waiting:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await anyio.sleep(0.1)
            bus.publish(1)
            await anyio.sleep(0.1)
            bus.publish(2)
            bus.close()
    assert got == [1, 2]
    assert moments[0] < moments[1]


async def test_who_is_too_slow_gets_what_was_queued_then_is_told_and_dropped() -> None:
    bus: Bus[int] = Bus()
    with bus.subscribe(limit=3) as slow, bus.subscribe(limit=10) as quick:
        for item in range(5):
            bus.publish(item)
        assert bus.watchers == 1
        assert [await anext(slow) for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(Unavailable, match="list again and watch from there"):
                await anext(slow)
        bus.close()
        assert await drain(quick) == [0, 1, 2, 3, 4]


async def test_what_is_not_wanted_takes_no_place() -> None:
    bus: Bus[int] = Bus()
    with bus.subscribe(lambda item: item % 100 == 0, limit=2) as watch:
        for item in range(150):
            bus.publish(item)
        bus.close()
        assert await drain(watch) == [0, 100]


async def test_leaving_forgets_the_watcher() -> None:
    bus: Bus[int] = Bus()
    with bus.subscribe() as watch:
        assert bus.watchers == 1
    assert bus.watchers == 0
    bus.publish(1)
    assert await drain(watch) == []
    watch.close()


async def test_a_cancelled_watcher_leaves_nothing() -> None:
    bus: Bus[int] = Bus()
    with anyio.move_on_after(0.05) as scope, bus.subscribe() as watch:
        await drain(watch)
    assert scope.cancelled_caught
    assert bus.watchers == 0


async def test_closing_ends_those_who_wait_and_those_who_come() -> None:
    bus: Bus[int] = Bus()
    ended: list[str] = []

    async def wait(watch: Watch[int]) -> None:
        ended.extend(map(str, await drain(watch)))
        ended.append("end")

    with bus.subscribe() as watch:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, watch)
            await anyio.wait_all_tasks_blocked()
            assert ended == []
            bus.close()
    with bus.subscribe() as late:
        bus.publish(1)
        assert await drain(late) == []
    assert ended == ["end"]


@given(st.lists(st.one_of(st.just("publish"), st.integers(0, 3)), max_size=40), st.integers(1, 4))
def test_a_watcher_sees_a_prefix_without_gaps(script: list[str | int], limit: int) -> None:
    """Whatever the pace: what is seen is what was published, in order, until the end or until it was dropped."""

    async def play() -> None:
        bus: Bus[int] = Bus()
        published = 0
        seen: list[int] = []
        overflown = False
        with bus.subscribe(limit=limit) as watch:
            for step in script:
                if step == "publish":
                    bus.publish(published)
                    published += 1
                    continue
                for _ in range(int(step)):
                    if len(seen) < published and not overflown:
                        try:
                            seen.append(await anext(watch))
                        except Unavailable:
                            overflown = True
            bus.close()
            try:
                seen += await drain(watch)
            except Unavailable:
                overflown = True
        assert seen == list(range(len(seen)))
        assert overflown or len(seen) == published

    anyio.run(play, backend="trio")
