"""What dockerd tells of the ends of containers, as a bell for those who wait: they look for themselves.

Nothing is taken from an event but whom it is about, so a missed one costs nothing: whoever waits looks again whenever
dockerd has been away.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import anyio
import structlog

from podd.errors import PoddError, Unavailable
from podd_docker.api import Api
from podd_docker.plans import ID, OWNER

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
"""Between attempts to reach a dockerd that is away: it may be back at once, or tomorrow."""

FIRST_LOOK_S = 1.0
LONGEST_LOOK_S = 60.0
"""Between looks at one container that dockerd has no answer for: it may be busy with a hundred others."""

T = TypeVar("T")


class Pauses:
    """Between attempts at what fails: each twice as long as the one before, until one succeeds."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def next_s(self) -> float:
        pause_s, self._next_s = self._next_s, min(self._next_s * 2, self._longest_s)
        return pause_s

    def reset(self) -> None:
        self._next_s = self._first_s


class Bell:
    """Rings when there may be something new; several rings before somebody listens are one."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self) -> None:
        await self._rung.wait()
        self._rung = anyio.Event()


class Watch:
    def __init__(self, api: Api, owner: str) -> None:
        self._api = api
        self._filters = {"type": ["container"], "event": ["die", "destroy"], "label": [f"{OWNER}={owner}"]}
        self._bells: dict[str, set[Bell]] = defaultdict(set)
        self._quiet: set[str] = set()

    @contextmanager
    def bell(self, of: str) -> Iterator[Bell]:
        """Rings when the sandbox or container of that id has ended, is gone, or dockerd is back after it was away."""
        bell = Bell()
        self._bells[of].add(bell)
        try:
            yield bell
        finally:
            self._bells[of].discard(bell)
            if not self._bells[of]:
                del self._bells[of]

    def expect(self, of: str) -> None:
        """Before it is started, or found running: from here on an end of it is heard of."""
        self._quiet.add(of)

    async def until(self, of: str, look: Callable[[], Awaitable[T | None]]) -> T:
        """What look finds at last, None being nothing.

        It looks at once, unless an end was expected and nothing heard since; then whenever there may be something new,
        and after a while where dockerd did not answer.
        """
        pauses = Pauses(FIRST_LOOK_S, LONGEST_LOOK_S)
        with self.bell(of) as bell:
            if of in self._quiet:
                await bell.wait()
            while True:
                again_s = math.inf
                try:
                    if (found := await look()) is not None:
                        return found
                    pauses.reset()
                except Unavailable:
                    again_s = pauses.next_s()
                with anyio.move_on_after(again_s):
                    await bell.wait()

    def ring(self, of: str) -> None:
        self._quiet.discard(of)
        for bell in self._bells.get(of, ()):
            bell.ring()

    async def run(self) -> None:
        """Listen, forever. A dockerd that is away is waited for."""
        pauses, reached = Pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S), False
        while True:
            try:
                async with aclosing(self._api.events(self._filters)) as events:
                    async for event in events:
                        reached = True
                        pauses.reset()
                        self._on_event(event)
                why = "it closed the connection"
            except PoddError as exc:
                why = exc.message
            self._api.forget_version()
            if reached:
                log.warning("dockerd.lost", error=why)
                reached = False
            await anyio.sleep(pauses.next_s())

    def _on_event(self, event: Mapping[str, Any] | None) -> None:
        if event is None:
            self._ring_all()
        else:
            self.ring(event.get("Actor", {}).get("Attributes", {}).get(ID, ""))

    def _ring_all(self) -> None:
        for of in [*self._bells, *self._quiet]:
            self.ring(of)
