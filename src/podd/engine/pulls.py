"""Pulls of images, of all drivers: each image once, and not too many at a time."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec
from anyio.abc import TaskGroup

from podd.driver.contract import Credentials, Image, ImageService, PullProgress
from podd.engine.flights import Flights, Tell


class Pulls:
    """However many want an image, it is one pull. Who has other passwords pulls by himself: else he would have, or be
    refused, an image for what another may.
    """

    def __init__(self, most: int) -> None:
        """most: at once. The others wait, and have their turn in the order in which they came."""
        self._flights: Flights[Image, PullProgress] = Flights()
        self._room = anyio.Semaphore(most)

    def run_in(self, tasks: TaskGroup) -> None:
        self._flights.run_in(tasks)

    async def pull(
        self,
        service: ImageService,
        reference: str,
        credentials: Sequence[Credentials],
        tell: Tell[PullProgress] = lambda _: None,
    ) -> Image:
        """Raises as ImageService.pull."""
        key = (service.name, reference, msgspec.json.encode(credentials, order="deterministic"))

        async def in_turn(told: Tell[PullProgress]) -> Image:
            if not self._room.value:
                told(PullProgress(queued=True))
            async with self._room:
                told(PullProgress())
                return await service.pull(reference, credentials, told)

        return await self._flights.join(key, in_turn, tell)
