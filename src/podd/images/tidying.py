"""Take out of a store what no image has, and names that images are to lose: by skopeo, which has no verb for either.

Both take an image made here that is nothing but a config: see `podd.images.leftovers`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress

import anyio
import anyio.to_thread
import msgspec
import structlog

from podd.errors import PoddError
from podd.images import leftovers, scratch
from podd.images.failures import explained
from podd.images.skopeo import Failed, Scratch, Skopeo
from podd.images.storage import Storage

log = structlog.get_logger(__name__)

TIDY_S = 60
NAME = "localhost/podd-leftover"


class Tidying:
    def __init__(self, root: str, storage: Storage, skopeo: Skopeo) -> None:
        self._root = root
        self._storage = storage
        self._skopeo = skopeo

    async def tidy(self) -> None:
        """What cannot be removed now is tried again after the next pull, and when podd is started."""
        await anyio.to_thread.run_sync(leftovers.remove_unfinished, self._root)
        for place in scratch.abandoned(self._root):
            try:
                await self._clear(place)
            except (PoddError, Failed, OSError, msgspec.DecodeError) as exc:
                log.warning("image.leftovers", directory=place.directory, error=str(exc))

    async def _clear(self, place: Scratch) -> None:
        await anyio.to_thread.run_sync(scratch.clear, place.directory)
        own = set(scratch.blobs(place.directory))
        others = {
            blob for one in scratch.everywhere(self._root) if one != place.directory for blob in scratch.blobs(one)
        }
        for chain in await anyio.to_thread.run_sync(leftovers.found, self._root, own - others):
            await self._remove(chain, place)
        if not own & others:  # what another pull is after may come to be used, or left, by that
            scratch.remove(place.directory)

    async def _remove(self, chain: Sequence[str], place: Scratch) -> None:
        mark = secrets.token_hex(8)
        source = leftovers.write_image(f"{place.directory}/{mark}", chain)
        address = self._storage.address(f"{NAME}:{mark}")
        await self._skopeo.run(["copy", source, address], place)
        await self._skopeo.run(["delete", address], place)

    async def unname(self, name: str) -> None:
        """Take a name from an image that has others: given to an image of nothing, it goes with that."""
        with scratch.made(self._root) as place:
            mark = secrets.token_hex(8)
            source = leftovers.write_image(f"{place.directory}/{mark}", [])
            try:
                await self._skopeo.run(["copy", source, self._storage.address(name)], place)
                await self._skopeo.run(["delete", self._storage.address(name)], place)
            except Failed as exc:
                raise explained(name, str(exc)) from None
            finally:
                with suppress(OSError):
                    scratch.remove(place.directory)
