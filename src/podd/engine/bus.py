"""Telling many watchers what happens, without ever waiting for one of them.

A publisher is an actor in the middle of its work, so publishing takes constant time and bounded memory: each watcher
has a queue of its own, and one that lets it fill up is told so and dropped. What it missed it can list.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from podd.errors import Unavailable

QUEUE_LENGTH = 1024

T = TypeVar("T")


class Watch(Generic[T]):
    """What one watcher receives, in the order in which it was published. For one task; close it, or use it in `with`.

    Iteration ends when the bus is closed. It raises Unavailable, after everything that was still queued, when the
    watcher was too slow.
    """

    def __init__(self, bus: Bus[T], want: Callable[[T], bool], limit: int) -> None:
        self._bus = bus
        self._want = want
        self._overflown = False
        self._sender: MemoryObjectSendStream[T]
        self._receiver: MemoryObjectReceiveStream[T]
        self._sender, self._receiver = anyio.create_memory_object_stream(limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._receiver.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            if self._overflown:
                raise overflow() from None
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Receive nothing more. Twice is fine."""
        self._bus._forget(self)  # noqa: SLF001  the two are one module's secret
        self._sender.close()
        self._receiver.close()

    def _offer(self, item: T) -> bool:
        """False: it had to be dropped, and nothing more may be offered."""
        if not self._want(item):
            return True
        try:
            self._sender.send_nowait(item)
        except anyio.WouldBlock:
            self._overflown = True
            self._sender.close()
            return False
        except anyio.BrokenResourceError:
            return False
        return True

    def _end(self) -> None:
        self._sender.close()


class Bus(Generic[T]):
    """Any number of publishers and watchers of one event loop."""

    def __init__(self) -> None:
        self._watches: dict[int, Watch[T]] = {}  # by id(): in order of subscription
        self._closed = False

    @property
    def watchers(self) -> int:
        return len(self._watches)

    def publish(self, item: T) -> None:
        """Give it to everyone who watches now. Never waits; after `close` it does nothing."""
        for watch in [watch for watch in self._watches.values() if not watch._offer(item)]:  # noqa: SLF001
            self._forget(watch)

    def subscribe(self, want: Callable[[T], bool] | None = None, *, limit: int = QUEUE_LENGTH) -> Watch[T]:
        """Everything published from this moment on.

        want: leaves out what it answers False to, so that it takes no place in the queue. limit: length of the queue.
        """
        assert 0 < limit < math.inf
        watch = Watch(self, want or (lambda _item: True), limit)
        if self._closed:
            watch._end()  # noqa: SLF001
        else:
            self._watches[id(watch)] = watch
        return watch

    def close(self) -> None:
        """End every watch once it has drained its queue."""
        self._closed = True
        for watch in self._watches.values():
            watch._end()  # noqa: SLF001
        self._watches.clear()

    def _forget(self, watch: Watch[T]) -> None:
        self._watches.pop(id(watch), None)


def overflow() -> Unavailable:
    """What a watcher that was dropped is told."""
    return Unavailable(
        "watch: dropped: it did not keep up with what happened", remedy="list again and watch from there"
    )
