"""Which network configuration counts. Blocks: for worker threads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from podd.errors import Invalid
from podd.network import conflist
from podd.network.conflist import Network

LISTS = (".conflist",)
SINGLES = (".conf", ".json")


class Found(NamedTuple):
    """network: None where no file is valid. skipped: why each that comes before it in order is not, by its path."""

    network: Network | None
    skipped: Mapping[str, str]


def find(directory: str) -> Found:
    """Look at the folder as it is now: the first file by name that is valid counts."""
    skipped: dict[str, str] = {}
    for path in _files(directory, (*LISTS, *SINGLES)):
        try:
            return Found(_load(path), skipped)
        except Invalid as exc:
            skipped[path] = exc.message
        except OSError as exc:
            skipped[path] = exc.strerror or str(exc)
    return Found(None, skipped)


def _load(path: str) -> Network:
    text = _read(path)
    if not path.endswith(LISTS):
        return conflist.parse_single(text)
    name = conflist.name_of(text)
    return conflist.parse(text, _parts(f"{os.path.dirname(path)}/{name}") if name else ())


def _parts(directory: str) -> Sequence[Mapping[str, Any]]:
    """Plugins of a network, each in a file of its own. Source: the specification, 1.1.0, loadOnlyInlinedPlugins."""
    return [conflist.read_object(_read(path)) for path in _files(directory, (".conf",))]


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        text = file.read(conflist.MAX_BYTES + 1)
    if len(text) > conflist.MAX_BYTES:
        raise Invalid(f"is larger than {conflist.MAX_BYTES} bytes")
    return text


def _files(directory: str, endings: tuple[str, ...]) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.path for entry in entries if entry.name.endswith(endings) and not entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
