"""What podd must not forget, in one SQLite file: the records of pods, of ConfigMaps and Secrets, the events, and what
could not be read.

A save happens between a decision and its effect, so it is synchronous, tiny, and must not make the event loop wait for
a disk. Hence write-ahead logging with synchronous=NORMAL: a commit is one write to the log, without fsync. A killed
podd loses nothing, because the kernel has the bytes. A power failure may lose the last seconds, never the file's
consistency; it also ends every process the lost records spoke of.

The waiting is in `checkpoint`, which the daemon calls in a worker thread every few seconds: on a connection of its own
it syncs the log, copies it into the database, and syncs that. Automatic checkpoints, which would do the same within
some unlucky save, are off. The first write after a checkpoint starts the log afresh and syncs its new header;
`checkpoint` makes that write itself. A save waits only if it comes at just that moment.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

from podd.engine.database import (
    Damage,
    Quarantined,
    StoredEvent,
    checksum,
    connect,
    quarantine,
    raise_as_podd,
    transaction,
)
from podd.engine.salvage import replace_if_damaged
from podd.errors import Conflict, Unavailable

T = TypeVar("T")

EVENTS_MAX = 10_000
EVENTS_MAX_AGE_NS = 24 * 3600 * 1_000_000_000

_SAVE = (
    "INSERT INTO pods (uid, namespace, name, record, updated_ns, crc) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (uid) DO UPDATE SET namespace = excluded.namespace, name = excluded.name, "
    "record = excluded.record, updated_ns = excluded.updated_ns, crc = excluded.crc"
)

_SAVE_OBJECT = (
    "INSERT INTO objects (kind, namespace, name, record, updated_ns, crc) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (kind, namespace, name) DO UPDATE SET record = excluded.record, updated_ns = excluded.updated_ns, "
    "crc = excluded.crc"
)


class Store:
    """All methods but `checkpoint` belong to the thread that opened it. Raises Unavailable where the disk fails it."""

    def __init__(
        self,
        path: str,
        lock: int,
        *,
        damage: Damage | None,
        now_ns: Callable[[], int],
        failpoint: Callable[[str], None],
    ) -> None:
        """Use `open`."""
        self.path = path
        self.damage = damage
        self._lock = lock
        self._now_ns = now_ns
        self._failpoint = failpoint
        with self._translated("open"):
            self._db = connect(path)
            try:
                self._checkpointer = connect(path, check_same_thread=False)
            except BaseException:
                self._db.close()
                raise

    @classmethod
    def open(
        cls,
        path: str,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        failpoint: Callable[[str], None] = lambda _point: None,
    ) -> Store:
        """Open it, and make it (0600) and its directory (0700) where they are missing. Blocks: call it at start-up.

        A damaged file is moved aside and what can be read of it is copied over; `damage` tells.
        failpoint: called with "store.save.before", "store.save.after" and the like around each write, so that a test
        can end podd there.
        Raises Conflict: another podd has it open; Unsupported: a newer podd wrote it; Unavailable: no access or space.
        """
        lock = _lock(path)
        try:
            damage = replace_if_damaged(path)
            store = cls(path, lock, damage=damage, now_ns=now_ns, failpoint=failpoint)
        except BaseException:
            os.close(lock)
            raise
        try:
            store.checkpoint()
        except BaseException:
            store.close()
            raise
        return store

    # -- pods
    def save(self, uid: str, namespace: str, name: str, record: bytes) -> None:
        """Write a pod's record, whole. Raises Conflict: another pod has the name."""
        with self._write("save"):
            self._db.execute(_SAVE, self._row(uid, namespace, name, record))

    def save_all(self, records: Iterable[tuple[str, str, str, bytes]]) -> None:
        """Write several pods' records (uid, namespace, name, record), all or none. Raises as `save`."""
        with self._write("save"), transaction(self._db):
            self._db.executemany(_SAVE, [self._row(*record) for record in records])

    def _row(self, uid: str, namespace: str, name: str, record: bytes) -> tuple[object, ...]:
        return (uid, namespace, name, record, self._now_ns(), checksum(uid, namespace, name, record))

    def load(self, decode: Callable[[bytes], T]) -> tuple[list[T], list[Quarantined]]:
        """All pods in the order in which they came, and the records that were put into quarantine just now.

        decode: of one record; whatever it raises is the reason for the quarantine.
        """
        good: list[T] = []
        bad: list[Quarantined] = []
        with self._translated("load"):
            rows = self._db.execute("SELECT uid, namespace, name, record, crc FROM pods ORDER BY rowid").fetchall()
        for uid, namespace, name, record, crc in rows:
            try:
                if crc != checksum(uid, namespace, name, record):
                    raise ValueError("the checksum does not fit: the file was damaged")
                good.append(decode(record))
            except Exception as exc:  # noqa: BLE001  one unreadable record must not cost the others
                bad.append(self._quarantine(uid, namespace, name, record, f"{type(exc).__name__}: {exc}"))
        return good, bad

    def delete(self, uid: str) -> None:
        """Forget a pod. Of one that is not there: quiet success."""
        with self._write("delete"):
            self._db.execute("DELETE FROM pods WHERE uid = ?", (uid,))

    def dismiss(self, uid: str) -> None:
        """Drop a record that was put aside. Of one that is not there: quiet success."""
        with self._write("dismiss"):
            self._db.execute("DELETE FROM quarantine WHERE uid = ?", (uid,))

    def quarantined(self) -> list[Quarantined]:
        """The oldest first."""
        with self._translated("read quarantine"):
            rows = self._db.execute("SELECT uid, namespace, name, record, reason, at_ns FROM quarantine ORDER BY rowid")
            return [Quarantined(**dict(zip(Quarantined.__struct_fields__, row, strict=True))) for row in rows]

    def _quarantine(self, uid: str, namespace: str, name: str, record: bytes, reason: str) -> Quarantined:
        found = Quarantined(uid=uid, namespace=namespace, name=name, record=record, reason=reason, at_ns=self._now_ns())
        with self._write("quarantine"), transaction(self._db):
            quarantine(self._db, found)
            self._db.execute("DELETE FROM pods WHERE uid = ?", (uid,))
        return found

    # -- objects
    def save_objects(self, records: Iterable[tuple[str, str, str, bytes]]) -> None:
        """Write records of ConfigMaps and Secrets (kind, namespace, name, record), all or none.

        What those held that were there is overwritten, not only forgotten.
        """
        with self._write("objects"), self._overwriting(), transaction(self._db):
            self._db.executemany(_SAVE_OBJECT, [self._row(*record) for record in records])

    def load_objects(self, decode: Callable[[bytes], T]) -> tuple[list[T], list[tuple[str, str, str]]]:
        """All of them, and (kind, namespace, name) of those whose record cannot be read. They stay as they are: the
        next one of that name takes the place."""
        good: list[T] = []
        bad: list[tuple[str, str, str]] = []
        with self._translated("load"):
            rows = self._db.execute("SELECT kind, namespace, name, record, crc FROM objects ORDER BY rowid").fetchall()
        for kind, namespace, name, record, crc in rows:
            try:
                if crc != checksum(kind, namespace, name, record):
                    raise ValueError("the checksum does not fit: the file was damaged")
                good.append(decode(record))
            except Exception:  # noqa: BLE001  one unreadable record must not cost the others, nor be shown
                bad.append((kind, namespace, name))
        return good, bad

    def delete_object(self, kind: str, namespace: str, name: str) -> None:
        """Of one that is not there: quiet success. What it held is overwritten, not only forgotten."""
        with self._write("objects"), self._overwriting():
            self._db.execute(
                "DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?", (kind, namespace, name)
            )

    @contextmanager
    def _overwriting(self) -> Iterator[None]:
        self._db.execute("PRAGMA secure_delete = ON")
        try:
            yield
        finally:
            self._db.execute("PRAGMA secure_delete = OFF")

    # -- events
    def add_event(
        self,
        namespace: str,
        pod: str,
        uid: str,
        type: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        container: str = "",
    ) -> StoredEvent:
        """Note an event; the oldest go when there are more than EVENTS_MAX or when they are older than a day."""
        now_ns = self._now_ns()
        same = (uid, reason, type, message, container)
        with self._write("event"), transaction(self._db):
            earlier = self._db.execute(
                "SELECT seq, first_ns, count FROM events "
                "WHERE uid = ? AND reason = ? AND type = ? AND message = ? AND container = ? AND at_ns >= ? LIMIT 1",
                (*same, now_ns - EVENTS_MAX_AGE_NS),
            ).fetchone()
            seq, first_ns, count = earlier or (None, now_ns, 0)
            if seq is not None:
                self._db.execute("DELETE FROM events WHERE seq = ?", (seq,))
            cursor = self._db.execute(
                "INSERT INTO events (at_ns, first_ns, namespace, pod, uid, type, reason, message, container, count) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (now_ns, first_ns, namespace, pod, uid, type, reason, message, container, count + 1),
            )
            assert cursor.lastrowid is not None
            self._drop_old_events(cursor.lastrowid, now_ns)
        return StoredEvent(
            seq=cursor.lastrowid,
            at_ns=now_ns,
            first_ns=first_ns,
            namespace=namespace,
            pod=pod,
            uid=uid,
            type=type,
            reason=reason,
            message=message,
            container=container,
            count=count + 1,
        )

    def events(
        self,
        *,
        namespace: str | None = None,
        pod: str | None = None,
        uid: str | None = None,
        after_seq: int = 0,
    ) -> list[StoredEvent]:
        """Those of the last day that fit everything given, the oldest first."""
        given = {"namespace": namespace, "pod": pod, "uid": uid}
        terms = {f" AND {column} = ?": value for column, value in given.items() if value is not None}
        query = f"SELECT {', '.join(StoredEvent.__struct_fields__)} FROM events WHERE seq > ? AND at_ns >= ?"  # noqa: S608
        with self._translated("read events"):
            rows = self._db.execute(
                query + "".join(terms) + " ORDER BY seq",
                (after_seq, self._now_ns() - EVENTS_MAX_AGE_NS, *terms.values()),
            )
            return [StoredEvent(**dict(zip(StoredEvent.__struct_fields__, row, strict=True))) for row in rows]

    def _drop_old_events(self, last_seq: int, now_ns: int) -> None:
        """A few at a time, the oldest first, so that no single event pays for a day's."""
        self._db.execute("DELETE FROM events WHERE seq <= ?", (last_seq - EVENTS_MAX,))
        self._db.execute(
            "DELETE FROM events WHERE seq IN "
            "(SELECT seq FROM (SELECT seq, at_ns FROM events ORDER BY seq LIMIT 8) WHERE at_ns < ?)",
            (now_ns - EVENTS_MAX_AGE_NS,),
        )

    # -- upkeep
    def checkpoint(self) -> None:
        """Bring the log into the database and sync both.

        Blocks for the disk: call it in a worker thread, one call at a time.
        """
        with self._translated("checkpoint"):
            self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._checkpointer.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('checkpointed_ns', ?)", (time.time_ns(),)
            )

    def close(self) -> None:
        """Twice is fine. What was saved stays saved whether or not this is called."""
        self._checkpointer.close()
        self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @contextmanager
    def _write(self, what: str) -> Iterator[None]:
        self._failpoint(f"store.{what}.before")
        with self._translated(what):
            yield
        self._failpoint(f"store.{what}.after")

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise_as_podd(exc, self.path, what)


def _lock(path: str) -> int:
    """Make the directory and take <path>.lock, on which the store is ours as long as the descriptor is open."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise Unavailable(
            f"store: {exc.filename}: {(exc.strerror or str(exc)).lower()}",
            remedy="run podd as root, or set daemon.state_dir to a directory that it can write",
            path=path,
        ) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise Conflict(
            f"store: {path}: in use by another podd, pid {holder}",
            remedy="stop that one, or give this one another daemon.state_dir",
            path=path,
            pid=holder,
        ) from exc
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock
