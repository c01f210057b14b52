"""Which connection gives way when there are too many. Pure: no sockets, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Protocol, TypeVar

from podd.control.wire import Peer


class Seat(Protocol):
    """An open connection. busy: a call is being answered. since: when that began, or when it last had one; seconds."""

    @property
    def peer(self) -> Peer: ...

    @property
    def busy(self) -> bool: ...

    @property
    def since(self) -> float: ...


S = TypeVar("S", bound=Seat)


def crowding(seats: Collection[S], newcomer: Peer, *, per_user: int, total: int) -> Collection[S]:
    """The connections of which one must go before newcomer may stay: its user's, or all; none while there is room."""
    own = [seat for seat in seats if seat.peer.uid == newcomer.uid]
    if len(own) >= per_user:
        return own
    return seats if len(seats) >= total else ()


def choose(crowd: Collection[S], newcomer: Peer) -> S | None:
    """The one that gives way. None: the newcomer itself does.

    The process with the most connections pays: with its idlest, else with its newest call, so that one program that
    opens thousands cannot shut out another. Its own newcomer never costs it a call.
    """
    held = Counter(seat.peer.pid for seat in crowd)
    most = max(held.values())
    hogs = [seat for seat in crowd if held[seat.peer.pid] == most]
    idle = [seat for seat in hogs if not seat.busy]
    if idle:
        return min(idle, key=lambda seat: seat.since)
    if held[newcomer.pid] + 1 >= most:
        return None
    return max(hogs, key=lambda seat: seat.since)
