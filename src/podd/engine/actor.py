"""One task owns one pod: it takes events one by one, stores what `core.pod.step` decides, then sees that it is done.

Decide in a pure function, act in a task, persist between the two. Nothing else writes the pod's state, so there are no
locks; pods never wait for each other. What an action brings comes back as a Report, whatever happens to it: an error, a
deadline, or a driver that raises nonsense fails this one pod.
"""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup
from msgspec.structs import replace

from podd.core import container, look, plan, pod, resources, sandbox
from podd.core import events as ev
from podd.core.sources import Sources
from podd.core.state import PodState
from podd.driver.contract import CanPause, ContainerCreated, Driver, Exit, Handle
from podd.engine import hooks, messages, resizing
from podd.engine.clock import Clock
from podd.engine.handlers import Place
from podd.engine.logfiles import prune
from podd.engine.probes import Prober
from podd.engine.store import Store
from podd.errors import BY_KIND, Internal, Kind, NotFound, PoddError, Unavailable
from podd.model.ids import ContainerId, SandboxId

T = TypeVar("T")

INBOX = 256  # events that may wait; whoever brings more waits too

# How long a driver may take before the call counts as failed, in seconds. Making a container may mean reading an image
# from a slow disk; the others are a few system calls on the slowest sensible machine.
DEADLINES_S = {
    "recover": 30,
    "create_sandbox": 60,
    "create_container": 120,
    "start_containers": 30,
    "signal_containers": 15,
    "destroy_container": 60,
    "destroy_sandbox": 90,
    "pause": 15,
    "resume": 15,
    "resize": 30,
    "sandbox_status": 15,
    "container_status": 15,
    "volumes": 120,
}

CANCEL_S = 5  # how long what is under way may take to be cancelled before its sandbox is destroyed all the same
STORE_RETRY_S = 1
FAILED_RETRY_S = 1
ASK_AGAIN_S = 1  # a driver that cannot say now is asked again

_encode = msgspec.json.Encoder().encode


def record(state: PodState) -> tuple[str, str, str, bytes]:
    """As the store takes it. A name is one pod's; who will have it has the name that no pod can have until then."""
    meta = state.pod.metadata
    name = meta.name if state.replaces is None else f"{meta.name}+"
    return state.uid, meta.namespace, name, _encode(state)


class Changed(Protocol):
    """Called after each change of a pod that was stored."""

    def __call__(self, old: PodState, new: PodState, *, gone: bool) -> None: ...


