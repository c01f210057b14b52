"""The store: what was saved is there, whatever happens to podd or to the file."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podd.engine import database, salvage
from podd.engine.store import EVENTS_MAX, EVENTS_MAX_AGE_NS, Store
from podd.errors import Conflict, Unavailable, Unsupported

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "podd.db")


class Now:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = 1_785_585_600_000_000_000

    def __call__(self) -> int:
        return self.ns


def contents(path: str) -> list[bytes]:
    with closing(Store.open(path)) as store:
        return store.load(bytes)[0]


def record(n: int, size: int = 1000) -> bytes:
    return json.dumps({"n": n, "filler": random.Random(n).randbytes(size // 2).hex()}).encode()


def fill(path: str, pods: int) -> dict[str, bytes]:
    """A store of so many pods that was closed properly."""
    saved = {f"uid-{n}": record(n, 200 + n * 37 % 6000) for n in range(pods)}
    with closing(Store.open(path)) as store:
        for uid, data in saved.items():
            store.save(uid, "default", f"pod-{uid}", data)
        store.add_event("default", "pod-uid-1", "uid-1", "Normal", "Started", "started")
    return saved


def test_made_for_root_alone(path: str) -> None:
    with closing(Store.open(path)) as store:
        store.save("u", "default", "web", b"{}")
        directory = os.path.dirname(path)
        assert os.stat(directory).st_mode & 0o777 == 0o700
        modes = {name: os.stat(f"{directory}/{name}").st_mode & 0o777 for name in os.listdir(directory)}
        assert set(modes) == {"podd.db", "podd.db-wal", "podd.db-shm", "podd.db.lock"}
        assert set(modes.values()) == {0o600}


def test_the_event_loop_never_syncs(path: str) -> None:
    with closing(Store.open(path)) as store:
        ask = {name: store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
        assert ask == {"journal_mode": "wal", "synchronous": 1}
        assert store._db.execute("PRAGMA wal_autocheckpoint").fetchone()[0] == 0


class TestPods:
    def test_saved_again_replaced_deleted(self, path: str) -> None:
        with closing(Store.open(path)) as store:
            store.save("a", "default", "web", b"1")
            store.save("b", "default", "db", b"2")
            store.save("a", "default", "web", b"3")
            assert store.load(bytes) == ([b"3", b"2"], [])
            store.delete("a")
            store.delete("a")
            assert store.load(bytes) == ([b"2"], [])
            store.save("c", "default", "web", b"4")
        assert contents(path) == [b"2", b"4"]

    def test_a_name_is_had_once_in_its_namespace(self, path: str) -> None:
        with closing(Store.open(path)) as store:
            store.save("a", "default", "web", b"1")
            store.save("b", "other", "web", b"2")
            with pytest.raises(Conflict, match="another pod has this name"):
                store.save("c", "default", "web", b"3")
            assert store.load(bytes)[0] == [b"1", b"2"]

    def test_what_cannot_be_decoded_is_set_aside_and_the_rest_served(self, path: str) -> None:
        now = Now()
        with closing(Store.open(path, now_ns=now)) as store:
            store.save("a", "default", "good", b'{"n": 1}')
            store.save("b", "default", "bad", b"{")
            good, bad = store.load(json.loads)
            assert good == [{"n": 1}]
            assert [(q.uid, q.namespace, q.name, q.record, q.at_ns) for q in bad] == [
                ("b", "default", "bad", b"{", now.ns)
            ]
            assert bad[0].reason.startswith("JSONDecodeError: ")
            assert store.load(json.loads) == ([{"n": 1}], [])
            store.save("c", "default", "bad", b"{}")
        with closing(Store.open(path)) as store:
            assert store.quarantined() == bad

    def test_a_record_whose_checksum_does_not_fit_is_set_aside(self, path: str) -> None:
        with closing(Store.open(path)) as store:
            store.save("a", "default", "web", b'{"port": 80}')
            store._db.execute("UPDATE pods SET record = ?", (b'{"port": 81}',))
            good, (bad,) = store.load(json.loads)
            assert good == []
            assert "checksum" in bad.reason

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["save", "delete", "reopen", "checkpoint"]),
                st.sampled_from("abc"),
                st.binary(max_size=99),
            )
        )
    )
    def test_it_holds_what_a_dict_would(
        self, tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, str, bytes]]
    ) -> None:
        path = str(tmp_path_factory.mktemp("store") / "podd.db")
        model: dict[str, bytes] = {}
        store = Store.open(path)
        try:
            for verb, uid, data in script:
                match verb:
                    case "save":
                        store.save(uid, "é\0", f"{uid}é'", data)
                        model[uid] = data
                    case "delete":
                        store.delete(uid)
                        model.pop(uid, None)
                    case "checkpoint":
                        store.checkpoint()
                    case "reopen":
                        store.close()
                        store = Store.open(path)
                assert sorted(store.load(bytes)[0]) == sorted(model.values())
        finally:
            store.close()


class TestEvents:
    def add(self, store: Store, uid: str = "u", reason: str = "Started", message: str = "started web") -> int:
        return store.add_event("default", f"pod-{uid}", uid, "Normal", reason, message, "web").seq

    def test_the_same_again_counts_and_comes_last(self, path: str) -> None:
        now = Now()
        with closing(Store.open(path, now_ns=now)) as store:
            first = self.add(store)
            other = self.add(store, reason="Pulled")
            now.ns += 5
            again = self.add(store)
            assert first < other < again
            events = store.events()
            assert [(e.seq, e.reason, e.count, e.at_ns - e.first_ns) for e in events] == [
                (other, "Pulled", 1, 0),
                (again, "Started", 2, 5),
            ]

    def test_filters(self, path: str) -> None:
        with closing(Store.open(path)) as store:
            seqs = [self.add(store, uid) for uid in "ab"]
            store.add_event("other", "pod-a", "c", "Warning", "Failed", "why", "")
            assert [e.uid for e in store.events(namespace="default")] == ["a", "b"]
            assert [e.uid for e in store.events(pod="pod-a")] == ["a", "c"]
            assert [e.uid for e in store.events(pod="pod-a", namespace="other")] == ["c"]
            assert [e.uid for e in store.events(uid="b")] == ["b"]
            assert [e.uid for e in store.events(after_seq=seqs[0])] == ["b", "c"]

    def test_they_are_forgotten_after_a_day(self, path: str) -> None:
        now = Now()
        with closing(Store.open(path, now_ns=now)) as store:
            for n in range(20):
                self.add(store, message=str(n))
            now.ns += EVENTS_MAX_AGE_NS + 1
            assert store.events() == []
            for n in range(3):
                self.add(store, message=str(n))
            assert [(e.message, e.count) for e in store.events()] == [("0", 1), ("1", 1), ("2", 1)]
            assert store._db.execute("SELECT count(*) FROM events").fetchone()[0] == 3

    def test_there_are_never_too_many(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert EVENTS_MAX >= 1000
        monkeypatch.setattr("podd.engine.store.EVENTS_MAX", 10)
        with closing(Store.open(path)) as store:
            for n in range(25):
                self.add(store, message=str(n))
            assert [e.message for e in store.events()] == [str(n) for n in range(15, 25)]

    def test_numbers_are_not_used_again(self, path: str) -> None:
        with closing(Store.open(path)) as store:
            last = self.add(store)
            store._db.execute("DELETE FROM events")
        with closing(Store.open(path)) as store:
            assert self.add(store) > last


class TestOneDaemon:
    def test_a_second_one_is_refused(self, path: str) -> None:
        with closing(Store.open(path)), pytest.raises(Conflict, match=f"in use by another podd, pid {os.getpid()}"):
            Store.open(path)
        Store.open(path).close()

    def test_the_lock_of_a_killed_one_is_free(self, path: str) -> None:
        child = run_child(path, "store = Store.open(path); print('open', flush=True); time.sleep(100)")
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        with pytest.raises(Conflict, match=f"pid {child.pid}"):
            Store.open(path)
        child.kill()
        child.communicate()
        Store.open(path).close()


class TestSchema:
    def test_a_newer_one_is_refused_and_left_alone(self, path: str) -> None:
        saved = fill(path, 3)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("UPDATE meta SET value = value + 1 WHERE key = 'schema'")
        for _ in range(2):
            with pytest.raises(Unsupported, match="run the newer podd") as caught:
                Store.open(path)
        assert caught.value.facts["schema"] == database.SCHEMA + 1
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("UPDATE meta SET value = value - 1 WHERE key = 'schema'")
        assert contents(path) == list(saved.values())

    def test_an_older_one_is_brought_up_to_date_once(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        saved = fill(path, 3)
        monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, ("ALTER TABLE pods ADD COLUMN x",)))
        monkeypatch.setattr(database, "SCHEMA", database.SCHEMA + 1)
        for _ in range(2):
            assert contents(path) == list(saved.values())

    def test_a_migration_that_fails_changes_nothing(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        saved = fill(path, 3)
        steps = ("ALTER TABLE pods ADD COLUMN x", "INSERT INTO meta VALUES ('schema', 7)")  # the key is taken
        with monkeypatch.context() as patch:
            patch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, steps))
            patch.setattr(database, "SCHEMA", database.SCHEMA + 1)
            with pytest.raises(Conflict):
                Store.open(path)
        with closing(Store.open(path)) as store:
            assert store.damage is None
            assert store.load(bytes)[0] == list(saved.values())
            assert "x" not in [row[1] for row in store._db.execute("PRAGMA table_info(pods)")]


# ---- podd is killed --------------------------------------------------------------------------------------------------


def run_child(path: str, code: str) -> subprocess.Popen[str]:
    """Python with the store's path as `path`."""
    program = f"import os, signal, sys, time\nfrom podd.engine.store import Store\npath = sys.argv[1]\n{code}"
    return subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("acknowledged", [1, 2, 57, 200, 411])
