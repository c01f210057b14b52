"""What a pod's actor has its driver do: each action, and the report that it ends with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio
from msgspec.structs import replace

from podd.core import container, look, network, plan, resources, sandbox
from podd.core import events as ev
from podd.core.state import PodState
from podd.driver.contract import CanNetwork, CanPause, ContainerCreated, Driver, Exit, Handle, PortMapping
from podd.engine import hooks, messages, resizing
from podd.engine.calls import Calls
from podd.engine.handlers import Place
from podd.engine.images import Images, Missing
from podd.engine.logfiles import prune
from podd.engine.probes import Prober, Watched
from podd.engine.surroundings import Surroundings
from podd.errors import Kind, PoddError
from podd.model.ids import ContainerId, SandboxId

ASK_AGAIN_S = 1  # a driver that cannot say now is asked again


class Doing:
    def __init__(self, pod: Watched, driver: Driver, calls: Calls, around: Surroundings) -> None:
        self._pod = pod
        self._driver = driver
        self._calls = calls
        self._around = around
        self._images = Images(driver, calls, around.pulls, pod.tell, pod.report)

    def of(self, action: ev.Action) -> Callable[[], Awaitable[ev.Report | None]]:
        """What does it, with the handles as they are in the state that asks for it."""
        match action:
            case ev.PullImages():
                return self._pull_images
            case ev.PrepareVolumes():
                return self._prepare_volumes
            case ev.RemoveVolumes():
                return self._remove_volumes
            case ev.CreateSandbox():
                return lambda: self._create_sandbox(action)
            case ev.Inside():
                return self._inside(action, self._sandbox_handle())
            case _:
                raise AssertionError(action)

    def _inside(self, action: ev.Inside, box: Handle) -> Callable[[], Awaitable[ev.Report | None]]:
        match action:
            case ev.RecoverSandbox():
                made = self._made()
                return lambda: self._recover(action, box, made)
            case ev.CreateContainer():
                return lambda: self._create_container(action, box)
            case ev.StartContainers(ids=ids):
                handles = self._handles(ids)
                return lambda: self._start(ids, handles)
            case ev.SignalContainers(ids=ids, signal=number):
                handles = self._handles(ids)
                return lambda: self._signal(handles, number)
            case ev.DestroyContainer():
                return lambda: self._destroy_container(action, box)
            case ev.WatchSandbox():
                return lambda: self._watch_sandbox(action, box)
            case ev.WatchContainer(id=id):
                (handle,) = self._handles((id,))
                return lambda: self._watch_container(action, handle)
            case ev.RunProbes():
                return self._prober(action).run
            case ev.RunHook(id=id):
                return partial(hooks.run, action, self._place(id, action.name), self._pod.state.pod.metadata)
            case _:
                return self._changing(action, box, self._pod.state)

    def _changing(self, action: ev.Inside, box: Handle, state: PodState) -> Callable[[], Awaitable[ev.Report | None]]:
        match action:
            case ev.Resize():
                return lambda: self._resize(action, box, state)
            case ev.Publish():
                return lambda: self._publish(action, box, network.port_mappings(state.pod))
            case ev.Freeze() | ev.Thaw():
                return lambda: self._freeze(box, frozen=isinstance(action, ev.Freeze))
            case _:
                raise AssertionError(action)

    async def destroy_sandbox(self, action: ev.DestroySandbox) -> ev.Report:
        _, failure = await self._calls("destroy_sandbox", lambda: self._driver.destroy_sandbox(action.id))
        if failure is None:
            messages.remove_all(plan.messages_directory(self._pod.state.pod, self._around.host))
        return ev.SandboxDestroyed(id=action.id, failure=failure)

    async def _pull_images(self) -> ev.Report:
        state = self._pod.state
        return await self._images.all_of(state, self._around.sources(state))

    async def _prepare_volumes(self) -> ev.Report:
        _, failure = await self._calls("volumes", lambda: self._around.prepare_volumes(self._pod.state))
        return ev.VolumesPrepared(failure=failure)

    async def _remove_volumes(self) -> ev.Report:
        _, failure = await self._calls("volumes", lambda: self._around.remove_volumes(self._pod.state))
        return ev.VolumesRemoved(failure=failure)

    async def _create_sandbox(self, action: ev.CreateSandbox) -> ev.Report:
        state = self._pod.state
        config = plan.sandbox_config(state.pod, action.id, action.attempt, self._around.host)
        if state.ports == "waiting":  # they still lead to another pod, and are led to this one later
            config = replace(config, ports=())
        created, failure = await self._calls("create_sandbox", lambda: self._driver.create_sandbox(config))
        if created is None:
            return ev.SandboxFailed(id=action.id, failure=failure or _no_answer("create_sandbox"))
        if not created.ips and config.namespaces.net == "pod":
            await self._tell_alone()
        return ev.SandboxMade(id=action.id, created=created, host_ips=self._around.addresses())

    async def _tell_alone(self) -> None:
        """A driver that gives addresses has given none: say why, once for each sandbox."""
        driver = self._driver
        if not driver.capabilities.network or not isinstance(driver, CanNetwork):
            return
        status, _ = await self._calls("network_status", driver.network_status)
        why = "" if status is None or status.ready else "; ".join(filter(None, (status.reason, status.remedy)))
        message = f"the pod has no address but its own loopback{': ' if why else ''}{why}"
        self._pod.tell(ev.Tell(type="Warning", reason="NetworkNotReady", message=message))

    async def _recover(self, action: ev.RecoverSandbox, box: Handle, made: list[Handle]) -> ev.Report:
        """A backend that is away is waited for: the pod may well be running behind it."""
        while True:
            status, failure = await self._calls("recover", lambda: self._driver.recover(box, made))
            if status is not None:
                return ev.SandboxRecovered(id=action.id, status=status)
            if failure is None or failure.kind is not Kind.UNAVAILABLE:
                return ev.SandboxLost(id=action.id, reason=failure.message if failure else "lost")
            await anyio.sleep(ASK_AGAIN_S)

    async def _create_container(self, action: ev.CreateContainer, box: Handle) -> ev.Report:
        spec, id = look.spec_of(self._pod.state, action.name), _sandbox_id(self._pod.state)
        sources = self._around.sources(self._pod.state)
        try:
            config = plan.container_config(
                self._pod.state.pod, spec, action.id, id, action.attempt, self._around.host, sources
            )
        except PoddError as exc:
            refused = ev.Failure(kind=exc.kind, message=exc.message, remedy=exc.remedy)
            return ev.ContainerFailed(id=action.id, failure=refused, reason=container.CONFIG_ERROR)
        image_id = await self._images.one_of(self._pod.state, action.name, sources)
        if isinstance(image_id, Missing):
            return ev.ContainerFailed(id=action.id, failure=image_id.failure, reason=image_id.reason)
        config = replace(config, image_id=image_id, pid_target=self._target(action.name))
        if not self._driver.capabilities.isolation:  # all that can be there is podd's own, for the termination message
            config = replace(config, mounts=())

        async def create() -> ContainerCreated:
            messages.make(self._message_path(action.id))
            return await self._driver.create_container(box, config)

        created, failure = await self._calls("create_container", create)
        if created is None:
            return ev.ContainerFailed(id=action.id, failure=failure or _no_answer("create_container"))
        self._prune_logs(action)
        return ev.ContainerMade(id=action.id, created=replace(created, image_id=created.image_id or image_id))

    def _target(self, name: str) -> ContainerId | None:
        """Whose processes it sees, of a container that was added. The driver refuses one that does not run."""
        added = self._pod.state.ephemeral.get(name)
        target = self._pod.state.members[added.target].instance if added and added.target else None
        return None if target is None else target.id

    def _prune_logs(self, action: ev.CreateContainer) -> None:
        """Keep the log of this instance and of the last one that ran, as the kubelet does."""
        logs = plan.log_directory(self._pod.state.pod, self._around.host.log_dir)
        last = self._pod.state.members[action.name].last
        if logs:
            prune(f"{logs}/{action.name}", {action.attempt, last.attempt if last else action.attempt})

    async def _start(self, ids: Sequence[ContainerId], handles: list[Handle]) -> ev.Report:
        asked_ns = self._around.clock.now_ns()
        started, failure = await self._calls("start_containers", lambda: self._driver.start_containers(handles))
        now_ns = self._around.clock.now_ns()
        possible = [  # the host's clock may have been set since podd read it, and probes count from this
            replace(one, started_at_ns=min(max(one.started_at_ns, asked_ns), now_ns)) for one in started or ()
        ]
        return ev.ContainersReleased(ids=ids, started=possible, failure=failure)

    async def _signal(self, handles: list[Handle], number: int) -> None:
        """That it was not heard is not reported: patience ends at its time, and then the sandbox goes."""
        await self._calls("signal_containers", lambda: self._driver.signal_containers(handles, number))

    async def _destroy_container(self, action: ev.DestroyContainer, box: Handle) -> ev.Report:
        _, failure = await self._calls("destroy_container", lambda: self._driver.destroy_container(box, action.id))
        if failure is None:
            messages.remove(self._message_path(action.id))
        return ev.ContainerDestroyed(id=action.id, failure=failure)

    async def _watch_sandbox(self, action: ev.WatchSandbox, box: Handle) -> ev.Report:
        """A backend that is away has not lost the pod: it is asked again."""
        while True:
            reason, failure = await self._calls("wait_sandbox", lambda: self._driver.wait_sandbox(box))
            if failure is None or failure.kind is not Kind.UNAVAILABLE:
                return ev.SandboxLost(id=action.id, reason=reason or (failure.message if failure else "lost"))
            await anyio.sleep(ASK_AGAIN_S)

    async def _watch_container(self, action: ev.WatchContainer, handle: Handle) -> ev.Report | None:
        """Of a container that was destroyed meanwhile there is nothing to tell: who destroyed it knows."""
        while True:
            ended, failure = await self._calls("wait_container", lambda: self._driver.wait_container(handle))
            if ended is not None:
                return ev.ContainerExited(id=action.id, exit=self._with_message(action.id, ended))
            if failure is None or failure.kind is Kind.NOT_FOUND:
                return None
            await anyio.sleep(ASK_AGAIN_S)

    def _with_message(self, id: ContainerId, ended: Exit) -> Exit:
        """What podd or the driver has to say of an end counts more."""
        name = look.name_of(self._pod.state, id)
        if name is None or ended.message:
            return ended
        spec, instance = look.spec_of(self._pod.state, name), self._pod.state.members[name].instance
        log_path = ""
        if spec.termination_message_policy == "FallbackToLogsOnError" and ended.code and instance:
            log_path = plan.log_path(self._pod.state.pod, name, instance.attempt, self._around.host)
        return replace(ended, message=messages.said(self._message_path(id), log_path))

    def _message_path(self, id: ContainerId) -> str:
        return plan.message_path(self._pod.state.pod, id, self._around.host)

    async def _resize(self, action: ev.Resize, box: Handle, state: PodState) -> ev.Report:
        """Members that are made later get the new limits by themselves."""
        instances = [(name, member.instance) for name, member in state.members.items()]
        members = [
            (i.handle, resources.container_limits(look.spec_of(state, name)))
            for name, i in instances
            if isinstance(i, container.Made) and i.handle is not None
        ]
        limits = resources.pod_limits(state.pod.spec)
        failure = await resizing.resize(self._driver, self._calls, box, limits, members)
        return ev.Resized(generation=action.generation, failure=failure)

    async def _publish(self, action: ev.Publish, box: Handle, ports: Sequence[PortMapping]) -> ev.Report:
        driver = self._driver
        if not isinstance(driver, CanNetwork):
            cannot = f"driver {driver.name}: cannot lead ports of the host to a pod"
            return ev.Published(id=action.id, failure=ev.Failure(kind=Kind.UNSUPPORTED, message=cannot))
        _, failure = await self._calls("publish", lambda: driver.publish(box, ports))
        return ev.Published(id=action.id, failure=failure)

    def _prober(self, action: ev.RunProbes) -> Prober:
        running = self._pod.state.members[action.name].instance
        assert isinstance(running, container.Running), "probes are asked for of what runs"
        place = self._place(action.id, action.name)
        return Prober(self._pod, action, place, running.started_at_ns, self._around.clock)

    def _place(self, id: ContainerId, name: str) -> Place:
        (handle,) = self._handles((id,))
        return Place(self._driver, self._sandbox_handle(), handle, look.spec_of(self._pod.state, name))

    async def _freeze(self, box: Handle, *, frozen: bool) -> ev.Report:
        driver = self._driver
        if not isinstance(driver, CanPause):
            cannot = ev.Failure(kind=Kind.UNSUPPORTED, message=f"driver {driver.name}: cannot pause pods")
            return ev.Frozen(frozen=frozen, failure=cannot)
        act, verb = (driver.pause, "pause") if frozen else (driver.resume, "resume")
        _, failure = await self._calls(verb, lambda: act(box))
        return ev.Frozen(frozen=frozen, failure=failure)

    def _sandbox_handle(self) -> Handle:
        assert isinstance(self._pod.state.sandbox, sandbox.Ready), "no action on a sandbox is decided without one"
        return self._pod.state.sandbox.handle

    def _made(self) -> list[Handle]:
        """The handles of all containers there are."""
        instances = [m.instance for m in self._pod.state.members.values()]
        return [i.handle for i in instances if isinstance(i, container.Made) and i.handle is not None]

    def _handles(self, ids: Sequence[str]) -> list[Handle]:
        instances = {m.instance.id: m.instance for m in self._pod.state.members.values() if m.instance is not None}
        return [_handle(instances[id]) for id in ids]  # type: ignore[index]


def _handle(instance: container.Instance) -> Handle:
    handle: Handle | None = getattr(instance, "handle", None)
    assert handle is not None, "no action on a container is decided before it is made"
    return handle


def _sandbox_id(state: PodState) -> SandboxId:
    assert state.sandbox is not None
    return state.sandbox.id


def _no_answer(verb: str) -> ev.Failure:
    return ev.Failure(kind=Kind.INTERNAL, message=f"{verb}: the driver answered nothing")
