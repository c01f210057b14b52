"""The images of a FakeHost: those that a test says are elsewhere must be pulled, any other is there."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from podd.driver.contract import Credentials, Image, PullProgress
from podd.errors import NotFound
from podd.model.image import parse_bare
from podd.testing.fakehost import FakeHost

Do = Callable[[str, str, Sequence[str], Callable[[], Any]], Awaitable[Any]]


class FakeImages:
    """See podd.driver.contract.ImageService. Faults are those of the verbs "find" and "pull", of a reference.

    host.remote says of a reference how many seconds it takes to pull. The journal has the effects pulled,
    pull_cancelled and image_removed.
    """

    name = "fake"

    def __init__(self, host: FakeHost, do: Do) -> None:
        self._host = host
        self._do = do
        self.given: list[Sequence[Credentials]] = []
        """With which credentials each pull was asked for."""

    async def find(self, reference: str) -> Image | None:
        parse_bare(reference)
        found: Image | None = await self._do("find", reference, (reference,), lambda: self._find(reference))
        return found

    def _find(self, reference: str) -> Image | None:
        pulled = self._pulled(reference)
        if pulled is not None or reference in self._host.remote:
            return self._host.images.get(pulled or "")
        return made_up(reference)

    def _pulled(self, reference: str) -> str | None:
        """The name of an image that has that name, or that id."""
        return next((name for name, one in self._host.images.items() if reference in (name, one.id)), None)

    async def pull(
        self, reference: str, credentials: Sequence[Credentials], progress: Callable[[PullProgress], None]
    ) -> Image:
        self.given.append(credentials)
        self._host.note("effect", "pulling", reference, reference)

        def pulled() -> Image:
            self._host.note("effect", "pulled", reference, reference)
            image = self._host.images[reference] = made_up(reference)
            return image

        try:
            progress(PullProgress(done_bytes=1, message="1 layers"))
            await anyio.sleep(self._host.remote.get(reference, 0))
            image: Image = await self._do("pull", reference, (reference,), pulled)
        except anyio.get_cancelled_exc_class():
            self._host.note("effect", "pull_cancelled", reference, reference)
            raise
        return image

    async def load(self, source: str, name: str, progress: Callable[[PullProgress], None]) -> Sequence[Image]:
        return [await self.pull(name or f"localhost{source}", [], progress)]

    async def list(self) -> Sequence[Image]:
        return list(self._host.images.values())

    async def remove(self, reference: str) -> Sequence[str]:
        parse_bare(reference)
        found = self._pulled(reference)
        if found is None:
            raise NotFound(f"image {reference}: it is not here")
        self._host.note("effect", "image_removed", found, found)
        return [found, self._host.images.pop(found).id]

    async def usage_bytes(self) -> int:
        return sum(one.size_bytes for one in self._host.images.values())


def made_up(reference: str) -> Image:
    return Image(
        id=f"sha256:{hashlib.sha256(reference.encode()).hexdigest()}", names=[reference], size_bytes=len(reference)
    )