class Surroundings:
    """What all actors share."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        host: plan.Host,
        prepare_volumes: Callable[[PodState], Awaitable[None]],
        remove_volumes: Callable[[PodState], Awaitable[None]],
        sources: Callable[[PodState], Sources],
        changed: Changed,
        told: Callable[[PodState, ev.Tell], None],
        failpoint: Callable[[str], None] = lambda _point: None,
    ) -> None:
        """failpoint: called with "driver.VERB.before" and ".after" around each effect, for tests of crashes."""
        self.store = store
        self.clock = clock
        self.host = host
        self.prepare_volumes = prepare_volumes
        self.remove_volumes = remove_volumes
        self.sources = sources
        self.changed = changed
        self.told = told
        self.failpoint = failpoint


class Reply:
    """What became of a request: the state that follows from it, or its refusal."""

    def __init__(self) -> None:
        self._given = anyio.Event()
        self._result: PodState | PoddError | None = None

    def give(self, result: PodState | PoddError) -> None:
        self._result = result
        self._given.set()

    async def get(self) -> PodState:
        await self._given.wait()
        if isinstance(self._result, PodState):
            return self._result
        assert self._result is not None
        raise self._result


class UnderWay(NamedTuple):
    """What ends with its sandbox, and as soon as the pod is no longer so that it makes sense."""

    makes_sense: Callable[[PodState], bool]
    done: anyio.Event


class Actor:
    """state: as last stored. gone: nothing is left of the pod, and the actor has ended."""

    def __init__(self, state: PodState, driver: Driver, around: Surroundings) -> None:
        self.state = state
        self.driver = driver
        self.gone = False
        self._around = around
        self._send, self._receive = anyio.create_memory_object_stream[tuple[ev.Event, Reply | None]](INBOX)
        self._changed = anyio.Event()
        self._under_way: dict[anyio.CancelScope, UnderWay] = {}
        self._tasks: TaskGroup | None = None
        self._log = structlog.get_logger().bind(
            pod=state.pod.metadata.name, namespace=state.pod.metadata.namespace, uid=state.uid, driver=state.driver
        )

    # ---- for others

    async def ask(self, request: ev.Request) -> PodState:
        """Raises Conflict: the state forbids it; NotFound: the pod is gone."""
        reply = Reply()
        try:
            await self._send.send((request, reply))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise self._not_found() from None
        return await reply.get()

    async def report(self, report: ev.Report) -> None:
        """Of a pod that is gone nobody takes it, and nothing is lost."""
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._send.send((report, None))

    async def until(self, is_so: Callable[[PodState], bool]) -> PodState:
        """Wait until the state is so, or the pod is gone; the state as it then is."""
        while not self.gone and not is_so(self.state):
            await self._changed.wait()
        return self.state

    # ---- for what is under way

    def tell(self, told: ev.Tell) -> None:
        self._around.told(self.state, told)

    # ---- the task

    async def run(self, *first: ev.Event) -> None:
        """Until the pod is forgotten or podd stops; the pod itself runs on when podd stops.

        A bug that ends it costs this pod a moment and no other anything: it is taken up again as after a restart.
        """
        try:
            while not self.gone:
                try:
                    await self._serve(first)
                except Exception:  # noqa: BLE001  whatever it was, the others go on
                    self._log.exception("actor.failed", remedy="this is a bug in podd: report it with this traceback")
                    await anyio.sleep(FAILED_RETRY_S)
                    first = (ev.Resumed(),)
        finally:
            self._close()

    async def _serve(self, first: Sequence[ev.Event]) -> None:
        async with anyio.create_task_group() as self._tasks:
            for event in first:
                await self._take(event, None)
            while not self.gone:
                await self._take(*await self._next())
            self._tasks.cancel_scope.cancel()

    async def _next(self) -> tuple[ev.Event, Reply | None]:
        wake = pod.next_wake(self.state)
        wait_s = math.inf if wake is None else max(0, wake - self._around.clock.now_ns()) / 1e9
        with anyio.move_on_after(wait_s):
            return await self._receive.receive()
        return ev.Woke(), None

    async def _take(self, event: ev.Event, reply: Reply | None) -> None:
        try:
            new, actions = pod.step(self.state, event, self._around.clock.now_ns())
            await self._keep(new, forget=ev.Forget() in actions, may_refuse=reply is not None)
        except PoddError as refusal:
            assert reply is not None, "a report is never refused"
            reply.give(refusal)
            return
        except Exception as exc:
            if reply is not None:
                reply.give(Internal(f"podd: unexpected {type(exc).__name__}", remedy="see podd's log"))
            raise
        if reply is not None:
            reply.give(new)
        for action in actions:
            self._perform(action)

    async def _keep(self, new: PodState, *, forget: bool, may_refuse: bool) -> None:
        """Persist, then act. While the store fails, a request is refused, and what happened waits to be written."""
        old = self.state
        if new is old and not forget:
            return
        while True:
            try:
                self._write(new, forget=forget)
                break
            except PoddError as exc:
                if may_refuse:
                    raise
                self._log.error("store.failed", error=exc.message, remedy=exc.remedy)
                await anyio.sleep(STORE_RETRY_S)
        self.state = new
        self.gone = forget
        for scope, task in self._under_way.items():
            if not task.makes_sense(new):
                scope.cancel()
        self._around.changed(old, new, gone=forget)
        self._changed.set()
        self._changed = anyio.Event()

    def _write(self, new: PodState, *, forget: bool) -> None:
        if forget:
            self._around.store.delete(new.uid)
        else:
            self._around.store.save(*record(new))

    def _close(self) -> None:
        """Whoever still asks is told."""
        self._send.close()
        while True:
            try:
                _, reply = self._receive.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
            if reply is not None:
                reply.give(self._not_found() if self.gone else Unavailable("podd: is stopping"))
        self._receive.close()
        self._changed.set()

    def _not_found(self) -> NotFound:
        meta = self.state.pod.metadata
        return NotFound(f"pod {meta.namespace}/{meta.name}: is gone")

    # ---- actions

    def _perform(self, action: ev.Action) -> None:
        """Set an action going, with the handles as they are in the state that asked for it."""
        assert self._tasks is not None
        match action:
            case ev.Tell():
                self.tell(action)
            case ev.Forget():
                pass
            case ev.DestroySandbox():
                self._tasks.start_soon(self._destroy_sandbox, action)
            case ev.PrepareVolumes() | ev.RemoveVolumes():
                self._tasks.start_soon(self._volumes, action)
            case ev.RunProbes(id=id):
                self._tasks.start_soon(self._cancellable, self._prober(action).run, _has(id, container.Running))
            case ev.RunHook(id=id):
                run = partial(hooks.run, action, self._place(id, action.name), self.state.pod.metadata)
                self._tasks.start_soon(self._cancellable, run, _has(id, container.Running, container.Stopping))
            case _:
                self._tasks.start_soon(self._cancellable, self._doing(action))

    def _doing(self, action: ev.Action) -> Callable[[], Awaitable[ev.Report | None]]:
        match action:
            case ev.CreateSandbox():
                return lambda: self._create_sandbox(action)
            case ev.RecoverSandbox():
                box, made = self._sandbox_handle(), self._made()
                return lambda: self._recover(action, box, made)
            case ev.CreateContainer():
                box = self._sandbox_handle()
                return lambda: self._create_container(action, box)
            case ev.StartContainers(ids=ids):
                handles = self._handles(ids)
                return lambda: self._start(ids, handles)
            case ev.SignalContainers(ids=ids, signal=number):
                handles = self._handles(ids)
                return lambda: self._signal(handles, number)
            case ev.DestroyContainer():
                box = self._sandbox_handle()
                return lambda: self._destroy_container(action, box)
            case ev.WatchSandbox():
                box = self._sandbox_handle()
                return lambda: self._watch_sandbox(action, box)
            case ev.WatchContainer(id=id):
                (handle,) = self._handles((id,))
                return lambda: self._watch_container(action, handle)
            case ev.Resize():
                box, state = self._sandbox_handle(), self.state
                return lambda: self._resize(action, box, state)
            case ev.Freeze() | ev.Thaw():
                box = self._sandbox_handle()
                return lambda: self._freeze(box, frozen=isinstance(action, ev.Freeze))
            case _:
                raise AssertionError(action)

    async def _cancellable(
        self, doing: Callable[[], Awaitable[ev.Report | None]], makes_sense: Callable[[PodState], bool] = lambda _: True
    ) -> None:
        """Run what ends when its sandbox is destroyed, or when it makes sense no more."""
        if not makes_sense(self.state):
            return
        done = anyio.Event()
        with anyio.CancelScope() as scope:
            self._under_way[scope] = UnderWay(makes_sense, done)
            try:
                report = await doing()
            finally:
                del self._under_way[scope]
                done.set()
            if report is not None:
                await self._send.send((report, None))

    async def _destroy_sandbox(self, action: ev.DestroySandbox) -> None:
        under_way = list(self._under_way.items())
        for scope, _ in under_way:
            scope.cancel()
        with anyio.move_on_after(CANCEL_S):
            for _, task in under_way:
                await task.done.wait()
        _, failure = await self._call("destroy_sandbox", lambda: self.driver.destroy_sandbox(action.id))
        if failure is None:
            messages.remove_all(os.path.dirname(self._message_path(ContainerId(""))))
        await self._send.send((ev.SandboxDestroyed(id=action.id, failure=failure), None))

    async def _volumes(self, action: ev.Action) -> None:
        if isinstance(action, ev.PrepareVolumes):
            _, failure = await self._call("volumes", lambda: self._around.prepare_volumes(self.state))
            await self._send.send((ev.VolumesPrepared(failure=failure), None))
        else:
            _, failure = await self._call("volumes", lambda: self._around.remove_volumes(self.state))
            await self._send.send((ev.VolumesRemoved(failure=failure), None))

    async def _create_sandbox(self, action: ev.CreateSandbox) -> ev.Report:
        config = plan.sandbox_config(self.state.pod, action.id, action.attempt, self._around.host)
        created, failure = await self._call("create_sandbox", lambda: self.driver.create_sandbox(config))
        if created is None:
            return ev.SandboxFailed(id=action.id, failure=failure or _no_answer("create_sandbox"))
        return ev.SandboxMade(id=action.id, created=created)

    async def _recover(self, action: ev.RecoverSandbox, box: Handle, made: list[Handle]) -> ev.Report:
        """A backend that is away is waited for: the pod may well be running behind it."""
        while True:
            status, failure = await self._call("recover", lambda: self.driver.recover(box, made))
            if status is not None:
                return ev.SandboxRecovered(id=action.id, status=status)
            if failure is None or failure.kind is not Kind.UNAVAILABLE:
                return ev.SandboxLost(id=action.id, reason=failure.message if failure else "lost")
            await anyio.sleep(ASK_AGAIN_S)

    async def _create_container(self, action: ev.CreateContainer, box: Handle) -> ev.Report:
        spec, id = look.spec_of(self.state, action.name), _sandbox_id(self.state)
        sources = self._around.sources(self.state)
        try:
            config = plan.container_config(
                self.state.pod, spec, action.id, id, action.attempt, self._around.host, sources
            )
        except PoddError as exc:
            refused = ev.Failure(kind=exc.kind, message=exc.message, remedy=exc.remedy)
            return ev.ContainerFailed(id=action.id, failure=refused, reason=container.CONFIG_ERROR)
        config = replace(config, pid_target=self._target(action.name))

        async def create() -> ContainerCreated:
            messages.make(self._message_path(action.id))
            return await self.driver.create_container(box, config)

        created, failure = await self._call("create_container", create)
        if created is None:
            return ev.ContainerFailed(id=action.id, failure=failure or _no_answer("create_container"))
        self._prune_logs(action)
        return ev.ContainerMade(id=action.id, created=created)

    def _target(self, name: str) -> ContainerId | None:
        """Whose processes it sees, of a container that was added. The driver refuses one that does not run."""
        added = self.state.ephemeral.get(name)
        target = self.state.members[added.target].instance if added and added.target else None
        return None if target is None else target.id

    def _prune_logs(self, action: ev.CreateContainer) -> None:
        """Keep the log of this instance and of the last one that ran, as the kubelet does."""
        logs = plan.log_directory(self.state.pod, self._around.host.log_dir)
        last = self.state.members[action.name].last
        if logs:
            prune(f"{logs}/{action.name}", {action.attempt, last.attempt if last else action.attempt})

    async def _start(self, ids: Sequence[ContainerId], handles: list[Handle]) -> ev.Report:
        started, failure = await self._call("start_containers", lambda: self.driver.start_containers(handles))
        return ev.ContainersReleased(ids=ids, started=started or (), failure=failure)

    async def _signal(self, handles: list[Handle], number: int) -> None:
        """That it was not heard is not reported: patience ends at its time, and then the sandbox goes."""
        await self._call("signal_containers", lambda: self.driver.signal_containers(handles, number))

    async def _destroy_container(self, action: ev.DestroyContainer, box: Handle) -> ev.Report:
        _, failure = await self._call("destroy_container", lambda: self.driver.destroy_container(box, action.id))
        if failure is None:
            messages.remove(self._message_path(action.id))
        return ev.ContainerDestroyed(id=action.id, failure=failure)

    async def _watch_sandbox(self, action: ev.WatchSandbox, box: Handle) -> ev.Report:
        """A backend that is away has not lost the pod: it is asked again."""
        while True:
            reason, failure = await self._call("wait_sandbox", lambda: self.driver.wait_sandbox(box))
            if failure is None or failure.kind is not Kind.UNAVAILABLE:
                return ev.SandboxLost(id=action.id, reason=reason or (failure.message if failure else "lost"))
            await anyio.sleep(ASK_AGAIN_S)

    async def _watch_container(self, action: ev.WatchContainer, handle: Handle) -> ev.Report | None:
        """Of a container that was destroyed meanwhile there is nothing to tell: who destroyed it knows."""
        while True:
            ended, failure = await self._call("wait_container", lambda: self.driver.wait_container(handle))
            if ended is not None:
                return ev.ContainerExited(id=action.id, exit=self._with_message(action.id, ended))
            if failure is None or failure.kind is Kind.NOT_FOUND:
                return None
            await anyio.sleep(ASK_AGAIN_S)

    def _with_message(self, id: ContainerId, ended: Exit) -> Exit:
        """What podd or the driver has to say of an end counts more."""
        name = next((n for n, m in self.state.members.items() if m.instance and m.instance.id == id), None)
        if name is None or ended.message:
            return ended
        spec, instance = look.spec_of(self.state, name), self.state.members[name].instance
        log_path = ""
        if spec.termination_message_policy == "FallbackToLogsOnError" and ended.code and instance:
            log_path = plan.log_path(self.state.pod, name, instance.attempt, self._around.host)
        return replace(ended, message=messages.said(self._message_path(id), log_path))

    def _message_path(self, id: ContainerId) -> str:
        return plan.message_path(self.state.pod, id, self._around.host)

    async def _resize(self, action: ev.Resize, box: Handle, state: PodState) -> ev.Report:
        """Members that are made later get the new limits by themselves."""
        instances = [(name, member.instance) for name, member in state.members.items()]
        members = [
            (i.handle, resources.container_limits(look.spec_of(state, name)))
            for name, i in instances
            if isinstance(i, container.Made) and i.handle is not None
        ]
        limits = resources.pod_limits(state.pod.spec)
        failure = await resizing.resize(self.driver, self._call, box, limits, members)
        return ev.Resized(generation=action.generation, failure=failure)

    def _prober(self, action: ev.RunProbes) -> Prober:
        running = self.state.members[action.name].instance
        assert isinstance(running, container.Running), "probes are asked for of what runs"
        place = self._place(action.id, action.name)
        return Prober(self, action, place, running.started_at_ns, self._around.clock)

    def _place(self, id: ContainerId, name: str) -> Place:
        (handle,) = self._handles((id,))
        return Place(self.driver, self._sandbox_handle(), handle, look.spec_of(self.state, name))

    async def _freeze(self, box: Handle, *, frozen: bool) -> ev.Report:
        driver = self.driver
        if not isinstance(driver, CanPause):
            cannot = ev.Failure(kind=Kind.UNSUPPORTED, message=f"driver {driver.name}: cannot pause pods")
            return ev.Frozen(frozen=frozen, failure=cannot)
        act, verb = (driver.pause, "pause") if frozen else (driver.resume, "resume")
        _, failure = await self._call(verb, lambda: act(box))
        return ev.Frozen(frozen=frozen, failure=failure)

    async def _call(self, verb: str, call: Callable[[], Awaitable[T]]) -> tuple[T | None, ev.Failure | None]:
        """Every call of a driver goes through here: a deadline, a log line, no exception but cancellation."""
        limit_s = DEADLINES_S.get(verb, math.inf)
        began = anyio.current_time()
        answer: T | None = None
        failure: ev.Failure | None = None
        self._around.failpoint(f"driver.{verb}.before")
        try:
            with self._blaming(verb), anyio.move_on_after(limit_s) as scope:
                answer = await call()
        except PoddError as exc:
            failure = ev.Failure(kind=exc.kind, message=exc.message, remedy=exc.remedy)
        else:
            if scope.cancelled_caught:
                failure = ev.Failure(kind=Kind.UNAVAILABLE, message=f"{verb}: no answer within {limit_s} s")
        self._around.failpoint(f"driver.{verb}.after")
        took_ms = round((anyio.current_time() - began) * 1000, 2)
        if failure is None:
            self._log.debug("driver.called", verb=verb, took_ms=took_ms)
        elif failure.kind is not Kind.NOT_FOUND:
            self._log.warning("driver.failed", verb=verb, took_ms=took_ms, error=failure.message, remedy=failure.remedy)
        return answer, failure

    @contextmanager
    def _blaming(self, verb: str) -> Iterator[None]:
        """What a driver raises that is no podd error is a bug of that driver."""
        try:
            yield
        except PoddError:
            raise
        except Exception as exc:
            self._log.exception("driver.broke", verb=verb)
            what = f"{type(exc).__name__}: {exc}"
            raise Internal(f"driver {self.state.driver}: {verb}: {what}", remedy="see podd's log") from exc

    def _sandbox_handle(self) -> Handle:
        assert isinstance(self.state.sandbox, sandbox.Ready), "no action on a sandbox is decided without one"
        return self.state.sandbox.handle

    def _made(self) -> list[Handle]:
        """The handles of all containers there are."""
        instances = [m.instance for m in self.state.members.values()]
        return [i.handle for i in instances if isinstance(i, container.Made) and i.handle is not None]

    def _handles(self, ids: Sequence[str]) -> list[Handle]:
        instances = {m.instance.id: m.instance for m in self.state.members.values() if m.instance is not None}
        return [_handle(instances[id]) for id in ids]  # type: ignore[index]


def _has(id: ContainerId, *kinds: type[container.Instance]) -> Callable[[PodState], bool]:
    """Whether the pod has this instance of a container, in one of these states."""
    return lambda state: any(isinstance(m.instance, kinds) and m.instance.id == id for m in state.members.values())


def _handle(instance: container.Instance) -> Handle:
    handle: Handle | None = getattr(instance, "handle", None)
    assert handle is not None, "no action on a container is decided before it is made"
    return handle


def _sandbox_id(state: PodState) -> SandboxId:
    assert state.sandbox is not None
    return state.sandbox.id


def _no_answer(verb: str) -> ev.Failure:
    return ev.Failure(kind=Kind.INTERNAL, message=f"{verb}: the driver answered nothing")


def as_error(failure: ev.Failure) -> PoddError:
    """A failure that was stored, to be raised again."""
    return BY_KIND[failure.kind](failure.message, remedy=failure.remedy)