def test_killed_in_the_middle_of_saves(path: str, acknowledged: int) -> None:
    """What was acknowledged is there; of what was not, nothing or all."""
    code = """
import threading
store = Store.open(path)
def checkpoint():
    while True:
        store.checkpoint()
threading.Thread(target=checkpoint, daemon=True).start()
n = 0
while True:
    store.save(f"uid-{n % 10}", "default", f"pod-{n % 10}", b"%d " % n + b"x" * (n * 997 % 20000))
    print(n, flush=True)
    n += 1
"""
    child = run_child(path, code)
    assert child.stdout is not None
    last = -1
    for _ in range(acknowledged):
        last = int(child.stdout.readline())
    child.kill()
    rest, _ = child.communicate()
    last = int(rest.split("\n")[-2]) if rest.count("\n") else last
    with closing(Store.open(path)) as store:
        assert store.damage is None
        found = sorted(int(data.split()[0]) for data in store.load(bytes)[0])
    newest = found[-1]
    assert newest in (last, last + 1)
    assert found == list(range(max(0, newest - 9), newest + 1))


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("store.save.before", [b"old"]),
        ("store.save.after", [b"new"]),
        ("store.delete.before", [b"new"]),
        ("store.delete.after", []),
    ],
)
def test_killed_at_a_failpoint(path: str, point: str, left: list[bytes]) -> None:
    with closing(Store.open(path)) as store:
        store.save("u", "default", "web", b"old")
    code = f"""
store = Store.open(path, failpoint=lambda at: os.kill(os.getpid(), signal.SIGKILL) if at == "{point}" else None)
store.save("u", "default", "web", b"new")
store.delete("u")
"""
    child = run_child(path, code)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert contents(path) == left


