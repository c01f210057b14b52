"""Layers that a pull has brought and no image has: what it leaves when it is cancelled or fails.

podd writes nothing into a store itself. It has skopeo put such layers into an image that is nothing else, which takes
no byte to copy, and remove that image: the store's library then takes its own locks, and removes with an image the
layers that nothing else uses. A layer that was being unpacked is marked as incomplete, and the library removes it
whenever anybody next writes to the store.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from podd.model.value import Value

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
TAG = "leftover"
UNFINISHED_S = 60
"""So old nothing is that is still being written: that takes a moment."""


class Layer(Value):
    """As containers/storage writes it down; what is of no use here is left out."""

    id: str
    parent: str = ""
    diff: str = msgspec.field(name="diff-digest", default="")  # unpacked
    compressed: str = msgspec.field(name="compressed-diff-digest", default="")  # as a registry has it
    flags: Mapping[str, Any] | None = None

    @property
    def is_whole(self) -> bool:
        return not (self.flags or {}).get("incomplete")


class User(Value):
    """An image, or a container of podman's."""

    layer: str = ""
    mapped_layers: Sequence[str] | None = msgspec.field(name="mapped-layers", default=None)


def found(root: str, blobs: Iterable[str]) -> list[list[str]]:
    """What is to be removed of a pull that fetched these blobs: the layers of each image that it could not finish, by
    the digests of what they hold, from the lowest. One without any stands for layers that are not whole.

    Raises OSError, msgspec.DecodeError: the store cannot be read.
    """
    layers = {layer.id: layer for layer in _read(f"{root}/overlay-layers/layers.json", Layer)}
    users = [
        *_read(f"{root}/overlay-images/images.json", User),
        *_read(f"{root}/overlay-containers/containers.json", User),
    ]
    return chains(layers, users, set(blobs))


def remove_unfinished(root: str) -> None:
    """Files that the store's library was writing anew when it was killed; it writes beside, and renames."""
    for place in ("overlay-layers", "overlay-images"):
        for path in glob.glob(f"{glob.escape(root)}/{place}/.tmp-*.json*"):
            with suppress(OSError):
                if time.time() - os.stat(path).st_mtime > UNFINISHED_S:
                    os.remove(path)


def chains(layers: Mapping[str, Layer], users: Iterable[User], blobs: set[str]) -> list[list[str]]:
    used = {id for user in users for top in (user.layer, *(user.mapped_layers or ())) for id in _down(layers, top)}
    whole = {id: layer for id, layer in layers.items() if layer.is_whole}
    parents = {layer.parent for layer in whole.values()}
    tops = [
        id
        for id, layer in whole.items()
        if id not in used | parents and ({layer.compressed, layer.diff} & blobs) and layer.diff
    ]
    ends = [[layers[id].diff for id in _down(layers, top)][::-1] for top in tops]
    return ends or ([[]] if len(whole) < len(layers) else [])


def _down(layers: Mapping[str, Layer], top: str) -> Iterator[str]:
    seen: set[str] = set()
    while top in layers and top not in seen:
        seen.add(top)
        yield top
        top = layers[top].parent


def _read(path: str, kind: type[Any]) -> Sequence[Any]:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read() or b"[]", type=list[kind]) or ()  # type: ignore[valid-type]
    except FileNotFoundError:
        return ()


def write_image(directory: str, diffs: Sequence[str]) -> str:
    """An image of these layers, without what is in them; its name for skopeo."""
    blobs = f"{directory}/blobs/sha256"
    os.makedirs(blobs)

    def blob(content: Any, kind: str) -> dict[str, Any]:
        text = json.dumps(content).encode()
        digest = hashlib.sha256(text).hexdigest()
        with open(f"{blobs}/{digest}", "wb") as file:
            file.write(text)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(text)}

    author = os.path.basename(directory)  # so that no two of them have the same id
    rootfs = {"type": "layers", "diff_ids": list(diffs)}
    config = blob({"author": author, "os": "linux", "architecture": "", "config": {}, "rootfs": rootfs}, _CONFIG)
    listed = [{"mediaType": _LAYER, "digest": diff, "size": 1} for diff in diffs]
    manifest = blob({"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": listed}, _MANIFEST)
    manifest["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    for name, content in (
        ("index.json", {"schemaVersion": 2, "manifests": [manifest]}),
        ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
    ):
        with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
            json.dump(content, file)
    return f"oci:{directory}:{TAG}"
