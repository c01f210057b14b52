"""What has happened to the pods: kept for a day, told to whoever listens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from podd.core import events as ev
from podd.core.state import PodState
from podd.engine import select
from podd.engine.bus import Bus
from podd.engine.clock import rfc3339
from podd.engine.database import StoredEvent
from podd.engine.registry import DEFAULT_NAMESPACE, Registry
from podd.engine.store import Store
from podd.engine.view import PodEvent
from podd.errors import PoddError

log = structlog.get_logger()


Wanted = Callable[[StoredEvent], bool]


class Memory:
    def __init__(self, store: Store, observe: Callable[[Mapping[str, Any]], None]) -> None:
        self._store = store
        self._observe = observe
        self._bus: Bus[StoredEvent] = Bus()

    def tell(self, state: PodState, told: ev.Tell) -> None:
        self.note(state.pod.metadata.namespace, state.pod.metadata.name, state.uid, told)

    def note(self, namespace: str, name: str, uid: str, told: ev.Tell) -> None:
        """An event that cannot be stored is logged, and costs nothing else. uid: or what stands for one."""
        write = log.warning if told.type == "Warning" else log.info
        write("pod.told", pod=name, namespace=namespace, reason=told.reason, message=told.message)
        try:
            noted = self._store.add_event(namespace, name, uid, told.type, told.reason, told.message, told.container)
        except PoddError as exc:
            log.error("event.lost", error=exc.message, remedy=exc.remedy)
            return
        self._bus.publish(noted)
        self._observe(msgspec.to_builtins(_shown(noted)))

    def about(self, registry: Registry, name: str | None, namespace: str | None, selector: str) -> Wanted:
        """Which events are meant. A name means all pods that had it, one after the other; a uid means one of them.

        selector: of pods that are there; "" also of those that are gone. Raises NotFound: nothing is known of it.
        """
        if name is None:
            fits = select.parse(selector)
            labels = registry.labels if selector.strip() else None
            return lambda e: namespace in (None, e.namespace) and (labels is None or _fits(fits, labels(e.uid)))
        where = namespace or DEFAULT_NAMESPACE
        if registry.named(where, name) or self._store.events(namespace=where, pod=name):
            return lambda e: (e.namespace, e.pod) == (where, name)
        uid = name if self._store.events(uid=name) else registry.find(name, namespace).state.uid
        return lambda e: e.uid == uid

    async def read(
        self, want: Wanted, *, after_ns: int | None, follow: bool
    ) -> AsyncGenerator[Sequence[PodEvent], None]:
        """Those remembered, then, with follow, those to come."""
        with self._bus.subscribe(want) as coming:
            remembered = [event for event in self._store.events() if want(event)]
            yield [_shown(event) for event in remembered if after_ns is None or event.at_ns >= after_ns]
            if follow:
                async for event in coming:
                    yield [_shown(event)]

    def close(self) -> None:
        self._bus.close()


def _fits(selector: select.Selector, labels: Mapping[str, str] | None) -> bool:
    return labels is not None and selector(labels)


def _shown(event: StoredEvent) -> PodEvent:
    return PodEvent(
        time=rfc3339(event.at_ns),
        type=event.type,
        reason=event.reason,
        message=event.message,
        pod=event.pod,
        namespace=event.namespace,
        uid=event.uid,
        container=event.container,
        count=event.count,
    )
