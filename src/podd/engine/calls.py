"""Calls of one pod's driver: each has a deadline and a line in the log, and fails as a value."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio

from podd.core import events as ev
from podd.errors import Internal, Kind, PoddError

T = TypeVar("T")

# How long a driver may take before the call counts as failed, in seconds. Making a container may mean reading an image
# from a slow disk; the others are a few system calls on the slowest sensible machine.
DEADLINES_S = {
    "recover": 30,
    "find_image": 30,
    "create_sandbox": 60,
    "create_container": 120,
    "start_containers": 30,
    "signal_containers": 15,
    "destroy_container": 60,
    "destroy_sandbox": 90,
    "pause": 15,
    "resume": 15,
    "resize": 30,
    "publish": 60,
    "network_status": 10,
    "sandbox_status": 15,
    "container_status": 15,
    "volumes": 120,
}


class Calls:
    def __init__(self, driver: str, log: Any, failpoint: Callable[[str], None]) -> None:
        """driver: its name. log: bound to the pod. failpoint: as in Surroundings."""
        self._driver = driver
        self._log = log
        self._failpoint = failpoint

    async def __call__(self, verb: str, call: Callable[[], Awaitable[T]]) -> tuple[T | None, ev.Failure | None]:
        """Every call of a driver goes through here: a deadline, a log line, no exception but cancellation."""
        limit_s = DEADLINES_S.get(verb, math.inf)
        began = anyio.current_time()
        answer: T | None = None
        failure: ev.Failure | None = None
        self._failpoint(f"driver.{verb}.before")
        try:
            with self._blaming(verb), anyio.move_on_after(limit_s) as scope:
                answer = await call()
        except PoddError as exc:
            failure = ev.Failure(kind=exc.kind, message=exc.message, remedy=exc.remedy)
        else:
            if scope.cancelled_caught:
                failure = ev.Failure(kind=Kind.UNAVAILABLE, message=f"{verb}: no answer within {limit_s} s")
        self._failpoint(f"driver.{verb}.after")
        took_ms = round((anyio.current_time() - began) * 1000, 2)
        if failure is None:
            self._log.debug("driver.called", verb=verb, took_ms=took_ms)
        elif failure.kind is not Kind.NOT_FOUND:
            self._log.warning("driver.failed", verb=verb, took_ms=took_ms, error=failure.message, remedy=failure.remedy)
        return answer, failure

    @contextmanager
    def _blaming(self, verb: str) -> Iterator[None]:
        """What a driver raises that is no podd error is a bug of that driver."""
        try:
            yield
        except PoddError:
            raise
        except Exception as exc:
            self._log.exception("driver.broke", verb=verb)
            what = f"{type(exc).__name__}: {exc}"
            raise Internal(f"driver {self._driver}: {verb}: {what}", remedy="see podd's log") from exc
