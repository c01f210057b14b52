"""podd is killed at every point of a replacement: the pod that was there or the one that was asked for runs, never none
that had not been ordered away, never both, and nothing else is left."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import accumulate, count
from pathlib import Path

import anyio
import pytest
from harness import POD, Crash, apply, engine

from podd.engine.engine import Engine
from podd.errors import Invalid, NotFound
from podd.testing.fake import FakeHost, Fault, Program

pytestmark = pytest.mark.anyio

CHANGED = POD.replace("/bin/a]", "/bin/a, --more]")
SETTLED_S = 100


def most_at_once(host: FakeHost) -> int:
    """Programs that ran at one time."""
    steps = {"released": 1, "exited": -1}
    changes = [steps[e.name] for e in host.journal if e.what == "effect" and e.name in steps]
    return max(accumulate(changes))


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


class Points:
    """Counts the points that were reached since `begin`, and ends podd at one of them."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.reached: list[str] = []
        self._crash_at = crash_at
        self._counts = False

    def begin(self) -> None:
        self._counts = True

    def __call__(self, point: str) -> None:
        if not self._counts:
            return
        self.reached.append(point)
        if len(self.reached) == self._crash_at:
            raise Crash(point)


def make_host(*, fails: bool) -> FakeHost:
    host = FakeHost()
    host.programs["b"] = Program(term_takes_s=3)
    if fails:
        host.faults.append(Fault(verb="create_container", of="c", call=2, error=Invalid("/bin/c: no such file")))
    return host


async def replace_until_crash(place: Path, host: FakeHost, points: Points) -> bool:
    """True: the crash came."""
    try:
        async with engine(place, host, failpoint=points) as one:
            await apply(one)
            points.begin()
            await apply(one, CHANGED)
    except BaseExceptionGroup as group:
        if group.subgroup(Crash) is None:
            raise
        return True
    except Crash:
        return True
    return False


async def command(one: Engine) -> tuple[str, ...]:
    (view,) = await one.list_pods(None, "")
    assert view.status.phase == "Running"
    return tuple(view.pod.spec.containers[0].command)


@pytest.mark.parametrize("fails", [False, True], ids=["it can start", "it cannot start at first"])
async def test_a_crash_at_every_point_is_made_good(tmp_path: Path, fails: bool) -> None:
    """Until one goes through without coming to so late a point: their number depends on who comes first."""
    ends = set()
    for n in count(1):
        place = tmp_path / str(n)
        host, points = make_host(fails=fails), Points(crash_at=n)
        if not await replace_until_crash(place, host, points):
            assert n > 20
            break
        context = f"crash {n}, at {points.reached[-1]}"
        running = {c.running for box in host.sandboxes.values() for c in box.containers.values()}
        async with engine(place, host) as one:
            await anyio.sleep(SETTLED_S)
            ends.add(await command(one))
            assert len(host.sandboxes) == 1, context
            assert sum(c.running for box in host.sandboxes.values() for c in box.containers.values()) == 3, context
            if (await apply(one, CHANGED)).action == "kept":  # what was wrong at first was wrong just now
                await apply(one, CHANGED)
            assert await command(one) == ("/bin/a", "--more"), context
            await one.delete("web", None, grace_period_s=0, wait=True)
            assert not host.sandboxes, context
        assert running, context
        assert most_at_once(host) == 3, context
        assert not host.violations, (context, host.violations)
    assert ends >= ({("/bin/a",)} if fails else {("/bin/a",), ("/bin/a", "--more")})


async def test_a_predecessor_that_went_while_podd_was_away(tmp_path: Path) -> None:
    """Between the end of the old one's record and the moment at which the new one hears of it."""
    host = make_host(fails=False)
    async with engine(tmp_path, host) as one:
        await apply(one)
    crashed = False

    def crash(point: str) -> None:
        nonlocal crashed
        if point == "store.delete.after":
            crashed = True
            raise Crash(point)

    async def run() -> None:
        async with engine(tmp_path, host, failpoint=crash) as one:
            await anyio.sleep(1)
            await apply(one, CHANGED)

    with pytest.raises(BaseExceptionGroup):
        await run()
    assert crashed
    async with engine(tmp_path, host) as one:
        await anyio.sleep(SETTLED_S)
        assert await command(one) == ("/bin/a", "--more")
        assert len(host.sandboxes) == 1


async def test_both_lose_their_sandboxes_while_podd_is_away(tmp_path: Path) -> None:
    """As by a reboot in the middle of a replacement: the old one may not be given up for a record of the new one."""
    host = make_host(fails=False)
    host.programs["a"] = Program(ignores_term=True)
    async with engine(tmp_path, host) as one:
        await apply(one)
        await apply(one, CHANGED, wait=False)
        await anyio.sleep(1)
    host.sandboxes.clear()
    async with engine(tmp_path, host) as one:
        await anyio.sleep(SETTLED_S)
        assert await command(one) == ("/bin/a", "--more")
        assert len(host.sandboxes) == 1


async def test_what_runs_of_a_damaged_record_is_not_joined_by_another(tmp_path: Path) -> None:
    host = make_host(fails=False)
    host.programs["a"] = Program(ignores_term=True)
    async with engine(tmp_path, host) as one:
        old = await apply(one)
        await apply(one, CHANGED, wait=False)
        await anyio.sleep(1)
    with closing(sqlite3.connect(tmp_path / "podd.db")) as db, db:
        db.execute("UPDATE pods SET record = 'nonsense' WHERE uid = ?", (old.uid,))
    async with engine(tmp_path, host) as one:
        await anyio.sleep(SETTLED_S)
        (view,) = await one.list_pods(None, "")
        assert (view.pod.metadata.uid, view.status.reason) == (old.uid, "RecordDamaged")
        assert [box.config.pod_uid for box in host.sandboxes.values()] == [old.uid]
        await one.delete("web", None, grace_period_s=0, wait=True)
        assert not host.sandboxes
        assert (await apply(one, CHANGED)).action == "created"


async def test_a_deletion_of_both_survives_a_crash(tmp_path: Path) -> None:
    host = make_host(fails=False)
    async with engine(tmp_path, host) as one:
        await apply(one)
        await apply(one, CHANGED, wait=False)
        await one.delete("web", None, grace_period_s=None, wait=False)
    async with engine(tmp_path, host) as one:
        await anyio.sleep(SETTLED_S)
        with pytest.raises(NotFound):
            await one.get("web", None)
        assert not host.sandboxes
