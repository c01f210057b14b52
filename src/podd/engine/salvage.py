"""A damaged store is replaced by a new one that has all that can still be read of it.

The new one is complete before the old one is touched, so a crash in between loses nothing. Every record that is copied
proves itself by its checksum, so reading may be bold: around broken pages from both ends, by row number, and, where the
first page (which has the schema) is lost, with the first page of a new store in its place.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count, islice
from typing import Any

import msgspec
import structlog

from podd.engine.database import (
    Damage,
    Quarantined,
    StoredEvent,
    checksum,
    connect,
    migrate,
    quarantine,
    raise_as_podd,
    transaction,
)

log = structlog.get_logger()

TABLES = ("meta", "pods", "quarantine", "events", "objects")
OBJECT_KINDS = ("ConfigMap", "Secret")
PROBES_MAX = 100_000
"""Row numbers tried one by one where neither end of a table leads."""


def replace_if_damaged(path: str) -> Damage | None:
    """Leave a sound store of the current schema at path. Returns what was done where there was a damaged one.

    Raises Unsupported: a newer podd wrote it; Unavailable: no access, no space.
    """
    new = f"{path}.new"
    try:
        if not os.path.exists(path):
            _remove(f"{path}-wal", f"{path}-shm")  # a log without its database is nobody's
            if os.path.exists(new):
                os.rename(new, path)  # a crash came between the last two steps of _replace
        reason = _what_is_wrong(path)
        return None if reason is None else _replace(path, new, reason)
    except (sqlite3.Error, OSError) as exc:
        raise_as_podd(exc, path, "open")


def _what_is_wrong(path: str) -> str | None:
    """Create or migrate it, and check it. None: it is sound."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(file, 0o600)  # it holds Secrets; SQLite gives its log the same mode
    os.close(file)
    try:
        with closing(connect(path)) as db:
            migrate(db, path)
            for table in TABLES:
                db.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()  # noqa: S608
            found = [row[0] for row in db.execute("PRAGMA integrity_check(3)")]
            return None if found == ["ok"] else "; ".join(found)
    except sqlite3.DatabaseError as exc:
        if _is_damage(exc):
            return str(exc)
        raise


def _is_damage(exc: sqlite3.Error) -> bool:
    """SQLITE_ERROR: our own statements do not fit the schema, so it is not the one that we wrote."""
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _replace(path: str, new: str, reason: str) -> Damage:
    _remove(new, f"{new}-wal", f"{new}-shm")
    wrong = _what_is_wrong(new)
    assert wrong is None, wrong
    scratch = f"{path}.scratch"
    pods = events = 0
    try:
        with closing(connect(new)) as db, transaction(db):
            for first_page in (None, new):
                _copy(path, scratch, first_page)
                pods, events = _salvage(scratch, db)
                if pods:
                    break
    finally:
        _remove(scratch, f"{scratch}-wal", f"{scratch}-shm")
    aside = _move_aside(path)
    os.rename(new, path)
    log.error(
        "store.damaged",
        path=path,
        reason=reason,
        moved_to=aside,
        pods_salvaged=pods,
        remedy="compare `podd-cli get pods -A` with what should run, apply what is missing, check the disk",
    )
    return Damage(reason=reason, moved_to=aside, pods=pods, events=events)


def _move_aside(path: str) -> str:
    aside = next(name for n in count(1) if not os.path.exists(name := f"{path}.damaged-{n}"))
    os.rename(path, aside)
    if os.path.exists(f"{path}-wal"):
        os.rename(f"{path}-wal", f"{aside}-wal")
    _remove(f"{path}-shm")
    return aside


def _copy(path: str, scratch: str, first_page_of: str | None) -> None:
    """A copy to read, since opening a database changes it. first_page_of: a sound store, whose schema to read it by."""
    _remove(scratch, f"{scratch}-wal", f"{scratch}-shm")
    shutil.copyfile(path, scratch)
    if os.path.exists(f"{path}-wal"):
        shutil.copyfile(f"{path}-wal", f"{scratch}-wal")
    if first_page_of is not None:
        _transplant(first_page_of, scratch)


