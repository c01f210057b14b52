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
from podd.core import needs, plan, status
from podd.core import state as st
from podd.driver.contract import Driver
from podd.engine import applying, live, recovery, select
from podd.engine.actor import Actor, Surroundings, encode
from podd.engine.aside import Aside
from podd.engine.clock import Clock, rfc3339, since_ns
from podd.engine.inside import Inside
from podd.engine.memory import Memory
from podd.engine.registry import DEFAULT_NAMESPACE, Registry, view
from podd.engine.store import Store
from podd.engine.view import (
    Added,
    ApplyProgress,
    ApplyResult,
    DriverReport,
    Info,
    PodChange,
    PodEvent,
    PodView,
    ReloadReport,
)
from podd.errors import Invalid, PoddError, Unavailable, Unsupported
from podd.model.ids import PodUid
from podd.model.manifest import Manifest
from podd.model.pod import Container, Pod

log = structlog.get_logger()

CHECKPOINT_S = 5
PROBE_S = 10
LARGE_MANIFEST = 64 * 1024  # characters; up to here checking takes some milliseconds


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine must know from the configuration."""

    default_driver: str
    config_file: str
    run_dir: str
    state_dir: str
    log_dir: str


class Engine(Inside):
    """Satisfies podd.control.engine.Engine. Make it inside the event loop; `run` it; ask it once that has started."""

    def __init__(
        self,
        *,
        settings: Settings,
        host: plan.Host,
        store: Store,
        clock: Clock,
        drivers: Mapping[str, Driver],
        broken: Mapping[str, str],
        check: Callable[[str, str, str], Manifest],
        admit: Callable[[Pod], Pod],
        observe: Callable[[Mapping[str, Any]], None] = lambda _event: None,
        reload: Callable[[], ReloadReport] = ReloadReport,
        problems: Sequence[str] = (),
        cgroups: str = "",
        failpoint: Callable[[str], None] = lambda _point: None,
    ) -> None:
        """broken: why a driver by that name cannot be had. check: text, its name in messages, the default namespace.

        admit: the plugins' word on a pod. problems: what podd copes with since before the engine.
        """
        super().__init__(Registry(), clock, host.log_dir)
        self._settings = settings
        self._store = store
        self._drivers = drivers
        self._broken = broken
        self._check = check
        self._admit = admit
        self._reload = reload
        self._problems = list(problems)
        self._cgroups = cgroups
        self._started_ns = clock.now_ns()
        self._memory = Memory(store, observe)
        self._aside = Aside(store, drivers.values(), settings.state_dir)
        self._tasks: TaskGroup | None = None
        self._around = Surroundings(
            store=store,
            clock=clock,
            host=host,
            prepare_volumes=self._prepare_volumes,
            remove_volumes=self._remove_volumes,
            changed=self._changed,
            told=self._memory.tell,
            failpoint=failpoint,
        )

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Take up the pods that are recorded, then serve until cancelled. Pods run on when it ends."""
        try:
            async with anyio.create_task_group() as self._tasks:
                await self._recover()
                self._tasks.start_soon(self._checkpoint)
                task_status.started()
        finally:
            self._registry.close()
            self._memory.close()

    # ---- pods

    async def apply(
        self,
        manifest: str,
        *,
        source: str,
        namespace: str | None,
        dry_run: bool,
        wait: bool,
        timeout_s: int | None,
        progress: Callable[[ApplyProgress], Awaitable[None]],
    ) -> Sequence[ApplyResult]:
        checked = await self._checked(manifest, source, namespace or DEFAULT_NAMESPACE)
        judged = [self._judge(pod) for pod in checked.pods]
        refused = any(isinstance(j, PoddError) for j in judged)
        if dry_run or refused:
            results = [applying.judgement(pod, j, refused=refused) for pod, j in zip(checked.pods, judged, strict=True)]
        else:
            accepted = [j for j in judged if not isinstance(j, PoddError)]
            self._store.save_all(_record(j) for j in accepted if isinstance(j, st.PodState))
            actors = [j if isinstance(j, Actor) else self._accept(j) for j in accepted]
            if wait:
                await self._wait_started(actors, timeout_s, progress)
            results = [
                applying.result(actor.state, "unchanged" if actor is j else "created")
                for actor, j in zip(actors, judged, strict=True)
            ]
        if results:
            results[0] = replace(results[0], warnings=[str(remark) for remark in checked.remarks])
        return results

    async def get(self, name: str, namespace: str | None) -> PodView:
        return self._set_aside(name, namespace) or view(self._registry.find(name, namespace).state)

    async def list_pods(self, namespace: str | None, selector: str) -> Sequence[PodView]:
        wanted = select.parse(selector)
        found = [view(a.state) for a in self._registry.select(None, namespace)]
        found += self._aside.views(namespace)
        return [one for one in found if wanted(one.pod.metadata.labels)]

    def watch(self, namespace: str | None, selector: str) -> AsyncGenerator[PodChange, None]:
        return self._registry.watch(namespace, select.parse(selector))

    async def delete(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView:
        if aside := self._set_aside(name, namespace):
            await self._aside.delete(aside)
            return aside
        actor = self._registry.find(name, namespace)
        last = await actor.ask(ev.DeleteAsked(grace_s=grace_period_s))
        if wait:
            last = await actor.until(lambda _: False)
        return view(last)

    async def stop(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView:
        actor = self._registry.find(name, namespace)
        last = await actor.ask(ev.StopAsked(grace_s=grace_period_s))
        if wait:
            last = await actor.until(lambda s: s.goal.want != "stop" or s.sandbox is None)
        return view(last)

    async def start(self, name: str, namespace: str | None, *, wait: bool) -> PodView:
        actor = self._registry.find(name, namespace)
        last = await actor.ask(ev.StartAsked())
        return view(await actor.until(applying.settled) if wait else last)

    async def restart(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView:
        actor = self._registry.find(name, namespace)
        last = await actor.ask(ev.RestartAsked(grace_s=grace_period_s))
        return view(await actor.until(applying.settled) if wait else last)

    async def pause(self, name: str, namespace: str | None) -> PodView:
        actor = self._registry.find(name, namespace)
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
        actor = self._registry.find(name, namespace)
        return view(await live.resize(actor, container, limits, requests, self._acceptable))

    async def debug(self, name: str, namespace: str | None, added: Container, *, target: str | None) -> Added:
        actor = self._registry.find(name, namespace)
        named = added if added.name else replace(added, name=f"debugger-{uuid.uuid4().hex[:5]}")
        last = await live.debug(actor, named, target, self._acceptable)
        return Added(container=named.name, view=view(last))

    def _acceptable(self, pod: Pod) -> Pod:
        """As it would be accepted. Raises Invalid, Unsupported, or what a plugin refuses it with."""
        (checked,) = self._check(live.text_of(pod), f"pod {pod.metadata.name}", pod.metadata.namespace).pods
        admitted = self._admit(checked)
        self._driver_for(admitted)
        return admitted

    # ---- what is going on

    def events(
        self, name: str | None, namespace: str | None, *, since: str | None, follow: bool
    ) -> AsyncGenerator[Sequence[PodEvent], None]:
        uid = None
        if name is not None:
            uid = self._memory.uid_of(name, namespace) or self._registry.find(name, namespace).state.uid
        after_ns = None if since is None else since_ns(since, self._clock.now_ns())
        return self._memory.read(uid, namespace, after_ns=after_ns, follow=follow)

    async def drivers(self) -> Sequence[DriverReport]:
        reports = []
        for name, driver in self._drivers.items():
            try:
                health = await recovery.answer(driver.probe(), PROBE_S)
            except PoddError as exc:
                health = recovery.no_health(f"probe: {exc}")
            is_default = name == self._settings.default_driver
            found = DriverReport(name=name, is_default=is_default, health=health, capabilities=driver.capabilities)
            reports.append(found)
        for name, reason in self._broken.items():
            health = recovery.no_health(reason)
            reports.append(DriverReport(name=name, is_default=False, health=health, capabilities=None))
        return reports

    async def info(self) -> Info:
        return Info(
            version=podd.__version__,
            pid=os.getpid(),
            started_at=rfc3339(self._started_ns),
            kernel=platform.release(),
            cgroups=self._cgroups,  # type: ignore[arg-type]
            default_driver=self._settings.default_driver,
            config_file=self._settings.config_file,
            run_dir=self._settings.run_dir,
            state_dir=self._settings.state_dir,
            log_dir=self._settings.log_dir,
            pods=Counter(status.phase(actor.state) for actor in self._registry),
            problems=[*self._problems, *self._aside.problems()],
        )

    async def reload(self) -> ReloadReport:
        return self._reload()

    # ---- accepting

    async def _checked(self, text: str, source: str, namespace: str) -> Manifest:
        """A large manifest takes seconds to check: it must not hold up the others."""
        if len(text) < LARGE_MANIFEST:
            return self._check(text, source, namespace)
        return await anyio.to_thread.run_sync(self._check, text, source, namespace)

    def _judge(self, asked: Pod) -> Actor | st.PodState | PoddError:
        """The pod that is there and just so, the state of one to be made, or why not."""
        try:
            pod = self._admit(asked)
            existing = self._registry.named(pod.metadata.namespace, pod.metadata.name)
            if existing is not None:
                return applying.unchanged(existing, pod)
            self._aside.refuse_namesake(pod)
            return self._new(pod)
        except PoddError as refusal:
            return refusal

    def _new(self, pod: Pod) -> st.PodState:
        now_ns = self._clock.now_ns()
        uid = PodUid(str(uuid.uuid4()))
        meta = replace(pod.metadata, uid=uid, creation_timestamp=rfc3339(now_ns))
        return st.new(uid, replace(pod, metadata=meta), self._driver_for(pod).name, now_ns)

    def _driver_for(self, pod: Pod) -> Driver:
        name = pod.spec.runtime_class_name or self._settings.default_driver
        found = self._drivers.get(name)
        if found is None:
            known = ", ".join(self._drivers) or "none"
            why = self._broken.get(name, "there is no such driver")
            key = "spec.runtimeClassName" if pod.spec.runtime_class_name else "default_driver"
            raise Invalid(f"{key}: {name}: {why}", remedy=f"drivers here: {known}")
        needs.check(pod, name, {each: driver.capabilities for each, driver in self._drivers.items()})
        return found

    def _accept(self, new: st.PodState) -> Actor:
        """Its record is stored: from here on it exists."""
        meta = new.pod.metadata
        actor = Actor(new, self._drivers[new.driver], self._around)
        self._registry.add(actor)
        log.info("pod.accepted", pod=meta.name, namespace=meta.namespace, uid=new.uid, driver=new.driver)
        assert self._tasks is not None
        self._tasks.start_soon(actor.run, ev.Woke())
        return actor

    async def _wait_started(
        self, actors: list[Actor], timeout_s: int | None, progress: Callable[[ApplyProgress], Awaitable[None]]
    ) -> None:
        try:
            with anyio.fail_after(timeout_s):
                async with anyio.create_task_group() as tasks:
                    for actor in actors:
                        tasks.start_soon(applying.follow, actor, progress)
        except TimeoutError:
            late = ", ".join(a.state.pod.metadata.name for a in actors if not applying.settled(a.state))
            raise Unavailable(f"pod {late}: not running after {timeout_s} s", remedy="it goes on starting") from None

    def _set_aside(self, name: str, namespace: str | None) -> PodView | None:
        """Where a pod of this podd has the name, it is that one that is meant."""
        if self._registry.named(namespace or DEFAULT_NAMESPACE, name):
            return None
        return self._aside.find(name, namespace or DEFAULT_NAMESPACE)

    # ---- taking up, and upkeep

    async def _recover(self) -> None:
        states, quarantined = self._store.load(recovery.decode)
        for bad in quarantined:
            log.error("record.quarantined", pod=bad.name, namespace=bad.namespace, uid=bad.uid, reason=bad.reason)
        if self._store.damage is None:
            await self._sweep(states)
        else:
            self._problems.append("what runs of pods whose records are lost with the damaged store was left alone")
        assert self._tasks is not None
        for state in states:
            driver = recovery.driver_of(state, self._drivers, self._broken)
            actor = Actor(state, driver, self._around)
            self._registry.add(actor)
            self._tasks.start_soon(actor.run, ev.Resumed())
        log.info("engine.recovered", pods=len(states), quarantined=len(quarantined))

    async def _sweep(self, states: Sequence[st.PodState]) -> None:
        """Remove what belongs to no pod. A pod whose record is damaged runs on, and a person decides."""
        aside = self._aside.uids
        known = {s.sandbox.id for s in states if s.sandbox is not None}
        self._problems += await recovery.sweep(self._drivers.values(), known, lambda found: found.pod_uid in aside)
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

    def _changed(self, old: st.PodState, new: st.PodState, *, gone: bool) -> None:
        self._registry.changed(new, gone=gone)
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

    async def _prepare_volumes(self, state: st.PodState) -> None:
        plans = plan.volumes(state.pod, self._around.host)
        if plans:
            await anyio.to_thread.run_sync(volumes.prepare, plans)

    async def _remove_volumes(self, state: st.PodState) -> None:
        """And the logs: what lives as long as the pod, and no longer."""
        logs = plan.log_directory(state.pod, self._around.host.log_dir)
        if logs:
            await anyio.to_thread.run_sync(volumes.remove_directory, logs)
        if state.pod.spec.volumes:
            await anyio.to_thread.run_sync(volumes.remove, self._settings.state_dir, state.uid)


def _record(state: st.PodState) -> tuple[str, str, str, bytes]:
    meta = state.pod.metadata
    return state.uid, meta.namespace, meta.name, encode(state)