def test_every_write_has_its_failpoints(path: str) -> None:
    points: list[str] = []
    with closing(Store.open(path, failpoint=points.append)) as store:
        store.save("u", "default", "web", b"{")
        store.add_event("default", "web", "u", "Normal", "Started", "started")
        store.load(json.loads)
        store.delete("u")
        store.save_objects([("Secret", "default", "s", b"{")])
    verbs = ("save", "event", "quarantine", "delete", "objects")
    assert points == [f"store.{verb}.{side}" for verb in verbs for side in ("before", "after")]


def test_checkpoints_in_a_thread_while_it_is_written(path: str) -> None:
    with closing(Store.open(path)) as store:
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                store.checkpoint()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for n in range(2000):
                store.save(f"uid-{n % 50}", "default", f"pod-{n % 50}", record(n, 2000))
        finally:
            stop.set()
            thread.join()
        store.checkpoint()
        assert os.stat(f"{path}-wal").st_size < 50 * 1024 * 1024
        assert store.load(bytes)[0] == [record(n, 2000) for n in range(1950, 2000)]


# ---- the file is damaged ---------------------------------------------------------------------------------------------


def truncate(fraction: float) -> Callable[[Path], None]:
    return lambda file: os.truncate(file, int(file.stat().st_size * fraction))


