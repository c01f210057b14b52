"""The engine: all pods of this host, and what the front ends may ask of them. See `podd.control.engine`."""

from __future__ import annotations

import os
import platform
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.abc import TaskGroup, TaskStatus
from msgspec.structs import replace

import podd
from podd import volumes
from podd.core import events as ev
from podd.core import plan, status
from podd.core import state as st
from podd.engine import applying, live, recovery, select, static
from podd.engine.actor import Actor
from podd.engine.actors import Actors
from podd.engine.aside import Aside
from podd.engine.clock import Clock, rfc3339, since_ns
from podd.engine.convergence import Check, Convergence
from podd.engine.drivers import Drivers
from podd.engine.eviction import Eviction
from podd.engine.imageverbs import ImageVerbs
from podd.engine.inside import Inside
from podd.engine.memory import Memory
from podd.engine.objects import Objects
from podd.engine.podvolumes import PodVolumes
from podd.engine.pulls import Pulls
from podd.engine.registry import DEFAULT_NAMESPACE, Registry, view
from podd.engine.static import Listen, StaticPods
from podd.engine.store import Store
from podd.engine.view import (
    Added,
    ApplyProgress,
    ApplyResult,
    DriverReport,
    Info,
    ManifestText,
    PodChange,
    PodEvent,
    PodView,
    ReloadReport,
)
from podd.errors import Conflict, PoddError, Unavailable, Unsupported
from podd.model.objects import Kind, Object
from podd.model.pod import Container, Pod
from podd.model.relabel import relabelled

log = structlog.get_logger()

CHECKPOINT_S = 5


