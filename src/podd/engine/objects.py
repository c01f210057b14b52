"""The ConfigMaps and Secrets that podd keeps: all in memory, each change stored before it counts.

Nothing here tells anybody what a Secret holds but `get` and `listed`, which are asked for it: no log line, no error,
no problem.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as but
from typing import Literal

import msgspec
import structlog
from msgspec.structs import replace

from podd.core import contents
from podd.core.difference import Change
from podd.engine.clock import Clock, rfc3339
from podd.engine.store import Store
from podd.errors import Conflict, Invalid, NotFound, PoddError
from podd.model.manifest import Manifest, Need
from podd.model.objects import ConfigMap, Kind, Object, Secret, written
from podd.model.pod import Pod

log = structlog.get_logger()


class _Kind(msgspec.Struct):
    """What is read of a record first, to know how to read the rest."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class JudgedObject:
    """What is to become of one of a manifest. one: as it is to be kept."""

    one: Object
    action: Literal["created", "configured", "unchanged", "refused"]
    refused: PoddError | None = None
    warnings: Sequence[str] = ()
    changes: Sequence[Change] = ()

    def not_alone(self) -> JudgedObject:
        """Of a manifest of which something else is refused."""
        if self.refused or self.action == "unchanged":
            return self
        return but(self, action="refused", refused=Conflict("not applied: another object of the manifest is refused"))