def overwrite(page: int, data: bytes) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        pages = file.stat().st_size // PAGE
        with file.open("r+b") as opened:
            opened.seek(page % pages * PAGE)
            opened.write(data)

    return damage


GARBAGE = random.Random(1).randbytes(PAGE)

DAMAGES: dict[str, tuple[Callable[[Path], None], int]] = {
    "half of it is missing": (truncate(0.5), 50),
    "all but the first page is missing": (lambda file: os.truncate(file, PAGE), 0),
    "a part of the first page is left": (lambda file: os.truncate(file, 1000), 0),
    "the header is zeroed": (overwrite(0, bytes(100)), 200),
    "the first page is garbage": (overwrite(0, GARBAGE), 200),
    "the root of the pods is garbage": (overwrite(2, GARBAGE), 0),
    "a page in the middle is garbage": (overwrite(77, GARBAGE), 150),
    "a page in the middle is zeroed": (overwrite(140, bytes(PAGE)), 150),
    "the last page is garbage": (overwrite(-1, GARBAGE), 150),
    "it is all garbage": (lambda file: file.write_bytes(GARBAGE * 20), 0),
    "it is text": (lambda file: file.write_text("hello\n" * 1000), 0),
    "its schema is gone": (overwrite(0, b"SQLite format 3\0"), 200),
}


