"""Bytes between this process's own descriptors and those of a command or container, without threads.

An inlet is read only while its outlets have nothing left to write: a slow reader slows its own writer and nobody else,
and input and output never wait for each other.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from contextlib import suppress

CHUNK = 64 * 1024


class Outlet:
    """A descriptor to write to. owned: it is closed when all is written after `end`, or when nobody reads it."""

    def __init__(self, descriptor: int, *, owned: bool = False) -> None:
        self.descriptor = descriptor
        self.pending = b""
        self.gone = False
        self._owned = owned
        self._ended = False

    def put(self, data: bytes) -> None:
        if not self.gone:
            self.pending += data

    def write(self) -> None:
        """Write once, as much as the descriptor takes."""
        try:
            self.pending = self.pending[os.write(self.descriptor, self.pending) :]
        except BlockingIOError:
            return
        except OSError:  # EPIPE, ECONNRESET; EIO of a terminal
            self.close()
        if self._ended and not self.pending:
            self.close()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        if not self.pending:
            self.close()

    def close(self) -> None:
        if not self.gone and self._owned:
            os.close(self.descriptor)
        self.gone, self.pending = True, b""


class Inlet:
    """A descriptor to read from; what comes is fed on, and b"" at its end.

    owned: closed at its end, or as soon as nobody reads its outlets any more, so that its writer gets SIGPIPE.
    """

    def __init__(
        self, descriptor: int, feed: Callable[[bytes], None], outlets: Sequence[Outlet], *, owned: bool = False
    ) -> None:
        self.descriptor = descriptor
        self.outlets = outlets
        self.done = False
        self._feed = feed
        self._owned = owned

    def wanted(self) -> bool:
        return not self.done and not any(outlet.pending for outlet in self.outlets)

    def read(self) -> bool:
        """Read once. False: nothing is there yet."""
        try:
            data = os.read(self.descriptor, CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody has the other side of a terminal open any more
            data = b""
        self._feed(data)
        if not data:
            self.close()
        return True

    def close(self) -> None:
        if not self.done and self._owned:
            os.close(self.descriptor)
        self.done = True


def copy(source: int, sink: int, *, own_source: bool = False, own_sink: bool = False) -> Inlet:
    """An inlet whose bytes go to one outlet as they are, and its end with them."""
    outlet = Outlet(sink, owned=own_sink)
    return Inlet(source, lambda data: outlet.put(data) if data else outlet.end(), [outlet], owned=own_source)


def turn(inlets: Sequence[Inlet], until: int | None = None) -> bool:
    """Wait until something can be read or written, and do it. Returns whether `until` is readable."""
    interest: dict[int, int] = {} if until is None else {until: select.POLLIN}
    outlets = {outlet.descriptor: outlet for inlet in inlets for outlet in inlet.outlets if outlet.pending}
    waiting = [inlet for inlet in inlets if inlet.wanted()]
    for outlet in outlets.values():
        interest[outlet.descriptor] = interest.get(outlet.descriptor, 0) | select.POLLOUT
    for inlet in waiting:
        interest[inlet.descriptor] = interest.get(inlet.descriptor, 0) | select.POLLIN
    poll = select.poll()
    for descriptor, events in interest.items():
        poll.register(descriptor, events)
    ready = dict(poll.poll())
    for outlet in outlets.values():
        if ready.get(outlet.descriptor, 0) & ~select.POLLIN:
            outlet.write()
    for inlet in waiting:
        if ready.get(inlet.descriptor, 0) & ~select.POLLOUT:
            inlet.read()
    for inlet in inlets:
        if all(outlet.gone for outlet in inlet.outlets):
            inlet.close()
    return until in ready


def drain(inlets: Sequence[Inlet]) -> None:
    """Pass on what is there, and wait for no more: who still holds the other side is not who was asked to write.

    The inlets must not block.
    """
    for inlet in inlets:
        while not inlet.done or any(outlet.pending for outlet in inlet.outlets):
            if inlet.wanted():
                if not inlet.read():
                    break
            else:
                _wait_and_write(inlet.outlets)


def _wait_and_write(outlets: Sequence[Outlet]) -> None:
    for outlet in outlets:
        while outlet.pending:
            poll = select.poll()
            poll.register(outlet.descriptor, select.POLLOUT)
            poll.poll()
            outlet.write()


def close(inlets: Sequence[Inlet]) -> None:
    """Close what they own, at whatever point they are."""
    for inlet in inlets:
        inlet.close()
        for outlet in inlet.outlets:
            with suppress(OSError):
                outlet.close()
