"""From a manifest to pods that are as it says: each is judged, and when none is refused the least is done.

Nothing of a manifest is begun before all of it is judged. ConfigMaps and Secrets are stored before the pods that use
them, and all new pods in one transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as but
from typing import Protocol

import anyio
import anyio.to_thread
from msgspec.structs import replace

from podd.core import applied, difference, needs, network
from podd.core import state as st
from podd.core.difference import Change
from podd.driver.contract import Driver, NetworkStatus
from podd.engine import applying, live
from podd.engine.actor import Actor, record
from podd.engine.aside import Aside
from podd.engine.clock import Clock, rfc3339
from podd.engine.drivers import Drivers
from podd.engine.objects import Objects
from podd.engine.registry import DEFAULT_NAMESPACE, Registry
from podd.engine.store import Store
from podd.engine.view import Action, ApplyProgress, ApplyResult, ManifestText
from podd.errors import Conflict, Invalid, PoddError, Unavailable
from podd.model.ids import PodUid
from podd.model.manifest import Manifest, together
from podd.model.pod import Pod

LARGE_MANIFEST = 64 * 1024  # characters; up to here checking takes some milliseconds

Progress = Callable[[ApplyProgress], Awaitable[None]]


class Check(Protocol):
    """`podd.model.manifest.parse`."""

    def __call__(self, text: str, source: str, namespace: str, *, strict: bool) -> Manifest: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """What is to become of one pod of a manifest.

    there: the pod that has its name. target: the one that is to have it: the same, or its successor. new: the one to
    be made, and the target once it is. refused: why nothing is done.
    """

    pod: Pod
    action: Action
    there: Actor | None = None
    target: Actor | None = None
    new: st.PodState | None = None
    changes: Sequence[Change] = ()
    refused: PoddError | None = None
    warnings: Sequence[str] = field(default=())


class Convergence:
    """accept: takes up a pod whose record is stored. admit: the plugins' word on a pod."""

    def __init__(
        self,
        *,
        registry: Registry,
        store: Store,
        objects: Objects,
        aside: Aside,
        clock: Clock,
        drivers: Drivers,
        check: Check,
        admit: Callable[[Pod], Pod],
        accept: Callable[[st.PodState], Actor],
    ) -> None:
        self._registry = registry
        self._store = store
        self._objects = objects
        self._aside = aside
        self._clock = clock
        self._drivers = drivers
        self._check = check
        self._admit = admit
        self._accept = accept

    async def apply(
        self,
        texts: Sequence[ManifestText],
        *,
        namespace: str | None,
        strict: bool,
        dry_run: bool,
        wait: bool,
        timeout_s: int | None,
        progress: Progress,
        origin: str = "",
    ) -> Sequence[ApplyResult]:
        """As podd.control.engine.Engine.apply. origin: the file of static pods that it is, which its pods then keep."""
        checked = await self._all_checked(texts, namespace or DEFAULT_NAMESPACE, strict=strict)
        unready = await self._unready(checked.pods)
        objects = self._objects.judge(checked)
        judged = [_refuse_unready(self._judge(pod, checked, origin), unready, checked) for pod in checked.pods]
        if dry_run:
            return [*map(applying.of_object, objects), *map(_result, judged)]
        if any(one.refused for one in objects) or any(one.refused for one in judged):
            spared = [applying.of_object(one.not_alone()) for one in objects]
            return [*spared, *(_result(_not_alone(one)) for one in judged)]
        self._objects.keep(objects)
        self._store.save_all(record(one.new) for one in judged if one.new is not None)
        begun = [self._begun(one) for one in judged]  # at once: a record without its actor would wait for a restart
        with anyio.CancelScope(shield=True):  # what is ordered is done, also for a client that leaves
            done = await self._all_amended(begun)
        if wait:
            await self._wait([one.target for one in done if one.target is not None], timeout_s, progress)
        return [*map(applying.of_object, objects), *map(_result, done)]

    def acceptable(self, pod: Pod, driver: Driver) -> Pod:
        """As it would be accepted. Raises Invalid, Unsupported, or what a plugin refuses it with."""
        text = live.text_of(pod)
        (checked,) = self._check(text, f"pod {pod.metadata.name}", pod.metadata.namespace, strict=True).pods
        admitted = self._admitted(checked)
        self._drivers.check(admitted, driver)
        return admitted

    async def _all_checked(self, texts: Sequence[ManifestText], namespace: str, *, strict: bool) -> Manifest:
        """Raises Invalid: with the problems of all."""
        parts: list[Manifest] = []
        wrong: list[Invalid] = []
        for text in texts:
            try:
                parts.append(await self.checked(text.manifest, text.source, namespace, strict=strict))
            except Invalid as exc:
                wrong.append(exc)
        if len(wrong) > 1:
            raise Invalid("\n".join(exc.message for exc in wrong))
        if wrong:
            raise wrong[0]
        return parts[0] if len(parts) == 1 else together(parts)

    async def checked(
        self, text: str, source: str, namespace: str = DEFAULT_NAMESPACE, *, strict: bool = True
    ) -> Manifest:
        """Raises Invalid. A large manifest takes seconds to check: it must not hold up the others."""
        if len(text) < LARGE_MANIFEST:
            return self._check(text, source, namespace, strict=strict)
        return await anyio.to_thread.run_sync(lambda: self._check(text, source, namespace, strict=strict))

    async def _unready(self, pods: Sequence[Pod]) -> Mapping[str, NetworkStatus]:
        """By driver, of those that would lead ports of the host to one of these: those that can lead none now."""
        found: dict[str, NetworkStatus] = {}
        for name in {self._drivers.name_for(pod) for pod in pods if network.port_mappings(pod)}:
            driver = self._drivers.choice.drivers.get(name)
            answer = await self._drivers.network_of(driver) if driver else None
            if driver and answer and not answer.ready:
                found[driver.name] = answer
        return found

    # ---- judging

    def _judge(self, asked: Pod, manifest: Manifest, origin: str) -> Judged:
        warnings = [str(remark) for remark in manifest.remarks_of(asked)]
        return but(self._judged(asked, manifest, origin), warnings=warnings)

    def _judged(self, asked: Pod, manifest: Manifest, origin: str) -> Judged:
        try:
            pod = self._admitted(asked)
            self._objects.check(pod, manifest)
            there = self._registry.named(pod.metadata.namespace, pod.metadata.name)
            if there is not None:
                judged = self._compared(there, pod)
                _refuse_stranger(there.state, judged, origin)
                return judged
            self._aside.refuse_namesake(pod)
            return Judged(pod, "created", new=self._new(pod, source=origin))
        except PoddError as refusal:
            return Judged(asked, "refused", refused=_placed(refusal, asked, manifest))

    def _admitted(self, asked: Pod) -> Pod:
        """What a plugin makes of it is held to the same rules as what people write."""
        pod = self._admit(asked)
        if pod == asked:
            return pod
        source = f"pod {pod.metadata.name}, as a plugin amended it"
        (checked,) = self._check(live.text_of(pod), source, pod.metadata.namespace, strict=True).pods
        return checked

    def _compared(self, there: Actor, pod: Pod) -> Judged:
        """Raises Conflict where it is on its way to be gone, or to be another."""
        successor = self._registry.successor(there)
        target = successor or there
        changes = self._changes(target, _joined(target, pod))
        if target.state.goal.want == "delete" or (successor and changes):
            what = "replaced" if successor else "deleted"
            meta = pod.metadata
            raise Conflict(
                f"pod {meta.namespace}/{meta.name}: is being {what}", remedy="apply it again when that is done"
            )
        action = difference.verdict(changes)
        if action == "unchanged" and target.state.ports == "refused":
            action = "published"  # it is another try
        new = self._replacement(there, pod) if action == "recreated" else None
        return Judged(pod, action, there=there, target=target, new=new, changes=changes)

    def _changes(self, there: Actor, pod: Pod) -> Sequence[Change]:
        """A driver that is not named is the default of the day on which the pod was made."""
        old = there.state.pod
        named_alike = old.spec.runtime_class_name == pod.spec.runtime_class_name
        return difference.differences(
            old,
            pod,
            same_driver=named_alike or self._drivers.name_for(pod) == there.state.driver,
            can_resize=there.driver.capabilities.resize or there.state.sandbox is None,
            can_publish=there.driver.capabilities.publish or there.state.sandbox is None,
        )

    def _replacement(self, there: Actor, pod: Pod) -> st.PodState:
        """A pod that is stopped stays stopped, whatever its manifest says now."""
        old = there.state
        new = self._new(pod, replaces=old.uid, source=old.source)
        new = replace(new, pod=_joined(there, new.pod))
        return replace(new, goal=st.Goal(want="stop")) if old.goal.want == "stop" else new

    def _new(self, pod: Pod, *, replaces: PodUid | None = None, source: str = "") -> st.PodState:
        now_ns = self._clock.now_ns()
        uid = PodUid(str(uuid.uuid4()))
        meta = replace(pod.metadata, uid=uid, creation_timestamp=rfc3339(now_ns))
        driver = self._drivers.for_new(pod)
        # A port of the host leads to one pod. Where it cannot be led to the next when that is there, it is made later.
        is_late = replaces is not None and not driver.capabilities.publish and bool(network.port_mappings(pod))
        pod = replace(pod, metadata=meta)
        return st.new(uid, pod, driver.name, now_ns, replaces=replaces, source=source, is_late=is_late)

    # ---- doing

    def _begun(self, judged: Judged) -> Judged:
        return judged if judged.new is None else but(judged, target=self._accept(judged.new))

    async def _all_amended(self, begun: Sequence[Judged]) -> Sequence[Judged]:
        """At once: each may have to wait for what is under way."""
        done = list(begun)

        async def amend(number: int) -> None:
            done[number] = await self._amended(begun[number])

        there = [number for number, one in enumerate(begun) if one.new is None]
        if there:
            async with anyio.create_task_group() as tasks:
                for number in there:
                    tasks.start_soon(amend, number)
        return done

    async def _amended(self, judged: Judged) -> Judged:
        target, asked = judged.target, judged.pod
        if target is None:
            return judged
        given = applied.given_by(asked)
        try:
            if judged.action != "unchanged":
                await target.amend(lambda there: difference.amended(there, _joined(target, asked)), given)
            elif target.state.applied != given:
                await target.amend(lambda there: there, given)
        except PoddError as refusal:
            return but(judged, action="refused", refused=refusal, target=None)
        return judged

    async def _wait(self, actors: Sequence[Actor], timeout_s: int | None, progress: Progress) -> None:
        try:
            with anyio.fail_after(timeout_s):
                async with anyio.create_task_group() as tasks:
                    for actor in actors:
                        tasks.start_soon(applying.follow, actor, progress)
        except TimeoutError:
            late = ", ".join(a.state.pod.metadata.name for a in actors if not applying.converged(a.state))
            raise Unavailable(f"pod {late}: not running after {timeout_s} s", remedy="it goes on starting") from None


