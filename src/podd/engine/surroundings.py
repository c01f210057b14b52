"""What all actors share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from podd.core import events as ev
from podd.core import plan
from podd.core.sources import Sources
from podd.core.state import PodState
from podd.engine.clock import Clock
from podd.engine.pulls import Pulls
from podd.engine.store import Store


class Changed(Protocol):
    """Called after each change of a pod that was stored."""

    def __call__(self, old: PodState, new: PodState, *, gone: bool) -> None: ...


class Surroundings:
    """See each by its type; what they do is said where they are defined."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        host: plan.Host,
        prepare_volumes: Callable[[PodState], Awaitable[None]],
        remove_volumes: Callable[[PodState], Awaitable[None]],
        sources: Callable[[PodState], Sources],
        addresses: Callable[[], Sequence[str]],
        changed: Changed,
        told: Callable[[PodState, ev.Tell], None],
        pulls: Pulls,
        failpoint: Callable[[str], None] = lambda _point: None,
    ) -> None:
        """addresses: the host's, the main one first.

        failpoint: called with "driver.VERB.before" and ".after" around each effect, for tests of crashes."""
        self.store = store
        self.clock = clock
        self.host = host
        self.prepare_volumes = prepare_volumes
        self.remove_volumes = remove_volumes
        self.sources = sources
        self.addresses = addresses
        self.changed = changed
        self.told = told
        self.pulls = pulls
        self.failpoint = failpoint