@pytest.mark.parametrize(("damage", "at_least"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_replaced_by_what_can_be_read(
    path: str, damage: Callable[[Path], None], at_least: int
) -> None:
    saved = fill(path, 200)
    damage(Path(path))
    damaged = Path(path).read_bytes()
    with structlog.testing.capture_logs() as told, closing(Store.open(path)) as store:
        found = store.load(bytes)[0]
        assert set(found) <= set(saved.values())
        assert len(found) >= at_least
        if store.damage is None:
            assert damaged[:16] == b"SQLite format 3\0"
            assert len(found) + len(store.quarantined()) == len(saved)
            return
        assert store.damage.pods == len(found)
        assert store.damage.moved_to == f"{path}.damaged-1"
        assert Path(store.damage.moved_to).read_bytes() == damaged
        assert [entry["event"] for entry in told] == ["store.damaged"]
        assert told[0]["log_level"] == "error"
        store.save("new", "default", "new", b"{}")
    with closing(Store.open(path)) as store:
        assert store.damage is None
        assert len(store.load(bytes)[0]) == len(found) + 1
    left = {name for name in os.listdir(os.path.dirname(path)) if not name.startswith("podd.db.damaged-1")}
    assert left == {"podd.db", "podd.db.lock"}


def test_each_damaged_file_is_kept(path: str) -> None:
    for n in (1, 2, 3):
        fill(path, 3)
        overwrite(0, GARBAGE)(Path(path))
        with closing(Store.open(path)) as store:
            assert store.damage is not None
            assert store.damage.moved_to == f"{path}.damaged-{n}"
            for data in range(3):
                store.delete(f"uid-{data}")


def test_events_and_the_quarantine_are_salvaged_as_well(path: str) -> None:
    fill(path, 50)
    with closing(Store.open(path)) as store:
        store.save("bad", "default", "bad", b"{")
        store.load(json.loads)
        events, quarantined = store.events(), store.quarantined()
        assert events
        assert quarantined
    overwrite(0, bytes(100))(Path(path))
    with closing(Store.open(path)) as store:
        assert store.damage is not None
        assert store.events() == events
        assert store.quarantined() == quarantined


def objects(path: str) -> tuple[list[bytes], list[tuple[str, str, str]]]:
    with closing(Store.open(path)) as store:
        return store.load_objects(bytes)


def test_objects_are_kept_by_kind_and_name(path: str) -> None:
    with closing(Store.open(path)) as store:
        store.save_objects([("Secret", "default", "a", b"1"), ("ConfigMap", "default", "a", b"2")])
        store.save_objects([("Secret", "default", "a", b"3"), ("Secret", "other", "a", b"4")])
        store.delete_object("ConfigMap", "default", "a")
        store.delete_object("ConfigMap", "default", "a")
    assert objects(path) == ([b"3", b"4"], [])


def test_a_deleted_secret_is_not_left_in_the_file(path: str) -> None:
    with closing(Store.open(path)) as store:
        store.save_objects([("Secret", "default", "a", b"hunter2" * 1000)])
    assert b"hunter2" in Path(path).read_bytes()
    with closing(Store.open(path)) as store:
        store.delete_object("Secret", "default", "a")
    assert b"hunter2" not in Path(path).read_bytes()


def test_what_a_changed_secret_held_is_not_left_in_the_file(path: str) -> None:
    with closing(Store.open(path)) as store:
        store.save_objects([("Secret", "default", "a", b"hunter2" * 1000)])
    with closing(Store.open(path)) as store:
        store.delete_object("Secret", "default", "other")  # whatever SQLite was built to do by itself
        store.save_objects([("Secret", "default", "a", b"x")])
    assert b"hunter2" not in Path(path).read_bytes()


def test_an_object_that_cannot_be_read_costs_no_other_and_gives_way(path: str) -> None:
    with closing(Store.open(path)) as store:
        store.save_objects([("Secret", "default", "a", b"1"), ("Secret", "default", "b", b"2")])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE objects SET record = x'32' WHERE name = 'a'")
    assert objects(path) == ([b"2"], [("Secret", "default", "a")])
    with closing(Store.open(path)) as store:
        store.save_objects([("Secret", "default", "a", b"4")])
    assert objects(path) == ([b"4", b"2"], [])


def test_objects_are_salvaged_as_well(path: str) -> None:
    fill(path, 50)
    with closing(Store.open(path)) as store:
        store.save_objects([("Secret", "default", f"s{n}", record(n)) for n in range(20)])
    overwrite(0, bytes(100))(Path(path))
    with closing(Store.open(path)) as store:
        assert store.damage is not None
    assert objects(path) == ([record(n) for n in range(20)], [])


def test_a_store_of_the_first_schema_is_brought_up_to_date(path: str) -> None:
    """Also where its first page is lost later on: then its objects may be, and no pod becomes one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", database.MIGRATIONS[:1])
        patch.setattr(database, "SCHEMA", 1)
        patch.setattr(salvage, "TABLES", salvage.TABLES[:4])
        saved = fill(path, 50)
    with closing(Store.open(path)) as store:
        assert len(store.load(bytes)[0]) == 50
        store.save_objects([("Secret", "default", "a", b"1")])
    assert objects(path) == ([b"1"], [])
    overwrite(0, GARBAGE)(Path(path))
    with closing(Store.open(path)) as store:
        assert store.damage is not None
        assert set(store.load(bytes)[0]) <= set(saved.values())
        assert set(store.load_objects(bytes)[0]) <= {b"1"}


def test_what_was_not_checkpointed_is_salvaged_as_well(path: str) -> None:
    """podd was killed, and the database is damaged; the log is not."""
    fill(path, 50)
    code = "store = Store.open(path); store.save('uid-3', 'default', 'pod-uid-3', b'newest'); os._exit(0)"
    run_child(path, code).communicate()
    assert os.path.exists(f"{path}-wal")
    overwrite(0, GARBAGE)(Path(path))
    found = contents(path)
    assert len(found) == 50
    assert b"newest" in found


def test_a_damaged_log_costs_only_the_last_writes(path: str) -> None:
    saved = fill(path, 50)
    code = "store = Store.open(path); store.save('uid-3', 'default', 'pod-uid-3', b'newest'); os._exit(0)"
    run_child(path, code).communicate()
    overwrite(0, GARBAGE)(Path(f"{path}-wal"))
    assert contents(path) == list(saved.values())


@pytest.mark.parametrize("stage", ["before", "between", "after"])
def test_killed_while_replacing(path: str, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = fill(path, 50)
    overwrite(0, bytes(100))(Path(path))
    rename, renames = os.rename, 0

    class Killed(BaseException):
        pass

    def stop(old: str, new: str) -> None:
        nonlocal renames
        renames += 1
        if (stage, renames) in (("before", 1), ("between", 2)):
            raise Killed
        rename(old, new)
        if (stage, renames) == ("after", 2):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", stop)
        with pytest.raises(Killed):
            Store.open(path)
    assert contents(path) == list(saved.values())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=12))
def test_flipped_bits_never_change_a_record(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[float, int]]
) -> None:
    """Whatever is flipped: it opens, and what it gives is what was saved; most of it is given."""
    path = str(tmp_path_factory.mktemp("store") / "podd.db")
    saved = fill(path, 100)
    data = bytearray(Path(path).read_bytes())
    for where, bit in flips:
        data[int(where * len(data))] ^= 1 << bit
    Path(path).write_bytes(data)
    try:
        with closing(Store.open(path)) as store:
            assert set(store.load(bytes)[0]) <= set(saved.values())
            store.save("new", "default", "new", b"{}")
    except Unsupported:
        assert any(where * len(data) < PAGE * 2 for where, _ in flips)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_any_page_may_be_lost(tmp_path_factory: pytest.TempPathFactory, page: int, seed: int) -> None:
    path = str(tmp_path_factory.mktemp("store") / "podd.db")
    saved = fill(path, 100)
    overwrite(page, random.Random(seed).randbytes(PAGE))(Path(path))
    with closing(Store.open(path)) as store:
        assert set(store.load(bytes)[0]) <= set(saved.values())


# ---- the disk fails --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
def test_a_full_disk_is_said_and_costs_nothing_that_was_saved(small_disk: Path) -> None:
    path = str(small_disk / "podd.db")
    saved: list[bytes] = []
    with closing(Store.open(path)) as store:

        def save_all() -> None:
            for n in range(1000):
                store.save(f"uid-{n}", "default", f"pod-{n}", record(n, 4000))
                saved.append(record(n, 4000))

        with pytest.raises(Unavailable, match="free space on the file system"):
            save_all()
        assert 10 < len(saved) < 200
        assert store.load(bytes) == (saved, [])
        with pytest.raises(Unavailable):
            store.add_event("default", "web", "u", "Normal", "Started", "x" * 200_000)
        assert store.events() == []
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    with closing(Store.open(path)) as store:
        assert store.damage is None
        store.save("after", "default", "after", b"{}")
        assert store.load(bytes) == ([*saved, b"{}"], [])


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"set daemon\.state_dir") as caught:
        Store.open(str(tmp_path / "file" / "state" / "podd.db"))
    assert "not a directory" in str(caught.value)


def test_a_directory_in_its_place_is_said(path: str) -> None:
    os.makedirs(path)
    with pytest.raises(Unavailable, match="is a directory"):
        Store.open(path)
