"""The logs of all containers, each brought over by a task of its own: see `logs`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio
import structlog
from anyio.abc import TaskGroup

from podd.errors import NotFound, PoddError
from podd_docker.api import Api
from podd_docker.flights import guarded
from podd_docker.found import Found
from podd_docker.logs import copy
from podd_docker.watch import Bell, Pauses, Watch

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Between attempts at a log that dockerd does not give; once dockerd is back, there is no pause."""

DRAIN_S = 5.0
"""How long an end may wait for the rest of its output: whoever is told of the end may read the log at once."""


class _Copying:
    """is_told: somebody has read that it does not get on."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self.pauses = Pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self.is_told = False

    def gets_on(self) -> None:
        self.pauses.reset()
        self.is_told = False


class Following:
    def __init__(self, api: Api, watch: Watch, tasks: TaskGroup, find: Callable[[str], Awaitable[Found]]) -> None:
        """find: a container by its id. Raises NotFound."""
        self._api = api
        self._watch = watch
        self._tasks = tasks
        self._find = find
        self._copying: dict[str, _Copying] = {}

    async def take_up(self, containers: Sequence[str]) -> None:
        """Those that run, or have run."""
        for of in containers:
            with suppress(NotFound):
                self.follow(await self._find(of))

    def follow(self, found: Found) -> _Copying | None:
        """Once, however often it is asked for. None: there is no log to be kept."""
        if found.log is None or found.started_at_ns is None:
            return None
        copying = self._copying.get(found.id)
        if copying is None:
            copying = self._copying[found.id] = _Copying()
            self._tasks.start_soon(guarded, self._copy, found, copying)
        return copying

    async def _copy(self, found: Found, copying: _Copying) -> None:
        try:
            with copying.scope, self._watch.bell(found.id) as bell:
                await self._copy_all(found, copying, bell)
        finally:
            copying.over.set()

    async def _copy_all(self, found: Found, copying: _Copying, bell: Bell) -> None:
        """Until it has ended, or is gone."""
        assert found.log is not None
        while True:
            try:
                await copy(self._api, found.docker_id, found.log, tty=found.tty, begun=copying.gets_on)
                if (await self._find(found.id)).has_ended:
                    return
            except NotFound:
                return
            except PoddError as exc:
                if not copying.is_told:
                    log.warning("log.interrupted", container=found.id, error=exc.message)
                    copying.is_told = True
            with anyio.move_on_after(copying.pauses.next_s()):
                await bell.wait()

    async def drained(self, found: Found) -> None:
        """Of one that has ended: return when all that it has said is there."""
        if copying := self.follow(found):
            await _over(copying)

    async def forget(self, container_id: str) -> None:
        """Of one that will be removed, once all that it has said is there."""
        if copying := self._copying.get(container_id):
            await _over(copying)
            copying.scope.cancel()
            self._copying.pop(container_id, None)


async def _over(copying: _Copying) -> None:
    with anyio.move_on_after(DRAIN_S):
        await copying.over.wait()
