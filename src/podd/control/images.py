"""The methods of io.podd that are about images."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from podd.control.dispatch import Context, Method
from podd.control.messages import Parameters
from podd.driver.contract import PullProgress
from podd.engine.clock import rfc3339
from podd.engine.view import ImagesPruned, ImageUsage, ImageView
from podd.errors import Invalid
from podd.model.value import Value

Progress = Callable[[PullProgress], Awaitable[None]]


class Images(Protocol):
    """What they ask of the engine. driver None: the default one. Raises Unsupported: it has no images."""

    async def pull(self, reference: str, driver: str | None, progress: Progress) -> ImageView:
        """With the passwords of the host. Raises as podd.driver.contract.ImageService."""
        ...

    async def load(self, source: str, name: str, driver: str | None, progress: Progress) -> Sequence[ImageView]:
        """name "": those that the images have there."""
        ...

    async def list(self, driver: str | None) -> Sequence[ImageView]: ...

    async def inspect(self, reference: str, driver: str | None) -> ImageView: ...

    async def remove(self, reference: str, driver: str | None) -> Sequence[str]:
        """What is gone: names and ids. Raises Conflict: pods use it, and are named."""
        ...

    async def prune(self, driver: str | None, *, every: bool) -> ImagesPruned: ...

    async def usage(self, driver: str | None) -> ImageUsage: ...


class OneImage(Parameters):
    reference: str
    driver: str | None = None


class OneDriver(Parameters):
    driver: str | None = None


class PruneParameters(Parameters):
    all: bool | None = None
    driver: str | None = None


class ImportParameters(Parameters):
    source: str
    name: str | None = None
    driver: str | None = None


class ImageObject(Value):
    id: str
    names: Sequence[str]
    digests: Sequence[str]
    size_bytes: int
    created_at: str | None
    user: str
    labels: Mapping[str, str]
    pods: Sequence[str]

    @classmethod
    def of(cls, view: ImageView) -> ImageObject:
        image = view.image
        return cls(
            id=image.id,
            names=image.names,
            digests=image.digests,
            size_bytes=image.size_bytes,
            created_at=None if image.created_at_ns is None else rfc3339(image.created_at_ns),
            user=image.user,
            labels=image.labels,
            pods=view.pods,
        )


class ImageReply(Value):
    image: ImageObject


class PullReply(Value):
    progress: PullProgress | None = None
    image: ImageObject | None = None


class ImportReply(Value):
    progress: PullProgress | None = None
    images: Sequence[ImageObject] | None = None


class ImagesReply(Value):
    images: Sequence[ImageObject]


class RemovedReply(Value):
    removed: Sequence[str]


class ImageMethods:
    def __init__(self, images: Images) -> None:
        self._images = images

    def table(self) -> dict[str, Method]:
        return {
            "PullImage": Method(OneImage, self._pull, more="optional", changes=True),
            "ImportImage": Method(ImportParameters, self._import, more="optional", changes=True),
            "Images": Method(OneDriver, self._list),
            "InspectImage": Method(OneImage, self._inspect),
            "RemoveImage": Method(OneImage, self._remove, changes=True),
            "PruneImages": Method(PruneParameters, self._prune, changes=True),
            "ImageUsage": Method(OneDriver, self._usage),
        }

    async def _pull(self, context: Context, asked: OneImage) -> PullReply:
        async def progress(step: PullProgress) -> None:
            await context.reply(PullReply(progress=step))

        return PullReply(image=ImageObject.of(await self._images.pull(asked.reference, asked.driver, progress)))

    async def _import(self, context: Context, asked: ImportParameters) -> ImportReply:
        async def progress(step: PullProgress) -> None:
            await context.reply(ImportReply(progress=step))

        if "\0" in asked.source or not asked.source:
            raise Invalid("source: is no file")
        views = await self._images.load(asked.source, asked.name or "", asked.driver, progress)
        return ImportReply(images=[ImageObject.of(view) for view in views])

    async def _list(self, _: Context, asked: OneDriver) -> ImagesReply:
        return ImagesReply(images=[ImageObject.of(view) for view in await self._images.list(asked.driver)])

    async def _inspect(self, _: Context, asked: OneImage) -> ImageReply:
        return ImageReply(image=ImageObject.of(await self._images.inspect(asked.reference, asked.driver)))

    async def _remove(self, _: Context, asked: OneImage) -> RemovedReply:
        return RemovedReply(removed=await self._images.remove(asked.reference, asked.driver))

    async def _prune(self, _: Context, asked: PruneParameters) -> ImagesPruned:
        return await self._images.prune(asked.driver, every=bool(asked.all))

    async def _usage(self, _: Context, asked: OneDriver) -> ImageUsage:
        return await self._images.usage(asked.driver)
