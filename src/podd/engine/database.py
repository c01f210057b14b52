"""The store's file: its schema, its connections, its errors, and the values that stand in it."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

from podd.errors import Conflict, Internal, PoddError, Unavailable, Unsupported
from podd.model.value import Value

BUSY_TIMEOUT_MS = 5000

MIGRATIONS: Sequence[Sequence[str]] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
        """CREATE TABLE pods (
            uid TEXT PRIMARY KEY NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
            record BLOB NOT NULL, updated_ns INTEGER NOT NULL, crc INTEGER NOT NULL,
            UNIQUE (namespace, name))""",
        """CREATE TABLE quarantine (
            uid TEXT, namespace TEXT, name TEXT, record BLOB, reason TEXT NOT NULL, at_ns INTEGER NOT NULL)""",
        """CREATE TABLE events (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, at_ns INTEGER NOT NULL, first_ns INTEGER NOT NULL,
            namespace TEXT NOT NULL, pod TEXT NOT NULL, uid TEXT NOT NULL, type TEXT NOT NULL, reason TEXT NOT NULL,
            message TEXT NOT NULL, container TEXT NOT NULL, count INTEGER NOT NULL)""",
        "CREATE INDEX events_of_pod ON events (uid, reason)",
    ),
    (
        """CREATE TABLE objects (
            kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
            record BLOB NOT NULL, updated_ns INTEGER NOT NULL, crc INTEGER NOT NULL,
            UNIQUE (kind, namespace, name))""",
    ),
)
"""What makes version n of the schema of version n - 1. Append only: stores of every older version are out there."""

SCHEMA = len(MIGRATIONS)


class Quarantined(Value):
    """A record that could not be read. It is kept as it was found; the pod is not served."""

    uid: str
    namespace: str
    name: str
    record: bytes
    reason: str
    at_ns: int


class StoredEvent(Value):
    """Something that a person may want to know of a pod. The same again within a day raises `count` and gets a new
    `seq`, so that whoever has read up to some seq sees it."""

    seq: int
    at_ns: int  # of the last
    first_ns: int
    namespace: str
    pod: str
    uid: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    container: str = ""
    count: int = 1


class Damage(Value):
    """The file was found damaged and replaced. lost says whether records may be missing, not how many: nobody knows."""

    reason: str
    moved_to: str
    pods: int  # salvaged
    events: int


def checksum(uid: str, namespace: str, name: str, record: bytes) -> int:
    """CRC-32 over a pod's row, or over an object's, with its kind in the place of uid.

    SQLite checks its log, not its pages: a flipped digit in JSON is still JSON.
    """
    return zlib.crc32("\0".join((uid, namespace, name, "")).encode() + record)


def connect(path: str, *, check_same_thread: bool = True) -> sqlite3.Connection:
    """Autocommit; every transaction is explicit."""
    db = sqlite3.connect(
        path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000, check_same_thread=check_same_thread
    )
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk may have rolled it back already
            db.execute("ROLLBACK")
        raise


def migrate(db: sqlite3.Connection, path: str) -> None:
    """Bring the schema up to date in one transaction. Raises Unsupported: it is newer than this podd."""
    with transaction(db):
        known = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone()
        row = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() if known else None
        version: int = row[0] if row else 0
        if version > SCHEMA:
            raise Unsupported(
                f"store: {path}: written by a newer podd: it has schema {version}, this podd knows {SCHEMA}",
                remedy="run the newer podd, or give this one another state_dir",
                path=path,
                schema=version,
            )
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                db.execute(statement)
        if version < SCHEMA:
            db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('schema', ?)", (SCHEMA,))


def quarantine(db: sqlite3.Connection, found: Quarantined) -> None:
    db.execute(
        "INSERT INTO quarantine (uid, namespace, name, record, reason, at_ns) VALUES (?, ?, ?, ?, ?, ?)",
        (found.uid, found.namespace, found.name, found.record, found.reason, found.at_ns),
    )


def raise_as_podd(exc: sqlite3.Error | OSError, path: str, what: str) -> NoReturn:
    """The one table from errors of SQLite and the file system to podd's. what: was tried, as in "cannot WHAT"."""
    message = f"store: {path}: cannot {what}: {exc}"
    writable = f"see that {path} and its directory can be written, and the kernel's log for disk errors"
    if isinstance(exc, OSError):
        why = (exc.strerror or str(exc)).lower()
        raise Unavailable(f"store: {exc.filename or path}: cannot {what}: {why}", remedy=writable, path=path) from exc
    facts: dict[str, Any] = {"path": path, "sqlite": getattr(exc, "sqlite_errorname", "")}
    match getattr(exc, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_CONSTRAINT:
            error: PoddError = Conflict(f"store: cannot {what}: another pod has this name and namespace", **facts)
        case sqlite3.SQLITE_FULL:
            error = Unavailable(message, remedy=f"free space on the file system of {path}", **facts)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            remedy = "restart podd: it moves the damaged file aside and keeps what can be read; the pods run on"
            error = Unavailable(message, remedy=remedy, **facts)
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_BUSY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY:
            error = Unavailable(message, remedy=writable, **facts)
        case _:
            error = Internal(message, **facts)
    raise error from exc