class Objects:
    def __init__(self, store: Store, clock: Clock, changed: Callable[[Kind, str, str], None]) -> None:
        """changed: told the kind, namespace and name of each that is another now, or gone."""
        self._store = store
        self._clock = clock
        self._changed = changed
        self._of: dict[tuple[Kind, str], dict[str, Object]] = {}  # by kind and namespace, by name
        self._damaged: set[tuple[str, str, str]] = set()

    def load(self) -> None:
        """What the store has. What cannot be read is left there, and is a problem."""
        found, damaged = self._store.load_objects(_decode)
        for one in found:
            self._put(one)
        self._damaged = set(damaged)
        for kind, namespace, name in damaged:
            log.error("object.damaged", kind=kind, namespace=namespace, name=name, remedy="apply it again")

    def problems(self) -> list[str]:
        return [
            f"{kind} {namespace}/{name}: its record is damaged: apply it again, or delete it"
            for kind, namespace, name in sorted(self._damaged)
        ]

    def _put(self, one: Object) -> None:
        self._of.setdefault((one.kind, one.metadata.namespace), {})[one.metadata.name] = one

    # ---- what there is

    def _named(self, kind: Kind, namespace: str) -> Mapping[str, Object]:
        return self._of.get((kind, namespace), {})

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self._named(kind, namespace).get(name)

    def config_maps(self, namespace: str) -> dict[str, ConfigMap]:
        return {name: one for name, one in self._named("ConfigMap", namespace).items() if isinstance(one, ConfigMap)}

    def secrets(self, namespace: str) -> dict[str, Secret]:
        return {name: one for name, one in self._named("Secret", namespace).items() if isinstance(one, Secret)}

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Raises NotFound."""
        found = self.find(kind, namespace, name)
        if found is None:
            raise NotFound(f"{kind} {namespace}/{name}: there is none", remedy=f"podd-cli get {kind.lower()}s -A")
        return found

    def listed(self, kind: Kind, namespace: str | None) -> list[Object]:
        """By namespace and name; None: of all namespaces."""
        places = sorted(place for place in self._of if place[0] == kind and namespace in (None, place[1]))
        return [one for place in places for _, one in sorted(self._of[place].items())]

    # ---- a manifest

    def check(self, pod: Pod, manifest: Manifest) -> None:
        """Raises Invalid: this pod of it cannot start, because what it takes values or files from is not there."""
        meta = pod.metadata
        written = {_place(one): one for one in _all_of(manifest)}
        missing = []
        for need in manifest.needs:
            place = (need.kind, need.namespace, need.name)
            is_its = (need.namespace, need.pod) == (meta.namespace, meta.name)
            if is_its and self._lacks(need, written.get(place) or self.find(*place)):
                missing.append(need.at)
        if missing:
            raise Invalid("\n".join(map(str, missing)))

    def _lacks(self, need: Need, found: Object | None) -> bool:
        """Of an object that is not there no key is missed: that it is not there is said once."""
        if found is None:
            return not need.key
        keys = found.data.keys() | (found.binary_data.keys() if isinstance(found, ConfigMap) else set())
        return bool(need.key) and need.key not in keys

    def judge(self, manifest: Manifest) -> list[JudgedObject]:
        return [
            but(self._judged(one), warnings=[str(remark) for remark in manifest.remarks_of(one)])
            for one in _all_of(manifest)
        ]

    def _judged(self, one: Object) -> JudgedObject:
        there = self.find(one.kind, one.metadata.namespace, one.metadata.name)
        if there is None:
            meta = replace(one.metadata, uid=str(uuid.uuid4()), creation_timestamp=rfc3339(self._clock.now_ns()))
            return JudgedObject(replace(one, metadata=meta), "created")
        meta = replace(one.metadata, uid=there.metadata.uid, creation_timestamp=there.metadata.creation_timestamp)
        new = replace(one, metadata=meta)
        if new == there:
            return JudgedObject(there, "unchanged")
        try:
            _refuse_change(there, new)
        except PoddError as refusal:
            return JudgedObject(there, "refused", refusal)
        return JudgedObject(new, "configured", changes=contents.changes(there, new))

    def keep(self, judged: Sequence[JudgedObject]) -> None:
        """Store what is new or changed, all of it or nothing, then tell."""
        new = [each.one for each in judged if each.action in ("created", "configured")]
        if not new:
            return
        self._store.save_objects((*_place(one), msgspec.json.encode(written(one))) for one in new)
        for one in new:
            place = _place(one)
            self._put(one)
            self._damaged.discard(place)
            log.info("object.kept", kind=place[0], namespace=place[1], name=place[2])
            self._changed(*place)

    # ---- one by one

    def create(self, manifest: Manifest) -> Object:
        """The one that a manifest consists of. Raises Invalid: it is something else; Conflict: there is one already."""
        judged = self.judge(manifest)
        if len(judged) != 1 or manifest.pods:
            raise Invalid("create: one ConfigMap or Secret is wanted", remedy="podd-cli apply takes any manifest")
        one = judged[0].one
        if judged[0].action != "created":
            name = f"{one.kind} {one.metadata.namespace}/{one.metadata.name}"
            raise Conflict(f"{name}: there is one already", remedy="delete it first, or apply a manifest of it")
        self.keep(judged)
        return one

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Pods that use it run on, and cannot start again without it. Raises NotFound."""
        place = (kind, namespace, name)
        if place not in self._damaged:
            self.get(*place)
        self._store.delete_object(*place)
        self._damaged.discard(place)
        self._of.get((kind, namespace), {}).pop(name, None)
        log.info("object.deleted", kind=kind, namespace=namespace, name=name)
        self._changed(*place)


def _place(one: Object) -> tuple[Kind, str, str]:
    return one.kind, one.metadata.namespace, one.metadata.name


def _all_of(manifest: Manifest) -> tuple[Object, ...]:
    return (*manifest.config_maps, *manifest.secrets)


def _decode(record: bytes) -> Object:
    kind = msgspec.json.decode(record, type=_Kind).kind
    if kind == "ConfigMap":
        return msgspec.json.decode(record, type=ConfigMap)
    return msgspec.json.decode(record, type=Secret)


def _refuse_change(there: Object, new: Object) -> None:
    """Raises Conflict: Kubernetes would not allow it either."""
    name = f"{there.kind} {there.metadata.namespace}/{there.metadata.name}"
    same = replace(new, metadata=there.metadata) == there
    if there.immutable and not same:
        remedy = f"podd-cli delete {there.kind.lower()} {there.metadata.name}, then apply it again"
        raise Conflict(f"{name}: is immutable", remedy=remedy)
    if isinstance(there, Secret) and isinstance(new, Secret) and there.type != new.type:
        raise Conflict(f"{name}: is of type {there.type}, which cannot be changed", remedy="delete it first")
