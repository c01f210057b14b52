"""One task owns one pod: it takes events one by one, stores what `core.pod.step` decides, then sees that it is done.

Decide in a pure function, act in a task, persist between the two. Nothing else writes the pod's state, so there are no
locks; pods never wait for each other. What an action brings comes back as a Report, whatever happens to it: an error, a
deadline, or a driver that raises nonsense fails this one pod.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from podd.core import container, pod
from podd.core import events as ev
from podd.core.amend import must_wait
from podd.core.applied import Applied
from podd.core.state import PodState
from podd.driver.contract import Driver
from podd.engine.calls import Calls
from podd.engine.doing import Doing
from podd.engine.surroundings import Surroundings
from podd.errors import BY_KIND, Conflict, Internal, NotFound, PoddError, Unavailable
from podd.model.ids import ContainerId
from podd.model.pod import Pod

T = TypeVar("T")

INBOX = 256  # events that may wait; whoever brings more waits too

SETTLE_S = 30  # how long a change waits for what is under way
CANCEL_S = 5  # how long what is under way may take to be cancelled before its sandbox is destroyed all the same
STORE_RETRY_S = 1
FAILED_RETRY_S = 1

_encode = msgspec.json.Encoder().encode


def record(state: PodState) -> tuple[str, str, str, bytes]:
    """As the store takes it. A name is one pod's; who will have it has the name that no pod can have until then."""
    meta = state.pod.metadata
    name = meta.name if state.replaces is None else f"{meta.name}+"
    return state.uid, meta.namespace, name, _encode(state)


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
        self._doing = Doing(self, driver, Calls(state.driver, self._log, around.failpoint), around)

    # ---- for others

    async def ask(self, request: ev.Request) -> PodState:
        """Raises Conflict: the state forbids it; NotFound: the pod is gone."""
        reply = Reply()
        try:
            await self._send.send((request, reply))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise self._not_found() from None
        return await reply.get()

    async def amend(self, change: Callable[[Pod], Pod], applied: Applied | None = None) -> PodState:
        """Have the pod changed, or, where somebody else has changed it meanwhile, what has become of it.

        applied: what is its manifest's now, where a manifest asks. What a pod cannot take while its members are being
        started or ended waits for that, as a kubelet defers it. Raises as `change` and `ask`.
        """
        deadline = anyio.current_time() + SETTLE_S
        while True:
            pod = self.state.pod
            try:
                return await self.ask(ev.AmendAsked(pod=change(pod), of=pod, applied=applied))
            except Conflict:
                if self.state.pod is pod and not await self._has_settled(deadline):
                    raise

    async def _has_settled(self, deadline: float) -> bool:
        """Wait until it can take a change. False: it could before, or cannot in time."""
        if not must_wait(self.state):
            return False
        with anyio.CancelScope(deadline=deadline) as patience:
            await self.until(lambda s: not must_wait(s))
        return not patience.cancelled_caught

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
        except BaseException as exc:  # who asks may be shielded from podd's end, and must hear of it
            if reply is not None:
                reply.give(_unexpected(exc))
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
            case ev.PullImages():
                self._tasks.start_soon(self._cancellable, self._doing.of(action), _wants_images)
            case ev.PrepareVolumes() | ev.RemoveVolumes():
                self._tasks.start_soon(self._volumes, self._doing.of(action))
            case ev.RunProbes(id=id):
                makes_sense = _has(id, container.Running)
                self._tasks.start_soon(self._cancellable, self._doing.of(action), makes_sense)
            case ev.RunHook(id=id):
                makes_sense = _has(id, container.Running, container.Stopping)
                self._tasks.start_soon(self._cancellable, self._doing.of(action), makes_sense)
            case _:
                self._tasks.start_soon(self._cancellable, self._doing.of(action))

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

    async def _volumes(self, doing: Callable[[], Awaitable[ev.Report | None]]) -> None:
        """They belong to the pod, and do not end with its sandbox."""
        report = await doing()
        assert report is not None
        await self._send.send((report, None))

    async def _destroy_sandbox(self, action: ev.DestroySandbox) -> None:
        under_way = list(self._under_way.items())
        for scope, _ in under_way:
            scope.cancel()
        with anyio.move_on_after(CANCEL_S):
            for _, task in under_way:
                await task.done.wait()
        await self._send.send((await self._doing.destroy_sandbox(action), None))


def _unexpected(exc: BaseException) -> PoddError:
    if isinstance(exc, Exception):
        return Internal(f"podd: unexpected {type(exc).__name__}", remedy="see podd's log")
    return Unavailable("podd: is stopping")


def _wants_images(state: PodState) -> bool:
    return state.images == "pulling" and state.goal.want == "run"


def _has(id: ContainerId, *kinds: type[container.Instance]) -> Callable[[PodState], bool]:
    """Whether the pod has this instance of a container, in one of these states."""
    return lambda state: any(isinstance(m.instance, kinds) and m.instance.id == id for m in state.members.values())


def as_error(failure: ev.Failure) -> PoddError:
    """A failure that was stored, to be raised again."""
    return BY_KIND[failure.kind](failure.message, remedy=failure.remedy)
