"""Who gives way when there are too many."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.control.admission import choose, crowding
from podd.control.wire import Peer


class Seat(NamedTuple):
    peer: Peer
    busy: bool
    since: float


def seat(pid: int, since: float, *, busy: bool = False, uid: int = 0) -> Seat:
    return Seat(Peer(pid, uid, 0), busy, since)


A1, A2, A3 = (seat(1, since) for since in (1, 2, 3))
B4, B5, B6 = (seat(2, since, busy=True) for since in (4, 5, 6))
C7 = seat(3, 7)
NEW_A, NEW_B, NEW_D = Peer(1, 0, 0), Peer(2, 0, 0), Peer(4, 0, 0)

CHOICES: dict[str, tuple[list[Seat], Peer, Seat | None]] = {
    "the idlest of the process with most": ([A2, A1, C7], NEW_D, A1),
    "its own, when the newcomer is of that process": ([A2, A1, C7], NEW_A, A1),
    "the newest call of the process with most, when all are busy": ([B4, B6, B5, C7], NEW_D, B6),
    "not a call, for one more of its own": ([B4, B6, B5, C7], NEW_B, None),
    "an idle one, when all processes have as many": ([seat(5, 1, busy=True), C7], NEW_D, C7),
    "the newcomer, when each has one and works": ([seat(5, 1, busy=True), seat(6, 2, busy=True)], NEW_D, None),
}


@pytest.mark.parametrize(("crowd", "newcomer", "leaver"), CHOICES.values(), ids=CHOICES)
def test_who_gives_way(crowd: list[Seat], newcomer: Peer, leaver: Seat | None) -> None:
    assert choose(crowd, newcomer) == leaver


def test_a_user_crowds_itself_before_it_crowds_others() -> None:
    of_user = [seat(pid, pid, uid=1000) for pid in range(4)]
    of_root = [seat(pid, pid) for pid in range(10, 12)]
    seats = of_user + of_root

    def crowd(uid: int, **limits: int) -> list[Seat]:
        return list(crowding(seats, Peer(99, uid, 0), **limits))

    assert crowd(1000, per_user=4, total=100) == of_user
    assert crowd(1000, per_user=5, total=100) == []
    assert crowd(0, per_user=4, total=100) == []
    assert crowd(0, per_user=4, total=6) == seats


@given(
    st.lists(st.builds(seat, st.integers(1, 4), st.integers(0, 99), busy=st.booleans()), min_size=1),
    st.builds(Peer, st.integers(1, 5), st.just(0), st.just(0)),
)
def test_no_process_loses_a_call_to_one_that_has_as_many(seats: list[Seat], newcomer: Peer) -> None:
    leaver = choose(seats, newcomer)
    held = [each.peer.pid for each in seats]
    if leaver is None:
        assert held.count(newcomer.pid) + 1 >= max(held.count(pid) for pid in held)
    else:
        assert held.count(leaver.peer.pid) == max(held.count(pid) for pid in held)
        assert not leaver.busy or held.count(leaver.peer.pid) > held.count(newcomer.pid) + 1
