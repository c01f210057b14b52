"""The actors of all pods, and what follows for other pods, or for its files, when one of them changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVarTuple, Unpack

import structlog
from anyio.abc import TaskGroup

from podd.core import events as ev
from podd.core import plan, status
from podd.core import state as st
from podd.engine import podvolumes, successor
from podd.engine.actor import Actor
from podd.engine.aside import Aside
from podd.engine.clock import Clock
from podd.engine.drivers import Drivers
from podd.engine.memory import Memory
from podd.engine.podvolumes import PodVolumes
from podd.engine.pulls import Pulls
from podd.engine.registry import Registry
from podd.engine.store import Store
from podd.engine.surroundings import Surroundings
from podd.errors import NotFound
from podd.model import references
from podd.model.objects import Kind
from podd.model.pod import Pod

log = structlog.get_logger()

Args = TypeVarTuple("Args")


class Actors:
    """Make it, have `take_up` called once, then `accept` what is new."""

    def __init__(
        self,
        *,
        registry: Registry,
        store: Store,
        clock: Clock,
        host: plan.Host,
        drivers: Drivers,
        aside: Aside,
        memory: Memory,
        volumes: PodVolumes,
        pulls: Pulls,
        failpoint: Callable[[str], None],
    ) -> None:
        self._registry = registry
        self._drivers = drivers
        self._aside = aside
        self._memory = memory
        self._volumes = volumes
        self._tasks: TaskGroup | None = None
        self._around = Surroundings(
            store=store,
            clock=clock,
            host=host,
            prepare_volumes=volumes.prepare,
            remove_volumes=volumes.remove,
            sources=volumes.sources,
            addresses=volumes.addresses,
            changed=self._changed,
            told=memory.tell,
            pulls=pulls,
            failpoint=failpoint,
        )

    def take_up(self, states: Iterable[st.PodState], tasks: TaskGroup) -> None:
        """Those that were recorded. tasks: in which these and all later ones run."""
        self._tasks = tasks
        self._around.pulls.run_in(tasks)
        for state in sorted(states, key=lambda state: state.replaces is not None):
            actor = self._begin(state, ev.Resumed())
            if podvolumes.writes(state.pod):  # a change may have been stored, and podd killed before it was written
                self._beside(self._volumes.refresh, actor)

    def accept(self, new: st.PodState) -> Actor:
        """Its record is stored: from here on it exists."""
        meta = new.pod.metadata
        log.info("pod.accepted", pod=meta.name, namespace=meta.namespace, uid=new.uid, driver=new.driver)
        return self._begin(new, ev.Woke())

    def _begin(self, state: st.PodState, first: ev.Event) -> Actor:
        actor = Actor(state, self._drivers.that_made(state), self._around)
        self._registry.add(actor)
        assert self._tasks is not None
        self._tasks.start_soon(actor.run, first)
        self._see_off_predecessor(actor)
        return actor

    def _see_off_predecessor(self, actor: Actor) -> None:
        """Of a pod that is to take the place of another."""
        if actor.state.replaces is None:
            return
        old = self._registry.by_uid(actor.state.replaces)
        if old is None and actor.state.replaces in self._aside.uids:  # what runs of it is left to a person
            self._beside(successor.undo, actor)
        elif old is None:
            self._beside(actor.report, ev.PredecessorGone())
        else:
            self._beside(successor.succeed, old, actor, self._memory.tell)

    async def end(self, actor: Actor, grace_s: int | None = None) -> st.PodState:
        """Begin to delete it. Raises as Actor.ask."""
        if heir := self._registry.successor(actor):  # first, so that after a crash nothing takes the place
            with suppress(NotFound):
                await heir.ask(ev.DeleteAsked(grace_s=0))
        return await actor.ask(ev.DeleteAsked(grace_s=grace_s))

    # ---- what follows

    def _changed(self, old: st.PodState, new: st.PodState, *, gone: bool) -> None:
        self._registry.changed(new, gone=gone)
        actor = self._registry.by_uid(new.uid)
        if actor is not None and old.pod is not new.pod and podvolumes.writes(new.pod):
            self._beside(self._volumes.refresh, actor)
        before, after = status.phase(old), status.phase(new)
        if gone or before != after:
            meta = new.pod.metadata
            log.info(
                "pod.deleted" if gone else "pod.changed",
                pod=meta.name,
                namespace=meta.namespace,
                uid=new.uid,
                phase=after,
            )

    def object_changed(self, kind: Kind, namespace: str, name: str) -> None:
        """A ConfigMap or Secret is another now, or gone: bring the files of pods up to date that have any of it, and
        have those look again that lacked it.
        """
        for actor in self._registry.all():
            pod = actor.state.pod
            if pod.metadata.namespace == namespace and _names(pod, kind, name):
                self._beside(actor.report, ev.ObjectChanged())
                self._beside(self._volumes.refresh, actor)

    def _beside(self, task: Callable[[Unpack[Args]], Awaitable[object]], *args: *Args) -> None:
        """Run what belongs to no one actor."""
        assert self._tasks is not None
        self._tasks.start_soon(_contained, task, *args)


def _names(pod: Pod, kind: Kind, name: str) -> bool:
    return any((ref.kind, ref.name) == (kind, name) for ref in references.of(pod))


async def _contained(task: Callable[..., Awaitable[object]], *args: object) -> None:
    """A bug in it is told, and ends nothing else."""
    try:
        await task(*args)
    except Exception:
        log.exception("task.failed", remedy="this is a bug in podd: report it with this traceback")
