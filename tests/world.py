"""A world that does what the core asks, in the test's order: who lives, what is held, and what must never be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from podd.core import container, look, network, pod, resources, sandbox, state
from podd.core import events as ev
from podd.core.restart import SECOND
from podd.driver.contract import (
    ContainerCreated,
    ContainerStarted,
    Exit,
    Handle,
    Observed,
    PortMapping,
    SandboxCreated,
    SandboxStatus,
)
from podd.errors import Kind
from podd.model.ids import ContainerId, PodUid
from podd.model.pod import Container, EmptyDirVolumeSource, ObjectMeta, Pod, PodSpec, Volume

UID = PodUid("0e5a7c6e-0000-4000-8000-000000000001")
T0 = 1_800_000_000 * SECOND


def make_container(name: str, **fields: object) -> Container:
    return Container(name=name, image="rootfs:/", command=("/bin/true",), **fields)  # type: ignore[arg-type]


def make_pod(*members: str | Container, annotations: Mapping[str, str] | None = None, **spec: object) -> Pod:
    """With a volume, unless told otherwise, so that there is something to prepare and to remove."""
    spec.setdefault("volumes", (Volume(name="v", empty_dir=EmptyDirVolumeSource()),))
    containers = tuple(make_container(one) if isinstance(one, str) else one for one in members or ("a", "b", "c"))
    return Pod(
        metadata=ObjectMeta(name="p", uid=UID, annotations=annotations or {}),
        spec=PodSpec(containers=containers, **spec),  # type: ignore[arg-type]
    )


def exit_of(code: int, at_ns: int = 0, signal: int = 0) -> Exit:
    return Exit(code=code, signal=signal, finished_at_ns=at_ns, started_at_ns=at_ns)


BOOM = ev.Failure(kind=Kind.INVALID, message="boom: no such file", remedy="give another")


@dataclass
class World:
    """The pod's state, and the host as the actions made it. Answers are given when the test asks for them."""

    state: state.PodState
    now_ns: int = T0
    pending: list[ev.Action] = field(default_factory=list)
    told: list[ev.Tell] = field(default_factory=list)
    sandboxes: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)  # container id -> name
    live: dict[str, str] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)  # ids that ever ran an instruction
    frozen: bool = False
    volumes: bool = False
    forgotten: bool = False
    signals: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    probed: dict[str, ev.RunProbes] = field(default_factory=dict)  # by container id
    resized: int = 1
    led: tuple[PortMapping, ...] = ()
    ended_well: set[str] = field(default_factory=set)  # names, in this sandbox
    has_run: set[str] = field(default_factory=set)  # names, in this sandbox
    image_signals: dict[str, int] = field(default_factory=dict)  # by name: what stops it, says its image

    @classmethod
    def of(cls, *members: str | Container, replaces: PodUid | None = None, **spec: object) -> World:
        pod = make_pod(*members, **spec)  # type: ignore[arg-type]
        world = cls(state.new(UID, pod, "fake", T0, replaces))
        world.feed(ev.Woke())
        return world

    # -- time and events

    def feed(self, event: ev.Event) -> None:
        self.state, actions = pod.step(self.state, event, self.now_ns)
        for action in actions:
            self.check_possible(action)
            if isinstance(action, ev.Tell):
                self.told.append(action)
            elif isinstance(action, ev.Forget):
                self.forgotten = True
            elif isinstance(action, ev.WatchContainer):
                if action.id in self.dead:  # it ended while nobody watched
                    self.pending.append(action)
            elif isinstance(action, ev.RunProbes):
                self.probed[action.id] = action
            elif not isinstance(action, ev.WatchSandbox):
                self.pending.append(action)
        self.check()

    def sleep(self, seconds: float) -> None:
        """Let time pass, waking the pod whenever it asked for it."""
        end = self.now_ns + int(seconds * SECOND)
        while (wake := pod.next_wake(self.state)) is not None and wake <= end and not self.forgotten:
            self.now_ns = max(self.now_ns, wake)
            before = self.state
            self.feed(ev.Woke())
            if self.state == before:
                break
            self.settle()
        self.now_ns = max(self.now_ns, end)

    def settle(self) -> None:
        """Do everything that was asked for, well, until nothing more is asked."""
        while self.pending:
            self.do(self.pending[0])

    def go_well(self) -> None:
        """All is done, init containers end with 0, and probes that others wait for succeed, until nothing moves."""
        while True:
            self.settle()
            kinds = {name: member.kind for name, member in self.state.members.items()}
            ending = [id for id, name in self.live.items() if kinds[name] == "init"]
            waiting = [
                (action.id, probe)
                for action in self.probed.values()
                for probe in sorted(look.probes_of(self.state, action.name))
                if probe != "liveness" and not self._passed(action.name, probe)
            ]
            if ending:
                self.end(ending[0], exit_of(0, self.now_ns))
            elif waiting:
                id, probe = waiting[0]
                self.feed(ev.Probed(id=id, probe=probe, success=True))  # type: ignore[arg-type]
            else:
                return

    def _passed(self, name: str, probe: str) -> bool:
        instance = self.state.members[name].instance
        if not isinstance(instance, container.Running):
            return True  # it is to end, and nobody listens any more
        return instance.started if probe == "startup" else instance.ready

    # -- doing

    def do(self, action: ev.Action, *, fail: bool = False) -> None:  # noqa: C901  one case for each action
        self.pending.remove(action)
        failure = BOOM if fail else None
        match action:
            case ev.PrepareVolumes():
                self.volumes = self.volumes or not fail  # what was there before is not undone
                self.feed(ev.VolumesPrepared(failure=failure))
            case ev.RemoveVolumes():
                self.volumes = fail
                self.feed(ev.VolumesRemoved(failure=failure))
            case ev.CreateSandbox(id=id):
                if fail:
                    return self.feed(ev.SandboxFailed(id=id, failure=BOOM))
                self.sandboxes.add(id)
                self.feed(ev.SandboxMade(id=id, created=SandboxCreated(handle=handle(id), observed=Observed())))
            case ev.DestroySandbox(id=id):
                self._destroy(id, fail)
            case ev.RecoverSandbox(id=id):
                if id in self.sandboxes and not fail:
                    status = SandboxStatus(id=id, state="ready", paused=self.frozen)
                    return self.feed(ev.SandboxRecovered(id=id, status=status))
                self.feed(ev.SandboxLost(id=id, reason="gone"))
            case ev.CreateContainer(id=id, name=name):
                if fail or not self.sandboxes:
                    return self.feed(ev.ContainerFailed(id=id, failure=BOOM))
                if id not in self.live and id not in self.dead:
                    self.held[id] = name
                limits = resources.container_limits(look.spec_of(self.state, name))
                created = ContainerCreated(
                    handle=handle(id), observed=Observed(limits=limits), stop_signal=self.image_signals.get(name)
                )
                self.feed(ev.ContainerMade(id=id, created=created))
            case ev.StartContainers(ids=ids):
                self._start(ids, fail)
            case ev.SignalContainers(ids=ids, signal=number):
                self.signals.append((number, tuple(self.live.get(i, "?") for i in ids)))
                if number == 9:
                    for id in [i for i in ids if i in self.live]:
                        self.end(id, exit_of(137, self.now_ns, 9))
            case ev.DestroyContainer(id=id):
                if not fail:
                    self.dead.pop(id, None)
                self.feed(ev.ContainerDestroyed(id=id, failure=failure))
            case ev.WatchContainer(id=id):
                if id in self.dead:
                    self.feed(ev.ContainerExited(id=id, exit=exit_of(137, self.now_ns, 9)))
            case ev.RunHook(id=id, hook=hook):
                self.feed(ev.HookDone(id=id, hook=hook, failure=failure))
            case ev.Resize(generation=generation):
                self.resized = self.resized if fail else generation
                self.feed(ev.Resized(generation=generation, failure=failure))
            case ev.Publish(id=id):
                self.led = self.led if fail else network.port_mappings(self.state.pod)
                self.feed(ev.Published(id=id, failure=failure))
            case ev.Freeze():
                self.frozen = not fail
                self.feed(ev.Frozen(frozen=True, failure=failure))
            case ev.Thaw():
                self.frozen = fail
                self.feed(ev.Frozen(frozen=False, failure=failure))
            case _:
                raise AssertionError(action)
        return None

    def _destroy(self, id: str, fail: bool) -> None:
        if fail:
            return self.feed(ev.SandboxDestroyed(id=id, failure=BOOM))  # type: ignore[arg-type]
        # Whatever is under way for the sandbox is cancelled first, as the engine does.
        about = (ev.CreateSandbox, ev.CreateContainer, ev.StartContainers, ev.SignalContainers, ev.DestroyContainer)
        others = (ev.Freeze, ev.Thaw, ev.RecoverSandbox, ev.RunHook, ev.Resize, ev.Publish)
        self.pending = [a for a in self.pending if not isinstance(a, (*about, *others))]
        self.sandboxes.discard(id)
        self._forget_sandbox()
        self.frozen = False
        return self.feed(ev.SandboxDestroyed(id=id))  # type: ignore[arg-type]

    def check_order(self, name: str) -> None:
        """Nobody runs before those that must run before it."""
        kinds = {name: member.kind for name, member in self.state.members.items()}
        if kinds[name] == "ephemeral":
            return
        for before, kind in kinds.items():
            if before == name or kind not in ("init", "sidecar"):
                break
            done = self.ended_well if kind == "init" else self.has_run
            assert before in done, f"{name} runs before {before}"
        if kinds[name] == "init":
            assert not [n for n in self.live.values() if kinds[n] in ("init", "regular")], "init containers run alone"

    def _forget_sandbox(self) -> None:
        for gone in (self.held, self.live, self.dead, self.probed, self.ended_well, self.has_run):
            gone.clear()

    def _start(self, ids: tuple[str, ...], fail: bool) -> None:
        if fail or not self.sandboxes:
            return self.feed(ev.ContainersReleased(ids=ids, failure=BOOM))
        started = []
        for n, id in enumerate(ids):
            name = self.held.pop(id, None)
            if name is not None:
                self.check_order(name)
                self.live[id] = name
                self.ran.add(id)
                self.has_run.add(name)
            pid = 100 + n
            started.append(ContainerStarted(id=id, pid=pid, started_at_ns=self.now_ns, released_ns=n * 1000))  # type: ignore[arg-type]
        return self.feed(ev.ContainersReleased(ids=ids, started=tuple(started)))

    def end(self, id: str, how: Exit) -> None:
        self.dead[id] = self.live.pop(id, "") or self.held.pop(id, "")
        self.probed.pop(id, None)
        if how.code == 0:
            self.ended_well.add(self.dead[id])
        self.pending = [a for a in self.pending if not (isinstance(a, ev.RunHook) and a.id == id)]
        self.feed(ev.ContainerExited(id=id, exit=how))  # type: ignore[arg-type]

    def says(self, name: str, probe: ev.ProbeKind, success: bool) -> None:
        """The verdict of a probe of a running container."""
        self.feed(ev.Probed(id=ContainerId(self.id_of(name)), probe=probe, success=success))

    def exit(self, name: str, code: int = 0) -> None:
        self.end(self.id_of(name), exit_of(code, self.now_ns))

    def lose_sandbox(self) -> None:
        """Its supervisor dies, and with it everything in it."""
        (id,) = self.sandboxes
        self.sandboxes.clear()
        self._forget_sandbox()
        self.feed(ev.SandboxLost(id=id, reason="the supervisor died"))  # type: ignore[arg-type]

    def restart_podd(self) -> None:
        """podd is killed and started again: only the stored state and the host are left."""
        self.pending.clear()
        self.probed.clear()
        self.feed(ev.Resumed())

    # -- looking

    def id_of(self, name: str) -> str:
        (id,) = [i for i, n in self.live.items() if n == name]
        return id

    @property
    def running(self) -> list[str]:
        return sorted(self.live.values())

    def waits_for(self, kind: type[ev.Action]) -> list[ev.Action]:
        return [a for a in self.pending if isinstance(a, kind)]

    def check_possible(self, action: ev.Action) -> None:
        """The engine needs the sandbox's handle for it, and has it only of one that is ready."""
        if isinstance(action, ev.Inside):
            assert isinstance(self.state.sandbox, sandbox.Ready), f"{action} of a sandbox that is not ready"

    def check(self) -> None:
        """What must hold after every step."""
        names = list(self.live.values())
        assert len(names) == len(set(names)), f"two instances of a container live: {names}"
        assert len(self.sandboxes) <= 1, "two sandboxes of one pod"
        if self.live or self.held or self.dead:
            assert self.sandboxes, "containers without a sandbox"
        if not self.waits_for(ev.Inside) and isinstance(self.state.sandbox, sandbox.Ready):
            assert self.frozen == (self.state.freezer == "frozen"), "the status says otherwise"
        wake = pod.next_wake(self.state)
        assert wake is None or wake > self.now_ns or self.forgotten, "it would look again and again, at once"


def handle(id: str) -> Handle:
    return Handle(id=id, driver="fake", version=1)
