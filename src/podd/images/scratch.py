"""Where pulls are under way: one directory for each, below the store, so that nothing is ever copied across disks.

    <root>/podd-pulls/<random>/     locked (flock) by podd, and by skopeo, for as long as either lives
        output, errors              what skopeo has said: which layers it set out to fetch, and what went wrong
        storage…/                   skopeo's own: blobs on their way

What a podd that was killed has left is found by its lock, which nobody holds any more.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from podd.errors import Unavailable
from podd.images.skopeo import Scratch

_FETCHING = re.compile(r"(?:^Copying blob |Downloading /v2/\S+/blobs/)([a-z0-9]+:[0-9a-f]+)", re.MULTILINE)


def folder(root: str) -> str:
    return f"{root}/podd-pulls"


@contextmanager
def made(root: str) -> Iterator[Scratch]:
    """A new one. It stays: who is done with it removes it. Raises Unavailable: the disk is full, or the like."""
    try:
        os.makedirs(folder(root), mode=0o700, exist_ok=True)
        directory = tempfile.mkdtemp(dir=folder(root))
        fd = _open(directory)
    except OSError as exc:
        raise Unavailable(f"{folder(root)}: {exc.strerror}", remedy="make room, or set images.root") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield Scratch(directory, fd)
    finally:
        os.close(fd)


def abandoned(root: str) -> Iterator[Scratch]:
    """Each that nobody works in any more; held while the caller looks at it."""
    for directory in everywhere(root):
        try:
            fd = _open(directory)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Scratch(directory, fd)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)


def everywhere(root: str) -> list[str]:
    """The directories of all."""
    try:
        return [f"{folder(root)}/{name}" for name in sorted(os.listdir(folder(root)))]
    except FileNotFoundError:
        return []


def _open(directory: str) -> int:
    return os.open(f"{directory}/output", os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)


def blobs(directory: str) -> list[str]:
    """The digests of the layers that a run there was to fetch."""
    said = ""
    for name in ("output", "errors"):
        with suppress(OSError), open(f"{directory}/{name}", encoding="utf-8", errors="replace") as file:
            said += file.read()
    return _FETCHING.findall(said)


def fetched_bytes(directory: str) -> int:
    """What has come so far, as the registry has it."""
    total = 0
    with suppress(OSError):
        for place in os.scandir(directory):
            if place.is_dir():
                total += sum(one.stat().st_size for one in os.scandir(place.path))
    return total


def clear(directory: str) -> None:
    """Remove what has come, and leave what tells of it."""
    for place in os.scandir(directory):
        if place.is_dir():
            shutil.rmtree(place.path, ignore_errors=True)


def remove(directory: str) -> None:
    shutil.rmtree(directory, ignore_errors=True)
