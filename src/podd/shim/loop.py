"""One epoll, one heap of timers, and coroutines that wait for them: all the concurrency that a shim has.

Nothing here wakes up by itself: without a ready descriptor and without a timer the process sleeps for ever.
"""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT


class Later(Generic[T]):
    """A value that will be there: awaited by any number of coroutines, set once; set again, it stays as it is."""

    __slots__ = ("_done", "_value", "_waiters")

    def __init__(self) -> None:
        self._done = False
        self._waiters: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        return self._done

    @property
    def value(self) -> T:
        """Only when done."""
        return self._value

    def set(self, value: T) -> None:
        if self._done:
            return
        self._value, self._done = value, True
        waiters, self._waiters = self._waiters, []
        for resume in waiters:
            resume()

    def when_done(self, callback: Callable[[], None]) -> None:
        if self._done:
            callback()
        else:
            self._waiters.append(callback)

    def __await__(self) -> Generator[Later[Any], None, T]:
        if not self._done:
            yield self
        return self._value


class Loop:
    """Calls back when descriptors are ready and timers are due; drives coroutines that await a `Later`."""

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        """on_error is told what a callback or a coroutine raised, always a bug; the loop goes on.

        The loop may be made before a fork: nothing of it is the kernel's until `open`.
        """
        self._epoll: select.epoll
        self._watched: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._on_error = on_error

    def open(self) -> Loop:
        """Before anything else, in the process that will run it."""
        self._epoll = select.epoll()
        return self

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Level-triggered. callback gets the ready events; EPOLLHUP and EPOLLERR come unasked."""
        self._epoll.register(fd, events)
        self._watched[fd] = callback

    def rewatch(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching fd, before it is closed. Of a descriptor that is not watched: nothing."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._timers, (time.monotonic() + delay_s, self._sequence, callback))

    def watches(self, fd: int) -> bool:
        return fd in self._watched

    def ready(self, fd: int, events: int = READABLE) -> Later[None]:
        """Done once, when fd is ready; fd is not watched any more then."""
        later: Later[None] = Later()

        def fire(_: int) -> None:
            self.forget(fd)
            later.set(None)

        self.watch(fd, events, fire)
        return later

    def sleep(self, delay_s: float) -> Later[None]:
        later: Later[None] = Later()
        self.after(delay_s, lambda: later.set(None))
        return later

    def spawn(self, coroutine: Coroutine[Later[Any], None, object]) -> None:
        """Run coroutine up to its first wait now, the rest as what it waits for comes."""
        self._step(coroutine)

    def _step(self, coroutine: Coroutine[Later[Any], None, object]) -> None:
        try:
            waits_for = coroutine.send(None)
        except StopIteration:
            return
        except Exception as exc:  # noqa: BLE001 - a bug in one task is not the end of all
            self._on_error(exc)
            return
        waits_for.when_done(lambda: self._step(coroutine))

    def run(self, until: Later[None]) -> None:
        """Serve until `until` is done."""
        while not until.done:
            ready = self._epoll.poll(self._timeout_s())
            for fd, events, callback in [(fd, events, self._watched[fd]) for fd, events in ready]:
                if self._watched.get(fd) is callback:  # else an earlier callback of this round has dropped it
                    self._call(callback, events)
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._call(heapq.heappop(self._timers)[2])

    def _timeout_s(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _call(self, callback: Callable[..., None], *args: int) -> None:
        try:
            callback(*args)
        except Exception as exc:  # noqa: BLE001 - as above
            self._on_error(exc)
