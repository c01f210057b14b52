"""The images that podd itself keeps: found and listed in the store, brought and removed by skopeo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
import structlog

from podd.driver.contract import Credentials, Image, PullProgress
from podd.driver.hookspecs import ImagePlaces
from podd.errors import Conflict, Denied, Invalid, NotFound, PoddError, Unavailable
from podd.images import archives, credentials, registries, scratch
from podd.images.bars import Bars
from podd.images.failures import explained
from podd.images.skopeo import STALL_S, Failed, Skopeo
from podd.images.storage import Storage
from podd.images.tidying import TIDY_S, Tidying
from podd.model.image import DOCKER_HUB, LOCALHOST, ById, InFile, InStore, Named, Reference, parse, parse_bare

log = structlog.get_logger(__name__)

Progress = Callable[[PullProgress], None]

_opened: WeakValueDictionary[ImagePlaces, ContainersStorage] = WeakValueDictionary()


class ContainersStorage:
    """See podd.driver.contract.ImageService. One for each store, however many drivers run its images."""

    def __init__(self, places: ImagePlaces, storage: Storage, *, stall_s: float = STALL_S) -> None:
        """places: with both roots filled in. stall_s: see Skopeo."""
        self.name = f"containers-storage:{places.root}"
        self._places = places
        self.storage = storage
        self._skopeo = Skopeo(places, stall_s=stall_s)
        self._tidying = Tidying(places.root, storage, self._skopeo)

    # ---- what is here

    async def find(self, reference: str) -> Image | None:
        return await anyio.to_thread.run_sync(self._find, parse_bare(reference))

    def _find(self, reference: Reference) -> Image | None:
        found = (self.storage.find(name) for name in self._names(reference))
        return next((image for image in found if image is not None), None)

    def _names(self, reference: Reference) -> Sequence[str]:
        """As the store has it."""
        match reference:
            case Named():
                return [str(one) for one in self._registries().names(reference)]
            case InFile(kept_as=name):
                return [str(name)]
            case InStore(transport="docker-daemon", inner=Named() as inner):
                return [str(inner if inner.domain else inner.at(DOCKER_HUB))]
            case InStore(inner=inner):
                return self._names(inner)
            case ById(digits=digits):
                return [digits]

    def _registries(self) -> registries.Registries:
        return registries.load(self._places.registries)

    async def list(self) -> Sequence[Image]:
        return await anyio.to_thread.run_sync(self.storage.list)

    async def usage_bytes(self) -> int:
        return await anyio.to_thread.run_sync(self.storage.usage_bytes)

    # ---- bringing

    async def pull(self, reference: str, credentials: Sequence[Credentials], progress: Progress) -> Image:
        asked = parse_bare(reference)
        match asked:
            case ById() | InStore(transport="containers-storage"):
                return await self._there(asked)
            case InFile() | InStore():
                await self._bring(str(asked), str(asked), self._names(asked)[0], [None], progress)
                return await self._there(asked)
            case Named():
                return await self._pull(asked, credentials, progress)

    async def load(self, path: str, name: str, progress: Progress) -> Sequence[Image]:
        sources = await anyio.to_thread.run_sync(archives.sources, path)
        if name and len(sources) > 1:
            raise Invalid(f"{path}: holds {len(sources)} images: they cannot have one name", remedy="give no name")
        names = [_given(name) if name else _own_name(source) for source in sources]
        for source, kept in zip(sources, names, strict=True):
            await self._bring(source.place, source.place, kept, [None], progress)
        return [await self._there(parse(kept)) for kept in names]

    async def _pull(self, asked: Named, given: Sequence[Credentials], progress: Progress) -> Image:
        """The first of those that it may be. What was built on this host is in no registry, and is taken as it is."""
        if asked.domain in ("", LOCALHOST):
            built = await anyio.to_thread.run_sync(self._find, asked.at(LOCALHOST) if not asked.domain else asked)
            if built is not None:
                return built
        candidates = self._registries().candidates(asked)
        for number, candidate in enumerate(candidates, 1):
            try:
                tries = list(credentials.attempts(candidate, given))
                await self._bring(f"docker://{candidate}", str(candidate), str(candidate), tries, progress)
                return await self._there(candidate)
            except PoddError as exc:
                if number == len(candidates):
                    raise
                log.info("image.not_pulled", image=str(candidate), error=exc.message)
        raise AssertionError("there is always a candidate")

    async def _bring(
        self, source: str, shown: str, name: str, tries: Sequence[Mapping[str, Any] | None], progress: Progress
    ) -> None:
        """tries: with which credentials, until some will do."""
        for number, auth in enumerate(tries, 1):
            try:
                await self._copy(source, shown, name, auth, progress)
                break
            except Denied:
                if number == len(tries):
                    raise

    async def _copy(
        self, source: str, shown: str, name: str, auth: Mapping[str, Any] | None, progress: Progress
    ) -> None:
        """What it brought is whole, or removed again."""
        whole = False
        try:
            with scratch.made(self._places.root) as place, anyio.fail_after(self._places.pull_deadline_s):
                bars = Bars()
                look = partial(_tell, place.directory, bars, progress)
                draws = bars.feed if source.startswith("docker://") else None
                words = ["copy", source, self.storage.address(name)]
                await self._skopeo.run(words, place, auth=auth, look=look, shown=draws)
                whole = True
                scratch.remove(place.directory)
        except Failed as exc:
            raise explained(shown, str(exc)) from None
        except TimeoutError:
            limit_s = self._places.pull_deadline_s
            raise Unavailable(
                f"image {shown}: not here within {limit_s:g} s", remedy="raise images.pull_deadline_s"
            ) from None
        except PoddError as exc:
            raise type(exc)(f"image {shown}: {exc.message}", remedy=exc.remedy) from None
        finally:
            if not whole:
                with anyio.move_on_after(TIDY_S, shield=True):
                    await self.tidy()

    async def tidy(self) -> None:
        """Remove what pulls have left that were cancelled or failed, or that a podd had in hand which was killed."""
        await self._tidying.tidy()

    async def _there(self, reference: Reference) -> Image:
        found = await anyio.to_thread.run_sync(self._find, reference)
        if found is None:
            raise NotFound(f"image {reference}: it is not here", remedy="podd-cli image list shows what is")
        return found

    # ---- removing

    async def remove(self, reference: str) -> Sequence[str]:
        asked = parse_bare(reference)
        image = await self._there(asked)
        spoken = {*self._names(asked)}
        named = [name for name in image.names if name in spoken]
        if named and len(image.names) > 1:
            await self._tidying.unname(named[0])
            return named[:1]
        with scratch.made(self._places.root) as place:
            try:
                await self._skopeo.run(["delete", self.storage.address(f"@{image.id.removeprefix('sha256:')}")], place)
            except Failed as exc:
                raise _not_removed(reference, str(exc)) from None
            except PoddError as exc:
                raise type(exc)(f"image {reference}: {exc.message}", remedy=exc.remedy) from None
            finally:
                scratch.remove(place.directory)
        return [*image.names, image.id]


def opened(places: ImagePlaces) -> ContainersStorage:
    """The one of this store: what was read of it is known to all drivers, and classes of drivers, that share it."""
    found = _opened.get(places)
    if found is None:
        found = _opened[places] = ContainersStorage(places, Storage(places))
    return found


def _given(name: str) -> str:
    """What somebody calls an image without naming a registry is of this host."""
    asked = parse(name)
    if not isinstance(asked, Named) or asked.digest:
        raise Invalid(f"image {name!r}: is not a name that an image can be given", remedy="as in localhost/app:1.2")
    return str(asked if asked.domain else asked.at(LOCALHOST))


def _own_name(source: archives.Source) -> str:
    """In archives a name without a registry is one of docker's own."""
    asked = parse(source.name or source.place)
    if isinstance(asked, InFile):
        return str(asked.kept_as)
    if not isinstance(asked, Named) or asked.digest:
        raise Invalid(f"image {source.name!r}: is not a name that an image can have here", remedy="give it another")
    return str(asked if asked.domain else asked.at(DOCKER_HUB))


def _not_removed(reference: str, stderr: str) -> PoddError:
    why = explained(reference, stderr)
    if isinstance(why, Conflict | Unavailable):
        return why
    return Unavailable(f"image {reference}: {why.message}", remedy=why.remedy)


def _tell(directory: str, bars: Bars, progress: Progress) -> None:
    """By the bars, or where there are none by the files that are on their way."""
    progress(bars.progress() or PullProgress(done_bytes=scratch.fetched_bytes(directory)))