def _transplant(sound: str, scratch: str) -> None:
    """Tables lie on the same root pages in every store of one schema, those of later schemas only where the store began
    with it: what is read elsewhere does not prove itself. Source: the SQLite file format, section 1.3."""
    with open(sound, "rb") as source:
        page = bytearray(source.read(100))
        size = int.from_bytes(page[16:18], "big") or 65536
        page += source.read(size - 100)
    page[28:32] = (os.path.getsize(scratch) // size).to_bytes(4, "big")  # pages in the file
    page[32:40] = bytes(8)  # no free pages
    with open(scratch, "r+b") as target:
        target.write(page)


def _salvage(source: str, db: sqlite3.Connection) -> tuple[int, int]:
    """Copy what can be read. Returns the numbers of pods and events."""
    try:
        damaged = connect(source)
    except sqlite3.DatabaseError:
        return 0, 0
    with closing(damaged):
        damaged.text_factory = lambda raw: raw.decode("utf-8", "replace")
        pods = sum(
            _take_pod(db, row) for row in _rows(damaged, "pods", "uid, namespace, name, record, updated_ns, crc")
        )
        for row in _rows(damaged, "quarantine", ", ".join(Quarantined.__struct_fields__)):
            _take_quarantined(db, row)
        for row in _rows(damaged, "objects", "kind, namespace, name, record, updated_ns, crc"):
            _take_object(db, row)
        events = sum(_take_event(db, row) for row in _rows(damaged, "events", ", ".join(StoredEvent.__struct_fields__)))
    return pods, events


def _rows(db: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """Every row that can be read, in order: from the front, from the back, then one by one what lies between."""
    found: dict[int, tuple[Any, ...]] = {}
    query = f"SELECT rowid, {columns} FROM {table} NOT INDEXED"  # noqa: S608
    whole = False
    for direction in ("ASC", "DESC"):
        try:
            for rowid, *row in db.execute(f"{query} ORDER BY rowid {direction}"):
                if rowid in found:
                    break
                found[rowid] = tuple(row)
            whole = direction == "ASC"
        except sqlite3.DatabaseError:
            continue
        if whole:
            break
    if not whole:
        last = max(found, default=PROBES_MAX)
        for rowid in islice((n for n in range(1, last) if n not in found), PROBES_MAX):
            try:
                row = db.execute(f"{query} WHERE rowid = ?", (rowid,)).fetchone()
                if row is not None:
                    found[rowid] = tuple(row[1:])
            except sqlite3.DatabaseError:
                continue
    yield from (found[rowid] for rowid in sorted(found))


def _take_pod(db: sqlite3.Connection, row: tuple[Any, ...]) -> bool:
    """True: it is whole. What is not, or has the name of one that is, goes into quarantine."""
    uid, namespace, name, record, updated_ns, crc = row
    if not (isinstance(record, bytes) and all(isinstance(value, str) for value in (uid, namespace, name))):
        return False  # not a row of ours
    reason = "the checksum does not fit: the store was damaged"
    if crc == checksum(uid, namespace, name, record):
        try:
            db.execute("INSERT INTO pods VALUES (?, ?, ?, ?, ?, ?)", (uid, namespace, name, record, updated_ns, crc))
        except sqlite3.IntegrityError:
            reason = "the damaged store had another pod of this name"
        else:
            return True
    now_ns = time.time_ns()
    quarantine(db, Quarantined(uid=uid, namespace=namespace, name=name, record=record, reason=reason, at_ns=now_ns))
    return False


def _take_object(db: sqlite3.Connection, row: tuple[Any, ...]) -> None:
    """What is not whole is lost: a person has it in a manifest."""
    kind, namespace, name, record, _, crc = row
    if kind not in OBJECT_KINDS or not isinstance(record, bytes):
        return
    if not (isinstance(namespace, str) and isinstance(name, str)) or crc != checksum(kind, namespace, name, record):
        return
    try:
        db.execute("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?)", row)
    except sqlite3.IntegrityError:
        return


def _take_quarantined(db: sqlite3.Connection, row: tuple[Any, ...]) -> None:
    try:
        quarantine(db, msgspec.convert(dict(zip(Quarantined.__struct_fields__, row, strict=True)), Quarantined))
    except (msgspec.ValidationError, sqlite3.IntegrityError):
        return


def _take_event(db: sqlite3.Connection, row: tuple[Any, ...]) -> bool:
    names = StoredEvent.__struct_fields__
    try:
        msgspec.convert(dict(zip(names, row, strict=True)), StoredEvent)
        places = ", ".join("?" * len(names))
        db.execute(f"INSERT INTO events ({', '.join(names)}) VALUES ({places})", row)  # noqa: S608
    except (msgspec.ValidationError, sqlite3.IntegrityError):
        return False
    return True


def _remove(*paths: str) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
