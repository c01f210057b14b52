"""What containers/storage writes down of images and layers, as far as it is of use here.

Fields that are not named here are passed over: versions of the library differ in them. Source: the library's own types
Image and Layer, and the OCI image specification 1.1 for what an image says of itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from podd.model.value import Value


class ImageRecord(Value):
    """One of overlay-images/images.json."""

    id: str  # hex
    digest: str = ""  # of its manifest
    names: Sequence[str] | None = None
    layer: str = ""  # the topmost
    big_data_digests: Mapping[str, str] | None = msgspec.field(name="big-data-digests", default=None)
    created: str = ""

    @property
    def digests(self) -> list[str]:
        """Of every manifest that it was pulled by: its own, and that of the list that led to it."""
        kept = self.big_data_digests or {}
        found = [self.digest, *(digest for name, digest in kept.items() if name.startswith("manifest"))]
        return list(dict.fromkeys(digest for digest in found if digest))


class LayerRecord(Value):
    """One of overlay-layers/layers.json."""

    id: str
    parent: str = ""
    diff_size: int = msgspec.field(name="diff-size", default=0)  # in bytes, unpacked
    flags: Mapping[str, object] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all of it was unpacked, and it is not being removed."""
        return not (self.flags or {}).get("incomplete")


class Descriptor(Value):
    digest: str = ""


class Manifest(Value):
    """An image's, of either kind that there is; a list of manifests has no config."""

    config: Descriptor | None = None


class Settings(Value):
    """How an image is to be run."""

    user: str = msgspec.field(name="User", default="")
    env: Sequence[str] | None = msgspec.field(name="Env", default=None)
    entrypoint: Sequence[str] | None = msgspec.field(name="Entrypoint", default=None)
    cmd: Sequence[str] | None = msgspec.field(name="Cmd", default=None)
    working_dir: str = msgspec.field(name="WorkingDir", default="")
    volumes: Mapping[str, object] | None = msgspec.field(name="Volumes", default=None)
    stop_signal: str = msgspec.field(name="StopSignal", default="")
    labels: Mapping[str, str] | None = msgspec.field(name="Labels", default=None)


class ConfigFile(Value):
    config: Settings | None = None
