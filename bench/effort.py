"""How much is measured."""

from __future__ import annotations

from typing import NamedTuple


class Effort(NamedTuple):
    """warm_up, rounds, batches: samples left out, samples taken of one pod, and of eight at a time.

    pods: how many run for what is measured with many. compared: how many run while supervisors are compared.
    """

    warm_up: int
    rounds: int
    batches: int
    pods: int
    compared: int
    settle_s: float
    idle_s: float


FULL = Effort(warm_up=3, rounds=40, batches=20, pods=100, compared=5, settle_s=3, idle_s=10)
QUICK = Effort(warm_up=1, rounds=3, batches=2, pods=4, compared=2, settle_s=1, idle_s=1)
