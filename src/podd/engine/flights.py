"""Work that several may wait for: done once, and given up when nobody waits any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import anyio
import structlog
from anyio.abc import TaskGroup

from podd.errors import Internal, PoddError, Unavailable

T = TypeVar("T")
P = TypeVar("P")

log = structlog.get_logger()

Tell = Callable[[P], None]


class _Flight(Generic[T, P]):
    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.listeners: list[Tell[P]] = []  # one for each who waits
        self.newest: P | None = None
        self.result: T | None = None
        self.failure: PoddError | None = None

    def tell(self, progress: P) -> None:
        self.newest = progress
        for listener in list(self.listeners):
            listener(progress)


class Flights(Generic[T, P]):
    """Of one kind of work, told apart by keys."""

    def __init__(self) -> None:
        self._tasks: TaskGroup | None = None
        self._flights: dict[Hashable, _Flight[T, P]] = {}

    def run_in(self, tasks: TaskGroup) -> None:
        self._tasks = tasks

    async def join(self, key: Hashable, work: Callable[[Tell[P]], Awaitable[T]], tell: Tell[P]) -> T:
        """What work gives, begun now or by somebody before. tell: how it goes on. Raises as work does."""
        while True:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._begin(key, work)
            if not flight.scope.cancel_called:
                await self._wait(flight, tell)
            else:
                await flight.done.wait()  # what it has begun is being undone
            if flight.failure is not None:
                raise type(flight.failure)(
                    flight.failure.message, remedy=flight.failure.remedy, **flight.failure.facts
                ) from flight.failure
            if flight.result is not None:
                return flight.result

    async def _wait(self, flight: _Flight[T, P], tell: Tell[P]) -> None:
        flight.listeners.append(tell)
        try:
            if flight.newest is not None:  # who joins late knows as much as the others
                tell(flight.newest)
            await flight.done.wait()
        finally:
            flight.listeners.remove(tell)
            if not flight.listeners and not flight.done.is_set():
                flight.scope.cancel()

    def _begin(self, key: Hashable, work: Callable[[Tell[P]], Awaitable[T]]) -> _Flight[T, P]:
        if self._tasks is None:
            raise Unavailable("podd: is not ready yet")
        flight = self._flights[key] = _Flight()
        self._tasks.start_soon(self._fly, key, flight, work)
        return flight

    async def _fly(self, key: Hashable, flight: _Flight[T, P], work: Callable[[Tell[P]], Awaitable[T]]) -> None:
        try:
            with flight.scope:
                flight.result = await work(flight.tell)
        except PoddError as exc:
            flight.failure = exc
        except Exception as exc:
            log.exception("flight.failed", remedy="this is a bug in podd or in a plugin: report it with this traceback")
            flight.failure = Internal(f"unexpected {type(exc).__name__}: {exc}", remedy="see podd's log")
        finally:
            del self._flights[key]
            flight.done.set()