async def _nothing_to_reload() -> ReloadReport:
    return ReloadReport()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine must know from the configuration."""

    config_file: str
    run_dir: str
    state_dir: str
    log_dir: str
    pods_dir: str = ""  # of static pods; "": none
    max_parallel_pulls: int = 4


class Engine(Inside):
    """Satisfies podd.control.engine.Engine. Make it inside the event loop; `run` it; ask it once that has started."""

    def __init__(
        self,
        *,
        settings: Settings,
        host: plan.Host,
        store: Store,
        clock: Clock,
        drivers: Drivers,
        check: Check,
        admit: Callable[[Pod], Pod],
        observe: Callable[[Mapping[str, Any]], None] = lambda _event: None,
        reload: Callable[[], Awaitable[ReloadReport]] = _nothing_to_reload,
        problems: Sequence[str] = (),
        cgroups: str = "",
        addresses: Callable[[], Sequence[str]] = tuple,
        failpoint: Callable[[str], None] = lambda _point: None,
        listen: Listen = static.listen,
    ) -> None:
        """admit: the plugins' word on a pod.

        problems: what podd copes with since before the engine. addresses: the host's, the main one first.
        """
        super().__init__(Registry(), clock, host.log_dir)
        self._settings = settings
        self._store = store
        self._drivers = drivers
        self._reload = reload
        self._problems = list(problems)
        self._cgroups = cgroups
        self._started_ns = clock.now_ns()
        self._memory = Memory(store, observe)
        self._aside = Aside(store, drivers, settings.state_dir)
        self._objects = Objects(store, clock, lambda *place: self._actors.object_changed(*place))  # noqa: PLW0108  made below
        self._pulls = Pulls(settings.max_parallel_pulls)
        self.images = ImageVerbs(self._registry, drivers, self._pulls)
        self._actors = Actors(
            registry=self._registry,
            store=store,
            clock=clock,
            host=host,
            drivers=drivers,
            aside=self._aside,
            memory=self._memory,
            volumes=PodVolumes(host, self._objects, addresses, self._memory.tell),
            pulls=self._pulls,
            failpoint=failpoint,
        )
        self._convergence = Convergence(
            registry=self._registry,
            store=store,
            objects=self._objects,
            aside=self._aside,
            clock=clock,
            drivers=drivers,
            check=check,
            admit=admit,
            accept=self._actors.accept,
        )
        self._static = StaticPods(self._registry, self._convergence, self._memory, self._actors.end, settings.pods_dir)
        self._eviction = Eviction(self._registry, host)
        self._listen = listen

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Take up the pods that are recorded, then serve until cancelled. Pods run on when it ends."""
        try:
            async with anyio.create_task_group() as tasks:
                await self._recover(tasks)
                tasks.start_soon(self._checkpoint)
                tasks.start_soon(self._eviction.run)
                if self._settings.pods_dir:
                    tasks.start_soon(self._static.run)
                    tasks.start_soon(self._listen, self._settings.pods_dir, self._static.look)
                task_status.started()
        finally:
            self._registry.close()
            self._memory.close()

    # ---- pods

    async def apply(
        self,
        texts: Sequence[ManifestText],
        *,
        namespace: str | None,
        dry_run: bool,
        wait: bool,
        timeout_s: int | None,
        progress: Callable[[ApplyProgress], Awaitable[None]],
        strict: bool = True,
    ) -> Sequence[ApplyResult]:
        return await self._convergence.apply(
            texts,
            namespace=namespace,
            strict=strict,
            dry_run=dry_run,
            wait=wait,
            timeout_s=timeout_s,
            progress=progress,
        )

    async def get(self, name: str, namespace: str | None) -> PodView:
        if aside := self._set_aside(name, namespace) or self._wrong_file(name, namespace):
            return aside
        return view(self._registry.find(name, namespace).state)

    async def list_pods(self, namespace: str | None, selector: str) -> Sequence[PodView]:
        wanted = select.parse(selector)
        found = [view(a.state) for a in self._registry.select(None, namespace)]
        found += [*self._aside.views(namespace), *self._static.views(namespace)]
        return [one for one in found if wanted(one.pod.metadata.labels)]

    def watch(self, namespace: str | None, selector: str) -> AsyncGenerator[PodChange, None]:
        return self._registry.watch(namespace, select.parse(selector))

    async def amend(
        self,
        name: str,
        namespace: str | None,
        *,
        labels: Mapping[str, str | None],
        annotations: Mapping[str, str | None],
        overwrite: bool,
    ) -> PodView:
        actor = self._settled(name, namespace)
        self._static.refuse_to_change(actor.state)

        def change(pod: Pod) -> Pod:
            return replace(pod, metadata=relabelled(pod.metadata, labels, annotations, overwrite=overwrite))

        return view(await actor.amend(change))

    async def delete(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView:
        if aside := self._set_aside(name, namespace):
            await self._aside.delete(aside)
            return aside
        if wrong := self._wrong_file(name, namespace):
            raise Conflict(wrong.status.message, remedy="mend the file, or remove it")
        actor = self._registry.find(name, namespace)
        self._static.refuse_to_delete(actor.state)
        last = await self._actors.end(actor, grace_period_s)
        if wait:
            last = await actor.until(lambda _: False)
        return view(last)

    async def stop(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView:
        actor = self._settled(name, namespace)
        last = await actor.ask(ev.StopAsked(grace_s=grace_period_s))
        if wait:
            last = await actor.until(lambda s: s.goal.want != "stop" or s.sandbox is None)
        return view(last)

    async def start(self, name: str, namespace: str | None, *, wait: bool) -> PodView:
        actor = self._settled(name, namespace)
        last = await actor.ask(ev.StartAsked())
        return view(await actor.until(applying.settled) if wait else last)

    async def restart(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView:
        actor = self._settled(name, namespace)
        last = await actor.ask(ev.RestartAsked(grace_s=grace_period_s))
        return view(await actor.until(applying.settled) if wait else last)

    async def pause(self, name: str, namespace: str | None) -> PodView:
        actor = self._settled(name, namespace)
        if not actor.driver.capabilities.pause:
            raise Unsupported(f"pod {name}: driver {actor.driver.name} cannot pause pods")
        await actor.ask(ev.PauseAsked())
        last = await actor.until(lambda s: s.freezer != "freezing")
        if last.freezer != "frozen":
            raise Unavailable(f"pod {name}: could not be paused", remedy=f"podd-cli events {name} says why")
        return view(last)

    async def resume(self, name: str, namespace: str | None) -> PodView:
        actor = self._registry.find(name, namespace)
        await actor.ask(ev.ResumeAsked())
        last = await actor.until(lambda s: s.freezer != "thawing")
        if last.freezer == "frozen":
            raise Unavailable(f"pod {name}: could not be resumed", remedy=f"podd-cli events {name} says why")
        return view(last)

    async def resize(
        self,
        name: str,
        namespace: str | None,
        container: str | None,
        *,
        limits: Mapping[str, str],
        requests: Mapping[str, str],
    ) -> PodView:
        actor = self._settled(name, namespace)
        self._static.refuse_to_change(actor.state)
        return view(await live.resize(actor, container, limits, requests, self._check_for(actor)))

    async def debug(self, name: str, namespace: str | None, added: Container, *, target: str | None) -> Added:
        actor = self._registry.find(name, namespace)
        named = added if added.name else replace(added, name=f"debugger-{uuid.uuid4().hex[:5]}")
        last = await live.debug(actor, named, target, self._check_for(actor))
        return Added(container=named.name, view=view(last))

    def _check_for(self, actor: Actor) -> Callable[[Pod], Pod]:
        """What changes of a pod must be acceptable to the driver that runs it."""
        return lambda pod: self._convergence.acceptable(pod, actor.driver)

    # ---- what pods take values and files from

    async def create_object(self, manifest: str, *, source: str, namespace: str | None) -> Object:
        return self._objects.create(
            await self._convergence.checked(manifest, source, namespace or DEFAULT_NAMESPACE, strict=True)
        )

    async def objects(self, kind: Kind, name: str | None, namespace: str | None) -> Sequence[Object]:
        if name is None:
            return self._objects.listed(kind, namespace)
        return [self._objects.get(kind, namespace or DEFAULT_NAMESPACE, name)]

    async def delete_object(self, kind: Kind, name: str, namespace: str | None) -> None:
        self._objects.delete(kind, namespace or DEFAULT_NAMESPACE, name)

    # ---- what is going on

    def events(
        self, name: str | None, namespace: str | None, *, since: str | None, follow: bool, selector: str = ""
    ) -> AsyncGenerator[Sequence[PodEvent], None]:
        wanted = self._memory.about(self._registry, name, namespace, selector)
        after_ns = None if since is None else since_ns(since, self._clock.now_ns())
        return self._memory.read(wanted, after_ns=after_ns, follow=follow)

    async def drivers(self) -> Sequence[DriverReport]:
        return await self._drivers.reports()

    async def info(self) -> Info:
        driver = self._drivers.choice.drivers.get(self._drivers.choice.default)
        return Info(
            version=podd.__version__,
            pid=os.getpid(),
            started_at=rfc3339(self._started_ns),
            kernel=platform.release(),
            cgroups=self._cgroups,  # type: ignore[arg-type]
            default_driver=self._drivers.choice.default,
            config_file=self._settings.config_file,
            run_dir=self._settings.run_dir,
            state_dir=self._settings.state_dir,
            log_dir=self._settings.log_dir,
            network=None if driver is None else await self._drivers.network_of(driver),
            pods=Counter(status.phase(actor.state) for actor in self._registry),
            problems=[
                *self._problems,
                *self._aside.problems(),
                *self._objects.problems(),
                *self._static.problems(),
            ],
        )

    async def reload(self) -> ReloadReport:
        self._static.look()
        return await self._reload()

    # ---- whose name it is

    def _settled(self, name: str, namespace: str | None) -> Actor:
        """Raises Conflict: the pod that will have this name when the order is done is another one."""
        actor = self._registry.find(name, namespace)
        if heir := self._registry.successor(actor):
            raise Conflict(
                f"pod {name}: another is taking its place", remedy=f"wait, or delete pod {heir.state.uid} to keep it"
            )
        return actor

    def _wrong_file(self, name: str, namespace: str | None) -> PodView | None:
        """A file of static pods that is wrong, where it has the name and no pod has."""
        if self._registry.named(namespace or DEFAULT_NAMESPACE, name):
            return None
        return self._static.find(name, namespace or DEFAULT_NAMESPACE)

    def _set_aside(self, name: str, namespace: str | None) -> PodView | None:
        """Where a pod of this podd has the name, it is that one that is meant."""
        if self._registry.named(namespace or DEFAULT_NAMESPACE, name):
            return None
        return self._aside.find(name, namespace or DEFAULT_NAMESPACE)

    # ---- taking up, and upkeep

    async def _recover(self, tasks: TaskGroup) -> None:
        self._objects.load()
        states, quarantined = self._store.load(recovery.decode)
        for bad in quarantined:
            log.error("record.quarantined", pod=bad.name, namespace=bad.namespace, uid=bad.uid, reason=bad.reason)
        if self._store.damage is None:
            await self._sweep(states)
        else:
            self._problems.append("what runs of pods whose records are lost with the damaged store was left alone")
        self._actors.take_up(states, tasks)
        log.info("engine.recovered", pods=len(states), quarantined=len(quarantined))

    async def _sweep(self, states: Sequence[st.PodState]) -> None:
        """Remove what belongs to no pod. A pod whose record is damaged runs on, and a person decides."""
        aside = self._aside.uids
        known = {s.sandbox.id for s in states if s.sandbox is not None}
        needed = {self._drivers.choice.default, *(s.driver for s in states)}
        self._problems += await recovery.sweep(self._drivers, known, lambda found: found.pod_uid in aside, needed)
        uids = aside | {s.uid for s in states}
        stuck = await anyio.to_thread.run_sync(volumes.sweep, self._settings.state_dir, uids)
        self._problems += [f"volumes that belong to no pod: {exc}" for exc in stuck]

    async def _checkpoint(self) -> None:
        while True:
            await anyio.sleep(CHECKPOINT_S)
            try:
                await anyio.to_thread.run_sync(self._store.checkpoint)
            except PoddError as exc:
                log.error("store.failed", error=exc.message, remedy=exc.remedy)
