"""Which pods there are, by uid and by name, and who watches them change."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Literal

from podd.core import status
from podd.core.state import PodState
from podd.engine.actor import Actor
from podd.engine.bus import Bus
from podd.engine.clock import rfc3339
from podd.engine.select import Selector
from podd.engine.view import PodChange, PodView
from podd.errors import Conflict, Invalid, NotFound

MIN_UID_PREFIX = 4
DEFAULT_NAMESPACE = "default"


def view(state: PodState) -> PodView:
    """As a front end shows it."""
    return PodView(pod=state.pod, status=status.status(state, rfc3339), added=tuple(state.ephemeral.values()))


class Registry:
    """A pod that takes another's place is found by its uid alone, and shown to nobody, until the other is gone."""

    def __init__(self) -> None:
        self._actors: dict[str, Actor] = {}  # by uid
        self._uids: dict[tuple[str, str], str] = {}  # by namespace and name
        self._successors: dict[str, Actor] = {}  # by the uid of the pod that is still there
        self._changes: Bus[tuple[str, PodState]] = Bus()

    def __iter__(self) -> Iterator[Actor]:
        """By namespace and name."""
        return iter([self._actors[uid] for _, uid in sorted(self._uids.items())])

    def add(self, actor: Actor) -> None:
        """Raises Conflict: the name is taken."""
        meta = actor.state.pod.metadata
        there = self.named(meta.namespace, meta.name)
        if there is None:
            self._show(actor)
        elif actor.state.replaces == there.state.uid and self.successor(there) is None:
            self._successors[there.state.uid] = actor
        else:
            raise Conflict(f"pod {meta.namespace}/{meta.name}: there is one already", remedy="delete it first")
        self._actors[actor.state.uid] = actor

    def _show(self, actor: Actor) -> None:
        meta = actor.state.pod.metadata
        self._uids[meta.namespace, meta.name] = actor.state.uid
        self._changes.publish(("ADDED", actor.state))

    def changed(self, new: PodState, *, gone: bool) -> None:
        """Tell the watchers; forget it when it is gone."""
        if gone:
            del self._actors[new.uid]
        meta = new.pod.metadata
        if self._uids[meta.namespace, meta.name] != new.uid:
            if gone:
                self._successors = {uid: actor for uid, actor in self._successors.items() if actor.state.uid != new.uid}
            return
        self._changes.publish(("DELETED" if gone else "MODIFIED", new))
        if gone:
            del self._uids[meta.namespace, meta.name]
            if successor := self._successors.pop(new.uid, None):
                self._show(successor)

    def by_uid(self, uid: str) -> Actor | None:
        return self._actors.get(uid)

    def all(self) -> list[Actor]:
        """Those that wait for another's place too."""
        return list(self._actors.values())

    def labels(self, uid: str) -> Mapping[str, str] | None:
        """None: it is not there."""
        actor = self._actors.get(uid)
        return None if actor is None else actor.state.pod.metadata.labels

    def successor(self, actor: Actor) -> Actor | None:
        """The pod that is to take its place."""
        return self._successors.get(actor.state.uid)

    def named(self, namespace: str, name: str) -> Actor | None:
        uid = self._uids.get((namespace, name))
        return None if uid is None else self._actors[uid]

    def find(self, name: str, namespace: str | None) -> Actor:
        """By name in the namespace (None: "default"), else by uid or the beginning of one in the namespace (None: any).

        Raises NotFound, and Invalid where a beginning fits several.
        """
        found = self.named(namespace or DEFAULT_NAMESPACE, name)
        if found is not None:
            return found
        fitting = [
            actor
            for uid, actor in self._actors.items()
            if uid.startswith(name) and namespace in (None, actor.state.pod.metadata.namespace)
        ]
        if len(name) < MIN_UID_PREFIX or not fitting:
            raise NotFound(
                f"pod {namespace or DEFAULT_NAMESPACE}/{name}: there is none", remedy="podd-cli get pods -A lists all"
            )
        if len(fitting) > 1:
            uids = ", ".join(sorted(actor.state.uid for actor in fitting))
            raise Invalid(f"pod {name}: is the beginning of several uids: {uids}", remedy="give more of it")
        return fitting[0]

    def select(self, name: str | None, namespace: str | None) -> list[Actor]:
        """One, or, where no name is given, all of a namespace (None: of all)."""
        if name is not None:
            return [self.find(name, namespace)]
        return [a for a in self if namespace in (None, a.state.pod.metadata.namespace)]

    async def watch(self, namespace: str | None, wanted: Selector) -> AsyncGenerator[PodChange, None]:
        """Each that is there, SYNCED, then every change. Who gets or loses a label that is wanted comes or goes."""

        def fits(state: PodState) -> bool:
            meta = state.pod.metadata
            return namespace in (None, meta.namespace) and wanted(meta.labels)

        there = [actor for actor in self if fits(actor.state)]
        inside = {actor.state.uid for actor in there}

        def want(change: tuple[str, PodState]) -> bool:
            kind, state = change
            was, now = state.uid in inside, kind != "DELETED" and fits(state)
            (inside.add if now else inside.discard)(state.uid)
            return was or now

        with self._changes.subscribe(want) as changes:
            last: dict[str, PodView] = {}
            for actor in there:
                last[actor.state.uid] = view(actor.state)
                yield PodChange(type="ADDED", view=last[actor.state.uid])
            yield PodChange(type="SYNCED")
            async for kind, state in changes:
                seen = view(state)
                told = _told(last, seen, gone=kind == "DELETED" or not fits(state))
                if told is not None:
                    yield PodChange(type=told, view=seen)

    def close(self) -> None:
        self._changes.close()


def _told(last: dict[str, PodView], seen: PodView, *, gone: bool) -> Literal["ADDED", "MODIFIED", "DELETED"] | None:
    """What is new to who has seen the last. None: nothing, as many steps of a pod look the same from outside."""
    uid = seen.pod.metadata.uid
    before = last.pop(uid, None)
    if gone:
        return "DELETED" if before else None
    last[uid] = seen
    if before is None:
        return "ADDED"
    return None if before == seen else "MODIFIED"
