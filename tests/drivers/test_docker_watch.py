"""How the docker driver hears of ends, and how it bears with a dockerd that is away. Without a dockerd."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from structlog.testing import capture_logs
from trio.testing import MockClock

from podd.errors import Unavailable
from podd_docker import following
from podd_docker.found import Found
from podd_docker.plans import ID, LOG
from podd_docker.watch import FIRST_LOOK_S, LONGEST_PAUSE_S, Pauses, Watch

pytestmark = pytest.mark.anyio

HOUR_S = 3600


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class FakeDockerd:
    """is_away: it refuses all. `tell` sends an event; `leave` ends the stream of events."""

    def __init__(self) -> None:
        self.is_away = False
        self.asked = 0
        self._send, self._events = anyio.create_memory_object_stream[Any](9)

    async def events(self, _filters: object) -> AsyncIterator[dict[str, Any] | None]:
        self._check()
        yield None
        async for event in self._events:
            if event is None:
                return
            yield event

    async def copy(self, *_: object, begun: Callable[[], None], **__: object) -> None:
        """Of a container that says nothing, and whose log dockerd ends at once."""
        self._check()
        begun()

    async def find(self, of: str) -> Found:
        self._check()
        return running(of)

    def tell(self, of: str) -> None:
        self._send.send_nowait({"Actor": {"Attributes": {ID: of}}})

    def leave(self) -> None:
        self._send.send_nowait(None)

    def forget_version(self) -> None:
        pass

    def close(self) -> None:
        self._send.close()
        self._events.close()

    def _check(self) -> None:
        self.asked += 1
        if self.is_away:
            raise Unavailable("away")


def running(of: str) -> Found:
    log = json.dumps({"path": "/var/log/0.log", "max_bytes": 1 << 20, "max_files": 2})
    state = {"Running": True, "Pid": 1, "StartedAt": "2026-11-23T10:00:00Z"}
    return Found({"Id": of, "State": state, "Config": {"Labels": {ID: of, LOG: log}}})


Story = Callable[[FakeDockerd, Watch, TaskGroup], Awaitable[None]]


async def tell(story: Story) -> None:
    dockerd = FakeDockerd()
    watch = Watch(dockerd, "/run/podd")  # type: ignore[arg-type]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        await anyio.sleep(1)
        await story(dockerd, watch, tasks)
        tasks.cancel_scope.cancel()
    dockerd.close()


class Looks:
    """What is found of one that has ended: what was noted for each look, and that it has after that."""

    def __init__(self, *found: str | Exception | None) -> None:
        self._found = list(found)
        self.times: list[float] = []

    async def __call__(self) -> str | None:
        self.times.append(anyio.current_time())
        found = self._found.pop(0) if self._found else "ended"
        if isinstance(found, Exception):
            raise found
        return found


async def test_who_waits_looks_at_once_and_when_an_end_is_heard_of() -> None:
    async def story(dockerd: FakeDockerd, watch: Watch, tasks: TaskGroup) -> None:
        began, looks = anyio.current_time(), Looks(None)
        tasks.start_soon(_later, lambda: dockerd.tell("a"))
        with anyio.fail_after(HOUR_S + 1):
            assert await watch.until("a", looks) == "ended"
        assert looks.times == [began, began + HOUR_S]

    await tell(story)


async def test_who_waits_for_what_was_expected_does_not_look_before_something_is_heard() -> None:
    async def story(dockerd: FakeDockerd, watch: Watch, tasks: TaskGroup) -> None:
        watch.expect("a")
        dockerd.tell("b")
        began, looks = anyio.current_time(), Looks()
        tasks.start_soon(_later, lambda: dockerd.tell("a"))
        await watch.until("a", looks)
        assert looks.times == [began + HOUR_S]

    await tell(story)


async def test_an_end_before_anybody_waits_is_seen_at_once() -> None:
    async def story(dockerd: FakeDockerd, watch: Watch, _: TaskGroup) -> None:
        watch.expect("a")
        dockerd.tell("a")
        await anyio.sleep(1)
        with anyio.fail_after(1):
            await watch.until("a", Looks())

    await tell(story)


async def test_what_was_expected_while_dockerd_was_away_is_looked_at_when_it_is_back() -> None:
    async def story(dockerd: FakeDockerd, watch: Watch, tasks: TaskGroup) -> None:
        dockerd.is_away = True
        dockerd.leave()
        await anyio.sleep(1)
        watch.expect("a")
        began, looks = anyio.current_time(), Looks()
        tasks.start_soon(_later, lambda: setattr(dockerd, "is_away", False))
        await watch.until("a", looks)
        (when,) = looks.times
        assert HOUR_S <= when - began <= HOUR_S + LONGEST_PAUSE_S

    await tell(story)


async def test_who_has_had_no_answer_looks_again_though_nothing_is_heard() -> None:
    async def story(_: FakeDockerd, watch: Watch, __: TaskGroup) -> None:
        began, looks = anyio.current_time(), Looks(Unavailable("busy"), Unavailable("busy"))
        await watch.until("a", looks)
        assert looks.times == [began, began + FIRST_LOOK_S, began + 3 * FIRST_LOOK_S]

    await tell(story)


async def _later(act: Callable[[], object]) -> None:
    await anyio.sleep(HOUR_S)
    act()


async def test_a_log_that_does_not_get_on_is_told_of_once_and_asked_for_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(dockerd: FakeDockerd, watch: Watch, tasks: TaskGroup) -> None:
        monkeypatch.setattr(following, "copy", dockerd.copy)
        logs = following.Following(dockerd, watch, tasks, dockerd.find)  # type: ignore[arg-type]
        with capture_logs() as logged:
            dockerd.is_away = True
            dockerd.asked = 0
            logs.follow(running("a"))
            await anyio.sleep(HOUR_S)
            assert dockerd.asked < HOUR_S / following.LONGEST_PAUSE_S + 9
            assert len([one for one in logged if one["event"] == "log.interrupted"]) == 1
            dockerd.is_away = False
            await anyio.sleep(following.LONGEST_PAUSE_S)
            dockerd.is_away = True
            await anyio.sleep(HOUR_S)
            assert len([one for one in logged if one["event"] == "log.interrupted"]) == 2

    await tell(story)


def test_pauses_double_until_an_attempt_succeeds() -> None:
    pauses = Pauses(1, 5)
    assert [pauses.next_s() for _ in range(5)] == [1, 2, 4, 5, 5]
    pauses.reset()
    assert pauses.next_s() == 1
