"""What images a file or directory of this host holds."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from podd.errors import Invalid, NotFound, PoddError, Unavailable
from podd.model.image import InFile, parse
from podd.model.value import Value

_REF_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
LIMIT_BYTES = 4 * 1024 * 1024


class Source(Value):
    """place: as skopeo calls it. name: that it has there, "" for none."""

    place: str
    name: str = ""


def sources(path: str) -> Sequence[Source]:
    """path: absolute, or with a transport before it. Raises NotFound, Invalid, Unavailable."""
    if not path.startswith("/"):
        asked = parse(path)
        if not isinstance(asked, InFile):
            raise Invalid(f"{path}: is no absolute path of this host", remedy="podd-cli image pull takes it, perhaps")
        return [Source(place=path)]
    try:
        return _directory(path) if os.path.isdir(path) else _archive(path)
    except FileNotFoundError as exc:
        raise NotFound(f"{exc.filename}: no such file") from exc
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}") from exc
    except (tarfile.TarError, EOFError) as exc:
        raise Invalid(
            f"{path}: is no archive of images: {exc}", remedy="docker save, podman save and skopeo copy make them"
        ) from exc


def _directory(path: str) -> Sequence[Source]:
    if not os.path.exists(f"{path}/oci-layout"):
        raise Invalid(f"{path}: is no OCI layout: it has no file oci-layout")
    with open(f"{path}/index.json", "rb") as file:
        return _of_index("oci", path, _json(path, file.read(LIMIT_BYTES)))


def _archive(path: str) -> Sequence[Source]:
    with tarfile.open(path) as archive:
        for member in archive:
            name = os.path.normpath(member.name)
            if name not in ("index.json", "manifest.json", "oci-layout"):
                continue
            file = archive.extractfile(member)
            content = _json(path, file.read(LIMIT_BYTES)) if file else {}
            if name == "manifest.json":
                return _of_manifest(path, content)
            if name == "index.json" and "manifest.json" not in archive.getnames():
                return _of_index("oci-archive", path, content)
    raise Invalid(f"{path}: is no archive of images", remedy="docker save, podman save and skopeo copy make them")


def _of_index(transport: str, path: str, index: Any) -> Sequence[Source]:
    try:
        notes: list[Mapping[str, str]] = [one.get("annotations") or {} for one in index["manifests"]]
    except (KeyError, TypeError, AttributeError):
        raise _wrong(path) from None
    if len(notes) == 1 and not notes[0].get(_REF_NAME):
        return [Source(place=f"{transport}:{path}")]
    named = [note for note in notes if note.get(_REF_NAME)]
    return [Source(place=f"{transport}:{path}:{note[_REF_NAME]}", name=_name(note)) for note in named]


def _name(note: Mapping[str, str]) -> str:
    """What it is called, where that is more than a tag."""
    name = note.get(_FULL_NAME) or note[_REF_NAME]
    try:
        parse(name)
    except PoddError:
        return ""
    return name if "/" in name or ":" in name else ""


def _of_manifest(path: str, manifest: Any) -> Sequence[Source]:
    found = []
    try:
        for number, one in enumerate(manifest):
            tags = one.get("RepoTags") or [""]
            found += [Source(place=f"docker-archive:{path}:{tag or f'@{number}'}", name=tag) for tag in tags]
    except (TypeError, AttributeError):
        raise _wrong(path) from None
    return found


def _json(path: str, text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise _wrong(path) from None


def _wrong(path: str) -> Invalid:
    return Invalid(f"{path}: what it says of its images makes no sense")
