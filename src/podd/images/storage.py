"""Read a containers/storage, which skopeo fills: podd's own, or the one that podman, buildah and CRI-O share.

Nothing is written here, and no lock is taken: every file of the store is replaced whole, an image is written down after
its layers and struck out before them. So an image that is there, and that still is after its layers were opened, has
had all of them. The store's own locks are held for as long as a layer is unpacked, which nobody who starts a pod should
wait for.

What is read is kept until a file changes. Everything here blocks: for worker threads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from podd.driver.contract import Image
from podd.driver.hookspecs import ImagePlaces
from podd.errors import Invalid, NotFound, Unavailable, Unsupported
from podd.images.index import Index, Listed, bare, file_name, nanoseconds, read_bounded, repository, short
from podd.images.records import ConfigFile, ImageRecord, LayerRecord, Manifest, Settings
from podd.model.value import Value

LIMIT_BYTES = 4 * 1024 * 1024
"""Of an image's manifest, and of its config: skopeo takes no larger ones either."""

T = TypeVar("T")


class ImageConfig(Value):
    """How an image says that it is to be run. All of it is what a stranger wrote: checked where it is used."""

    user: str = ""  # "", "1000", "nobody", "1000:100", "app:app"
    env: Sequence[tuple[str, str]] = ()
    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ()
    working_dir: str = ""
    volumes: Sequence[str] = ()
    stop_signal: str = ""  # "SIGQUIT", "3"
    labels: Mapping[str, str] = {}

    @classmethod
    def of(cls, settings: Settings) -> ImageConfig:
        return cls(
            user=settings.user,
            env=[(name, value) for name, _, value in (pair.partition("=") for pair in settings.env or ()) if name],
            entrypoint=settings.entrypoint or (),
            cmd=settings.cmd or (),
            working_dir=settings.working_dir,
            volumes=list(settings.volumes or ()),
            stop_signal=settings.stop_signal,
            labels=settings.labels or {},
        )


class Storage:
    """What is in the store at this moment. Safe to be used by several threads."""

    def __init__(self, places: ImagePlaces) -> None:
        """places: with both roots filled in."""
        self._places = places
        self._images = Listed(f"{places.root}/overlay-images/images.json", ImageRecord)
        self._layers = Listed(f"{places.root}/overlay-layers/layers.json", LayerRecord)
        self._read: tuple[object, Index] | None = None
        self._configs: dict[str, ImageConfig] = {}

    def address(self, name: str) -> str:
        """Of an image in this store, in skopeo's words. The store is not mounted onto itself, as it would be else.

        Raises Invalid: the store's path cannot be said so.
        """
        roots = (self._places.root, self._places.run_root)
        for root in roots:
            if found := re.search(r"[+:,\[\]]", root):
                raise Invalid(
                    f"images: {root}: skopeo takes no path with {found[0]!r} in it",
                    remedy="set images.root and images.run_root in podd.toml",
                )
        return f"containers-storage:[overlay@{roots[0]}+{roots[1]}:overlay.skip_mount_home=true]{name}"

    def find(self, reference: str) -> Image | None:
        """By a name as the store has it, by a name with a digest, by an id or at least SHORTEST_ID digits of one.

        Raises Invalid: several ids begin so.
        """
        index = self._index()
        record = index.find(reference)
        return None if record is None else self._image(record, index)

    def list(self) -> Sequence[Image]:
        index = self._index()
        return [self._image(record, index) for record in index.images.values()]

    def layers(self, image_id: str) -> Sequence[str]:
        """The directories that make its root file system, the topmost first.

        Raises NotFound: there is no such image, or a layer is missing; Invalid: it has no layers; Unsupported: its
        layers are kept in a way that takes composefs to read.
        """
        index = self._index()
        record = index.record(image_id)
        chain = [layer.id for layer in index.chain(record)]
        if not chain:
            raise Invalid(f"image {short(record)}: it has no layers: there is nothing in it to run")
        overlay = f"{self._places.root}/overlay"
        if os.path.lexists(f"{overlay}/{chain[0]}/composefs-data"):
            raise Unsupported(
                f"image {short(record)}: its layers are stored for composefs",
                remedy="set use_composefs to false in storage.conf, and pull it again",
            )
        return [f"{overlay}/{layer}/diff" for layer in chain]

    def config(self, image_id: str) -> ImageConfig:
        """Raises NotFound: there is no such image; Invalid: it is no image of a container, or says nonsense."""
        record = self._index().record(image_id)
        config = self._configs.get(record.id)
        if config is None:
            config = self._configs[record.id] = ImageConfig.of(self._settings(record))
        return config

    def holds(self, image_id: str) -> bool:
        """Whether it is there now: then what was opened of its layers before was whole."""
        return bare(image_id) in self._index().images

    def usage_bytes(self) -> int:
        """What the layers of all images hold, each counted once."""
        index = self._index()
        used = {layer.id: layer.diff_size for record in index.images.values() for layer in index.found(record)}
        return sum(used.values())

    # ---- reading

    def _index(self) -> Index:
        """Images first: the layers of one that is there are there, too."""
        images_version, images = self._images.read()
        layers_version, layers = self._layers.read()
        versions, read = (images_version, layers_version), self._read
        if read is None or read[0] != versions:
            read = self._read = (versions, Index(images, layers))
            self._configs = {}
        return read[1]

    def _image(self, record: ImageRecord, index: Index) -> Image:
        try:
            config = self.config(record.id)
        except (NotFound, Invalid):  # it is there all the same, and can be removed
            config = ImageConfig()
        names = record.names or ()
        return Image(
            id=f"sha256:{record.id}",
            names=[name for name in names if "@" not in name],
            digests=[f"{one}@{digest}" for one in dict.fromkeys(map(repository, names)) for digest in record.digests],
            size_bytes=sum(layer.diff_size for layer in index.found(record)),
            created_at_ns=nanoseconds(record.created),
            user=config.user,
            labels=config.labels,
        )

    def _settings(self, record: ImageRecord) -> Settings:
        manifest = self._decode(record, "manifest", Manifest)
        if manifest.config is None or not manifest.config.digest:
            raise Invalid(
                f"image {short(record)}: it is a list of images, or one of a kind that nothing runs any more",
                remedy="pull the one for this machine",
            )
        return self._decode(record, manifest.config.digest, ConfigFile).config or Settings()

    def _decode(self, record: ImageRecord, name: str, kind: type[T]) -> T:
        """Of what is kept beside an image under that name."""
        path = f"{self._places.root}/overlay-images/{record.id}/{file_name(name)}"
        try:
            return msgspec.json.decode(read_bounded(path, LIMIT_BYTES), type=kind)
        except FileNotFoundError as exc:
            raise NotFound(f"image {short(record)}: {name} is missing", remedy="pull it again") from exc
        except OSError as exc:
            raise Unavailable(f"image {short(record)}: {path}: {exc.strerror}") from exc
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise Invalid(f"image {short(record)}: {name}: {exc}", remedy="pull it again") from exc
