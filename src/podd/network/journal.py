"""What is connected, or was about to be, kept until it is disconnected again. Blocks: for worker threads.

One file for each attachment, on the disk before the first plugin is run, so that neither a crash nor a lost power
supply leaves an address that nobody gives back. It is written as libcni writes its cache of results; what podd adds is
below "podd". Source: libcni, cachedInfo in api.go.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import structlog

from podd.driver.contract import PortMapping
from podd.errors import Conflict, Invalid, PoddError, Unavailable
from podd.network import conflist, ports
from podd.network.call import INTERFACE, Attachment
from podd.shim.files import read_json, unlink

log = structlog.get_logger(__name__)

KIND = "cniCacheV1"
_FILE = re.compile(rf"(?P<network>.+)-(?P<sandbox>[0-9a-f]{{16}})-{INTERFACE}", re.ASCII)


class Journal:
    """Several may be on one directory, of several drivers and several podds: whoever writes holds a lock."""

    def __init__(self, directory: str) -> None:
        self._directory = f"{directory}/results"
        self._locks = directory

    def begin(self, made: Attachment, wanted: Sequence[PortMapping]) -> None:
        """Write an attachment down. Raises Conflict: a port is led to another pod; Unavailable: the disk is full."""
        with self._written():
            self._claim(made.sandbox, wanted)
            self._write(made)

    def write(self, made: Attachment) -> None:
        """Over what is there of it. Raises Unavailable: the disk is full."""
        with self._written():
            self._write(made)

    def remove(self, made: Attachment) -> None:
        unlink(self._path(made))

    def read(self, sandbox: str) -> Attachment | None:
        """None: it is not connected. Raises Unavailable: what is written makes no sense."""
        name = next((name for name, of in self._names() if of == sandbox), None)
        return None if name is None else self._parse(name)

    def sandboxes(self, driver: str) -> list[str]:
        """Those that this driver has connected; and those of records that make no sense, which may be its."""
        return [sandbox for name, sandbox in self._names() if self._driver(name) in (driver, None)]

    def attached(self, network: str) -> list[str]:
        """The sandboxes of all drivers that are, or may be, connected with that network."""
        return [sandbox for name, sandbox in self._names() if name.startswith(f"{network}-{sandbox}-")]

    @contextmanager
    def collecting(self, *, alone: bool) -> Iterator[bool]:
        """While plugins connect a pod (alone: False, many at a time), or remove what belongs to none. Yields whether
        it may be done: what is to be done alone is not waited for."""
        with self._lock("gc.lock", (fcntl.LOCK_EX | fcntl.LOCK_NB) if alone else fcntl.LOCK_SH) as free:
            yield free

    # ---- files -------------------------------------------------------------------------------------------------------

    def _claim(self, sandbox: str, wanted: Sequence[PortMapping]) -> None:
        for name, other in self._names() if wanted else ():
            taken = (read_json(f"{self._directory}/{name}") or {}).get("capabilityArgs") or {}
            clash = None if other == sandbox else ports.clash(wanted, taken.get("portMappings") or ())
            if clash is not None:
                pod = _pod(read_json(f"{self._directory}/{name}") or {}) or f"sandbox {other}"
                raise Conflict(
                    f"host port {ports.shown(clash)} is led to {pod}",
                    remedy="choose another hostPort, or delete that pod",
                    port=clash.host_port,
                )

    def _write(self, made: Attachment) -> None:
        record = {
            "kind": KIND,
            "containerId": made.sandbox,
            "config": base64.b64encode(json.dumps(made.network.document()).encode()).decode(),
            "ifName": INTERFACE,
            "networkName": made.network.name,
            "netns": made.netns,
            "cniArgs": [list(pair) for pair in made.args],
            "capabilityArgs": made.capability_args,
            "podd": {"driver": made.driver, "complete": made.complete},
        }
        if made.result is not None:
            record["result"] = made.result
        _replace(self._directory, os.path.basename(self._path(made)), json.dumps(record).encode())

    def _path(self, made: Attachment) -> str:
        return f"{self._directory}/{made.network.name}-{made.sandbox}-{INTERFACE}"

    def _names(self) -> list[tuple[str, str]]:
        """Files and their sandboxes."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise Unavailable(f"{self._directory}: cannot be read: {exc.strerror}") from exc
        return sorted((name, match["sandbox"]) for name in names if (match := _FILE.fullmatch(name)))

    def _driver(self, name: str) -> str | None:
        try:
            return self._parse(name).driver
        except PoddError:
            return None

    def _parse(self, name: str) -> Attachment:
        path = f"{self._directory}/{name}"
        try:
            return _attachment(read_json(path) or {})
        except (KeyError, TypeError, ValueError, AttributeError, Invalid) as exc:
            raise Unavailable(
                f"{path}: this record of a network attachment makes no sense: {exc}",
                remedy="give the address back by hand, then remove the file",
            ) from exc

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            os.makedirs(self._directory, 0o700, exist_ok=True)
            with self._lock("write.lock", fcntl.LOCK_EX):
                yield
        except OSError as exc:
            raise Unavailable(f"{self._directory}: cannot be written: {exc.strerror}") from exc

    @contextmanager
    def _lock(self, name: str, how: int) -> Iterator[bool]:
        os.makedirs(self._locks, 0o700, exist_ok=True)
        fd = os.open(f"{self._locks}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            held = False
            with suppress(BlockingIOError):
                fcntl.flock(fd, how)
                held = True
            yield held
        finally:
            os.close(fd)


def _attachment(record: dict[str, Any]) -> Attachment:
    """Raises KeyError, TypeError, ValueError, AttributeError, Invalid: it makes no sense."""
    if record["kind"] != KIND:
        raise ValueError(f"its kind is {record['kind']}")
    own = record["podd"]
    return Attachment(
        driver=str(own["driver"]),
        sandbox=str(record["containerId"]),
        network=conflist.parse(base64.b64decode(record["config"])),
        netns=str(record["netns"]),
        args=[(str(key), str(value)) for key, value in record["cniArgs"]],
        capability_args=dict(record["capabilityArgs"]),
        result=record.get("result"),
        complete=own["complete"] is True,
    )


def _pod(record: dict[str, Any]) -> str:
    """For people: "default/web"."""
    args = dict(record.get("cniArgs") or ())
    return f"pod {args['K8S_POD_NAMESPACE']}/{args['K8S_POD_NAME']}" if "K8S_POD_NAME" in args else ""


def _replace(directory: str, name: str, content: bytes) -> None:
    """Whole or not at all, whatever happens to the power; and a name that was not there before is there afterwards.

    There is one temporary file: who writes holds the lock.
    """
    temporary, is_new = f"{directory}/.new", not os.path.lexists(f"{directory}/{name}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, f"{directory}/{name}")
    if is_new:  # else whichever of the two is found undoes it: what plugins keep on the disk goes by names alone
        _sync_folder(directory)


def _sync_folder(directory: str) -> None:
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
