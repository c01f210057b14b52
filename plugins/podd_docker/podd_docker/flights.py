"""Requests under way, each carried to its end whoever still waits for it.

dockerd goes on with a request whose client has left. So a caller that is cancelled must not take the request with it:
the next caller joins the one that is under way, and who destroys waits until nothing more can appear.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import structlog
from anyio.abc import TaskGroup

log = structlog.get_logger(__name__)

T = TypeVar("T")

Key = tuple[str, ...]
"""What is done, and the ids to which."""


async def guarded(work: Callable[..., Awaitable[None]], *args: object) -> None:
    """Work in the background whose failure must cost nothing else."""
    try:
        await work(*args)
    except Exception:
        log.exception("driver.broken", work=work.__qualname__, remedy="report this: it is a bug in podd")


class _Flight:
    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.result: Any = None
        self.error: Exception | None = None


class Flights:
    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._flights: dict[str, dict[Key, _Flight]] = {}

    async def join(self, sandbox: str, key: Key, call: Callable[[], Awaitable[T]]) -> T:
        """What call answers; one that is under way with the same key is waited for instead."""
        flights = self._flights.setdefault(sandbox, {})
        flight = flights.get(key)
        if flight is None:
            flight = flights[key] = _Flight()
            self._tasks.start_soon(self._fly, sandbox, key, flight, call)
        await flight.landed.wait()
        if flight.error is not None:
            raise flight.error
        result: T = flight.result
        return result

    async def settled(self, sandbox: str, *, but: Key, of: str = "") -> None:
        """Return when nothing is under way for the sandbox, except what has this key. of: nothing for this id alone."""
        while others := [
            flight for key, flight in self._flights.get(sandbox, {}).items() if key != but and (not of or of in key)
        ]:
            for flight in others:
                await flight.landed.wait()

    async def all_settled(self) -> None:
        for sandbox in list(self._flights):
            await self.settled(sandbox, but=())

    def sandboxes(self) -> set[str]:
        return set(self._flights)

    async def _fly(self, sandbox: str, key: Key, flight: _Flight, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            flight.result = await call()
        except Exception as exc:  # noqa: BLE001  whoever waits is told
            flight.error = exc
        finally:
            del self._flights[sandbox][key]
            if not self._flights[sandbox]:
                del self._flights[sandbox]
            flight.landed.set()