def _joined(there: Actor, asked: Pod) -> Pod:
    return applied.joined(asked, there.state.pod, there.state.applied)


def _placed(refusal: PoddError, pod: Pod, manifest: Manifest) -> PoddError:
    """With where the field stands that it is about, if it is about one."""
    field = refusal.facts.get("field")
    if not isinstance(field, str):
        return refusal
    message = f"{manifest.where(pod, field)}: {refusal.message}"
    return type(refusal)(message, remedy=refusal.remedy, **refusal.facts)


def _refuse_stranger(there: st.PodState, judged: Judged, origin: str) -> None:
    """Raises Conflict: a pod of a file is its file's alone, and no file takes what others have made."""
    meta = there.pod.metadata
    if there.source == origin or (judged.action == "unchanged" and not origin):
        return
    if there.source:
        raise Conflict(f"pod {meta.namespace}/{meta.name}: comes from {there.source}", remedy="change that file")
    raise Conflict(
        f"pod {meta.namespace}/{meta.name}: is there, and comes from no file",
        remedy=f"delete it: podd-cli delete pod {meta.name} -n {meta.namespace}; then the file's takes its place",
    )


def _refuse_unready(judged: Judged, unready: Mapping[str, NetworkStatus], manifest: Manifest) -> Judged:
    """Of a pod with ports of the host that is to be made, or given others, where there is no network to lead them.

    One that goes on as it is needs none.
    """
    given_others = judged.target.state if judged.target and judged.action == "published" else None
    state = judged.new or given_others
    fields = [need.field for need in needs.needs(judged.pod) if need.capability == "network"]
    if state is None or state.driver not in unready or not fields:
        return judged
    status, field = unready[state.driver], fields[0]
    refused = Unavailable(f"{field}: the network is not ready: {status.reason}", remedy=status.remedy, field=field)
    return Judged(judged.pod, "refused", refused=_placed(refused, judged.pod, manifest), warnings=judged.warnings)


def _not_alone(judged: Judged) -> Judged:
    """Of a manifest of which another object is refused."""
    if judged.refused or judged.action == "unchanged":
        return judged
    why = Conflict("not applied: another object of the manifest is refused")
    return Judged(judged.pod, "refused", refused=why, warnings=judged.warnings)


def _result(judged: Judged) -> ApplyResult:
    told = applying.refusal(judged.pod, judged.refused) if judged.refused else _told(judged)
    return replace(told, warnings=judged.warnings, changes=[applying.shown(change) for change in judged.changes])


def _told(judged: Judged) -> ApplyResult:
    state = judged.new if judged.target is None else judged.target.state
    assert state is not None
    if judged.there and state.replaces and state.failed_start:
        return applying.kept(judged.there.state, state.failed_start)
    if state.resized < state.generation and state.not_resized is not None:
        return applying.result(state, judged.action, ("Infeasible", state.not_resized.message))
    if state.ports == "refused" and state.not_published is not None:
        return applying.result(state, judged.action, ("NotPublished", str(state.not_published)))
    return applying.result(state, judged.action)
