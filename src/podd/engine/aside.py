"""Pods whose record is damaged: set aside, shown, left running, and removed when a person says so."""

from __future__ import annotations

from collections.abc import Iterable

import anyio.to_thread
import structlog

from podd import volumes
from podd.driver.contract import Driver
from podd.engine import recovery
from podd.engine.database import Quarantined
from podd.engine.store import Store
from podd.engine.view import PodView
from podd.errors import Conflict
from podd.model.pod import ObjectMeta, Pod, PodSpec
from podd.model.status import PodStatus

log = structlog.get_logger()


class Aside:
    def __init__(self, store: Store, drivers: Iterable[Driver], state_dir: str) -> None:
        self._store = store
        self._drivers = drivers
        self._state_dir = state_dir

    @property
    def uids(self) -> set[str]:
        return {bad.uid for bad in self._store.quarantined()}

    def problems(self) -> list[str]:
        return [
            f"pod {bad.namespace}/{bad.name}: its record is damaged and set aside: {bad.reason}; what runs of it was "
            f"left alone; podd-cli delete pod {bad.name} -n {bad.namespace} removes it"
            for bad in self._store.quarantined()
        ]

    def views(self, namespace: str | None) -> list[PodView]:
        return [_view(bad) for bad in self._store.quarantined() if namespace in (None, bad.namespace)]

    def find(self, name: str, namespace: str) -> PodView | None:
        """By name, or by the whole uid."""
        fits = (b for b in self._store.quarantined() if b.uid == name or (b.name, b.namespace) == (name, namespace))
        return next(map(_view, fits), None)

    def refuse_namesake(self, pod: Pod) -> None:
        """Raises Conflict: a pod of this name is set aside, and what runs of it would be in the way."""
        meta = pod.metadata
        if self.find(meta.name, meta.namespace):
            raise Conflict(
                f"pod {meta.namespace}/{meta.name}: there is one whose record is damaged",
                remedy=f"delete it first: podd-cli delete pod {meta.name} -n {meta.namespace}",
            )

    async def delete(self, found: PodView) -> None:
        """All that can be found of it by its uid. Raises a podd.errors kind: something would not go."""
        meta = found.pod.metadata
        await recovery.destroy_all_of(self._drivers, meta.uid)
        await anyio.to_thread.run_sync(volumes.remove, self._state_dir, meta.uid)
        self._store.dismiss(meta.uid)
        log.info("pod.deleted", pod=meta.name, namespace=meta.namespace, uid=meta.uid, phase="Unknown")


def _view(bad: Quarantined) -> PodView:
    """Of a pod of which podd knows no more than its name."""
    meta = ObjectMeta(name=bad.name, namespace=bad.namespace, uid=bad.uid)
    shown = PodStatus(phase="Unknown", reason="RecordDamaged", message=bad.reason)
    return PodView(pod=Pod(metadata=meta, spec=PodSpec(containers=())), status=shown)
