"""The lists of a containers/storage, and how an image and its layers are found in them."""

from __future__ import annotations

import base64
import errno
import os
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

import msgspec

from podd.errors import Invalid, NotFound, Unavailable
from podd.images.records import ImageRecord, LayerRecord

LISTS_LIMIT_BYTES = 256 * 1024 * 1024
"""Of the lists of all images and of all layers."""

SHORTEST_ID = 12
"""Digits of an id that stand for all; with fewer, a word like "cafe" could be one."""

_DIGITS = 64
_ID = re.compile(rf"(?:sha256:)?([0-9a-f]{{{SHORTEST_ID},{_DIGITS}}})")

R = TypeVar("R", bound=ImageRecord | LayerRecord)


class Listed(Generic[R]):
    """A list of records in a file that is replaced whole: read again when it is another."""

    def __init__(self, path: str, kind: type[R]) -> None:
        self._path = path
        self._decoder: msgspec.json.Decoder[Sequence[R] | None] = msgspec.json.Decoder(list[kind] | None)  # type: ignore[valid-type]
        self._read: tuple[Version, Sequence[R]] = (_NONE, ())

    def read(self) -> tuple[Version, Sequence[R]]:
        """Empty where there is no such file. Raises Unavailable: it cannot be read, or makes no sense."""
        version = _version(self._path)
        if version != self._read[0]:
            self._read = (version, self._decoded() if version != _NONE else ())
        return self._read

    def _decoded(self) -> Sequence[R]:
        try:
            return self._decoder.decode(read_bounded(self._path, LISTS_LIMIT_BYTES)) or ()
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise Unavailable(f"images: {self._path}: {exc}", remedy="repair it, or remove the store") from exc


class Version(NamedTuple):
    """Of a file: another one when it was replaced or written to."""

    inode: int
    modified_ns: int
    size: int


_NONE = Version(0, 0, 0)


def _version(path: str) -> Version:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _NONE
    return Version(status.st_ino, status.st_mtime_ns, status.st_size)


class Index:
    """All images and layers at one moment."""

    def __init__(self, images: Sequence[ImageRecord], layers: Sequence[LayerRecord]) -> None:
        self.images = {record.id: record for record in images}
        self._layers = {layer.id: layer for layer in layers}
        self._by_name = {name: record for record in images for name in record.names or ()}
        self._by_digest = {
            f"{repository(name)}@{digest}": record
            for record in images
            for name in record.names or ()
            for digest in record.digests
        }

    def find(self, reference: str) -> ImageRecord | None:
        """Raises Invalid: it is the beginning of several ids."""
        name, _, digest = reference.partition("@")
        by_digest = f"{repository(name)}@{digest}"
        return self._by_name.get(reference) or self._by_digest.get(by_digest) or self._by_id(reference)

    def _by_id(self, reference: str) -> ImageRecord | None:
        match = _ID.fullmatch(reference)
        if match is None:
            return None
        if len(match[1]) == _DIGITS:
            return self.images.get(match[1])
        found = [record for name, record in self.images.items() if name.startswith(match[1])]
        if len(found) > 1:
            raise Invalid(f"image {reference}: {len(found)} images have an id that begins so", remedy="give more of it")
        return found[0] if found else None

    def record(self, image_id: str) -> ImageRecord:
        """Raises NotFound."""
        record = self.images.get(bare(image_id))
        if record is None:
            raise NotFound(f"image {image_id}: it is not here", remedy="pull it again: podd-cli image pull")
        return record

    def chain(self, record: ImageRecord) -> list[LayerRecord]:
        """Its layers, the topmost first. Raises NotFound: one is not there, or not whole."""
        layers = self.found(record)
        missing = layers[-1].parent if layers else record.layer
        incomplete = [layer.id for layer in layers if not layer.is_complete]
        if missing or incomplete:
            raise NotFound(
                f"image {short(record)}: its layer {(missing or incomplete[0])[:SHORTEST_ID]} is "
                f"{'missing' if missing else 'incomplete'}",
                remedy="remove the image and pull it again",
            )
        return layers

    def found(self, record: ImageRecord) -> list[LayerRecord]:
        """Its layers, the topmost first, as far down as they are there."""
        found: dict[str, LayerRecord] = {}
        layer = self._layers.get(record.layer)
        while layer is not None and layer.id not in found:
            found[layer.id] = layer
            layer = self._layers.get(layer.parent)
        return list(found.values())


# ---- words and numbers -----------------------------------------------------------------------------------------------


def file_name(key: str) -> str:
    """Of what is kept beside an image under that key. Source: makeBigDataBaseName of containers/storage."""
    if re.fullmatch(r"[0-9a-z.]+", key):
        return key
    return f"={base64.b64encode(key.encode()).decode()}"


def repository(name: str) -> str:
    """A name without its tag and its digest: "docker.io/library/busybox"."""
    untagged, colon, tag = name.partition("@")[0].rpartition(":")
    return untagged if colon and "/" not in tag else name.partition("@")[0]


def bare(image_id: str) -> str:
    return image_id.removeprefix("sha256:")


def short(record: ImageRecord) -> str:
    """For people: a name, else the beginning of its id."""
    return next(iter(record.names or ()), record.id[:SHORTEST_ID])


def nanoseconds(created: str) -> int | None:
    """Since 1970. None: it says no moment, or one that a clock of today has never shown (the zero of Go, too)."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return None
    return int(moment.timestamp() * 1e6) * 1000 if moment.tzinfo and moment.year >= 1970 else None


def read_bounded(path: str, limit_bytes: int) -> bytes:
    """Raises OSError: EFBIG: it is larger."""
    with open(path, "rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise OSError(errno.EFBIG, f"larger than {limit_bytes} bytes", path)
    return content
