"""What people do with images: bring, look at, remove. Those that pods use stay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

from podd.core.state import PodState
from podd.driver.contract import Image, ImageService, PullProgress
from podd.engine.drivers import Drivers
from podd.engine.flights import Tell
from podd.engine.images import service_of
from podd.engine.pulls import Pulls
from podd.engine.registry import Registry
from podd.engine.view import ImagesPruned, ImageUsage, ImageView
from podd.errors import Conflict, Internal, NotFound, PoddError, Unsupported
from podd.model.image import ById, parse_bare

TOLD_S = 0.2  # between two words on how far a pull is

T = TypeVar("T")

Progress = Callable[[PullProgress], Awaitable[None]]


class ImageVerbs:
    """driver None: the default one. See podd.control.images.Images for the rest."""

    def __init__(self, registry: Registry, drivers: Drivers, pulls: Pulls) -> None:
        self._registry = registry
        self._drivers = drivers
        self._pulls = pulls

    async def pull(self, reference: str, driver: str | None, progress: Progress) -> ImageView:
        service = self._service(driver)
        parse_bare(reference)
        image = await _told(lambda tell: self._pulls.pull(service, reference, [], tell), progress)
        return self._view(service, image)

    async def load(self, source: str, name: str, driver: str | None, progress: Progress) -> Sequence[ImageView]:
        service = self._service(driver)
        images = await _told(lambda tell: service.load(source, name, tell), progress)
        return [self._view(service, image) for image in images]

    async def list(self, driver: str | None) -> Sequence[ImageView]:
        service = self._service(driver)
        views = [self._view(service, image) for image in await service.list()]
        return sorted(views, key=lambda view: (not view.image.names, view.image.names, view.image.id))

    async def inspect(self, reference: str, driver: str | None) -> ImageView:
        service = self._service(driver)
        return self._view(service, await _there(service, reference))

    async def remove(self, reference: str, driver: str | None) -> Sequence[str]:
        service = self._service(driver)
        image = await _there(service, reference)
        goes = len(image.names) <= 1 or isinstance(parse_bare(reference), ById)
        if goes and (pods := self._users(service, image)):
            raise Conflict(
                f"image {reference}: is used by {', '.join(f'pod {pod}' for pod in pods)}",
                remedy="delete what uses it first",
                pods=list(pods),
            )
        return await service.remove(reference)

    async def prune(self, driver: str | None, *, every: bool) -> ImagesPruned:
        """every: those that have a name, too."""
        service = self._service(driver)
        before = await service.usage_bytes()
        removed: list[str] = []
        for image in await service.list():
            if (image.names and not every) or self._users(service, image):
                continue
            try:
                removed += await service.remove(image.id)
            except (Conflict, NotFound):  # podman's or buildah's, or removed by them
                continue
        return ImagesPruned(removed=removed, freed_bytes=max(0, before - await service.usage_bytes()))

    async def usage(self, driver: str | None) -> ImageUsage:
        service = self._service(driver)
        images = await service.list()
        unused = [image for image in images if not self._users(service, image)]
        return ImageUsage(
            service=service.name, images=len(images), unused=len(unused), size_bytes=await service.usage_bytes()
        )

    # ---- inside

    def _service(self, driver: str | None) -> ImageService:
        choice = self._drivers.choice
        name = driver or choice.default
        found = choice.drivers.get(name)
        if found is None:
            raise NotFound(f"driver {name}: there is none", remedy=f"here are: {', '.join(choice.drivers) or 'none'}")
        service = service_of(found)
        if service is None:
            raise Unsupported(f"driver {name}: has no images that podd could see to")
        return service

    def _view(self, service: ImageService, image: Image) -> ImageView:
        return ImageView(image=image, pods=self._users(service, image))

    def _users(self, service: ImageService, image: Image) -> Sequence[str]:
        """Pods that are there, also those that have ended, as NAMESPACE/NAME."""
        return [
            f"{actor.state.pod.metadata.namespace}/{actor.state.pod.metadata.name}"
            for actor in self._registry.all()
            if image.id in _used(actor.state)
            and (its := service_of(actor.driver)) is not None
            and its.name == service.name
        ]


def _used(state: PodState) -> set[str]:
    running = (getattr(member.instance, "image_id", "") for member in state.members.values())
    return {*state.image_ids.values(), *running}


async def _there(service: ImageService, reference: str) -> Image:
    found = await service.find(reference)
    if found is None:
        raise NotFound(f"image {reference}: it is not here", remedy="podd-cli image list shows what is")
    return found


async def _told(work: Callable[[Tell[PullProgress]], Awaitable[T]], progress: Progress) -> T:
    """Do it, and tell now and then how far it is; who listens slowly holds nothing up."""
    newest: list[PullProgress] = []
    failures: list[PoddError] = []
    results: list[T] = []

    async def tell() -> None:
        while True:
            await anyio.sleep(TOLD_S)
            if newest:
                await progress(newest.pop())

    def note(step: PullProgress) -> None:
        newest[:] = [step]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell)
        try:
            results.append(await work(note))
        except PoddError as exc:  # as it is, and not in a group
            failures.append(exc)
        tasks.cancel_scope.cancel()
    for failure in failures:
        raise failure
    if not results:
        raise Internal("image: nothing came of it")
    return results[0]
