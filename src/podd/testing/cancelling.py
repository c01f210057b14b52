"""Cancel a call at each of its awaits, one after the other: what can be cancelled anywhere must be sound everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio

DELAYS_S = (0.0005, 0.001, 0.002, 0.004, 0.008)
"""A call that waits for somebody else is cancelled after these, too: much may happen behind one await."""

MOST_AWAITS = 1000


class _Suspensions(Awaitable[None]):
    """Awaits a coroutine and calls back right before its nth suspension is handed to the event loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], nth: int, callback: Callable[[], None]) -> None:
        self._coroutine, self._nth, self._callback = coroutine, nth, callback

    def __await__(self) -> Generator[Any, Any, None]:
        count = 0
        step: Callable[[], Any] = lambda: self._coroutine.send(None)  # noqa: E731
        while True:
            try:
                wanted = step()
            except StopIteration:
                return
            count += 1
            if count == self._nth:
                self._callback()
            try:
                value = yield wanted
            except BaseException as exc:  # noqa: BLE001  whatever it is, it is for the coroutine
                step = _thrower(self._coroutine, exc)
            else:
                step = _sender(self._coroutine, value)


def _sender(coroutine: Coroutine[Any, Any, object], value: object) -> Callable[[], Any]:
    return lambda: coroutine.send(value)


def _thrower(coroutine: Coroutine[Any, Any, object], exc: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(exc)


async def cancelled_everywhere(call: Callable[[], Coroutine[Any, Any, object]]) -> AsyncIterator[str]:
    """Make the call again and again, each time cancelled somewhere else; yields, after each, a word on where.

    First at each await in turn, until a call was through before its turn came; then after some delays.
    call: makes a fresh coroutine.
    """
    for nth in range(1, MOST_AWAITS):
        with anyio.CancelScope() as scope:
            await _Suspensions(call(), nth, scope.cancel)
        if not scope.cancelled_caught:
            yield "nowhere"
            break
        yield f"at await {nth}"
    else:
        raise AssertionError(f"the call awaits more than {MOST_AWAITS} times")
    for delay_s in DELAYS_S:
        with anyio.move_on_after(delay_s):
            await call()
        yield f"after {delay_s * 1000:g} ms"
