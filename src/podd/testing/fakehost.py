"""An in-memory host for FakeDriver: what runs on it outlives the drivers that made it, as on a real one.

Nothing on it runs by itself. What a program has become is worked out, from the event loop's clock, whenever somebody
looks; so on a virtual clock a program of an hour costs nothing, and it goes on while no driver is there.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Literal

import anyio
from msgspec.structs import replace

from podd.driver.contract import (
    ContainerConfig,
    Exit,
    Image,
    Limits,
    NetworkStatus,
    Observed,
    PortMapping,
    SandboxConfig,
)
from podd.errors import Conflict, Unsupported
from podd.model.ids import INSTANCE_ID, ContainerId, SandboxId
from podd.testing.fakescript import FOREVER, Entry, Fault, Program

NS_PER_S = 1_000_000_000
USED_BYTES = 1024 * 1024  # of memory, by each container that runs
NODE_NAMESPACES = {"net": 4026531840, "ipc": 4026531839, "uts": 4026531838, "pid": 4026531836}


@dataclass(eq=False)
class FakeContainer:
    """started_s, ends_s: of the event loop's clock. left_s: what remained of its time when it was frozen."""

    config: ContainerConfig
    program: Program
    observed: Observed
    pid: int
    target: FakeContainer | None = None  # whose pid namespace it is in
    whole: bool = True
    started_s: float | None = None
    ends_s: float | None = None
    ends_with: tuple[int, int] = (0, 0)  # code, signal
    exit: Exit | None = None
    pending_signals: list[int] = field(default_factory=list)
    left_s: float | None = None
    changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def running(self) -> bool:
        return self.started_s is not None and self.exit is None


@dataclass(eq=False)
class FakeSandbox:
    config: SandboxConfig
    observed: Observed
    whole: bool = True
    lost: str = ""  # why
    frozen: bool = False
    ips: tuple[str, ...] = ()
    ports: tuple[PortMapping, ...] = ()  # of the host that lead to it
    containers: dict[ContainerId, FakeContainer] = field(default_factory=dict)
    changed: anyio.Event = field(default_factory=anyio.Event)


class FakeHost:
    """sandboxes: what is there now. violations: see `verify`.

    written: bytes of the disk that running containers have in their roots, by name.
    network: which new sandboxes get an address of; one that is not ready gives none.
    observe: alters what the kernel would say of a container, to play a host that does not do as it was told.
    on_effect: called with each effect as it happens, for instance to see that its intent was stored before.
    """

    def __init__(self, *, wall_ns: int | None = None) -> None:
        """wall_ns: CLOCK_REALTIME at the first look; None takes the real one."""
        self.programs: dict[str, Program | Sequence[Program]] = {}
        self.execs: dict[str, Program] = {}
        self.faults: list[Fault] = []
        self.images: dict[str, Image] = {}  # that were pulled
        self.remote: dict[str, float] = {}  # those that are not here by themselves, and how long they take to pull
        self.journal: list[Entry] = []
        self.violations: list[str] = []
        self.sandboxes: dict[SandboxId, FakeSandbox] = {}
        self.written: dict[str, int] = {}
        self.network = NetworkStatus(ready=True, name="fake")
        self.observe: Callable[[ContainerConfig, Observed], Observed] = lambda _config, observed: observed
        self.on_effect: Callable[[Entry], None] = lambda _entry: None
        self._calls: Counter[tuple[str, str]] = Counter()
        self._inodes = count(4026532200)
        self._pids = count(1000)
        self._addresses = count(2)
        self._wall_ns = wall_ns
        self._started_s: float | None = None

    # ---- for tests

    def fault(
        self,
        verb: str,
        of: str = "",
        *,
        call: int | None = None,
        delay_s: float = 0,
        error: Exception | None = None,
        hang: bool = False,
        leaves: Literal["nothing", "remains", "effect"] = "nothing",
    ) -> None:
        """Add a Fault. Of several that fit a call the first counts."""
        self.faults.append(Fault(verb=verb, of=of, call=call, delay_s=delay_s, error=error, hang=hang, leaves=leaves))

    def lose_sandbox(self, sandbox_id: str, reason: str = "its supervisor was killed") -> None:
        """Kill its supervisor: everything in it dies at once, and nobody can say how."""
        self.settle()
        box = self.sandboxes[SandboxId(sandbox_id)]
        box.lost = reason
        self.effect("sandbox_lost", box.config.id, box.config.pod_name, reason)
        for container in box.containers.values():
            if container.exit is None:
                self._end(container, 137, signal.SIGKILL, anyio.current_time())
            wake(container)
        wake(box)

    def kill_container(self, container_id: str, signum: int = signal.SIGKILL, *, oom_killed: bool = False) -> None:
        """End a running container from outside."""
        self.settle()
        _, container = self.find(container_id)
        assert container.running, f"{container.config.name} is not running"
        self._end(container, 128 + signum, signum, anyio.current_time(), oom_killed=oom_killed)

    def reboot(self) -> None:
        """Nothing is left."""
        self.settle()
        self.sandboxes.clear()

    def running(self) -> list[str]:
        """Names of the containers that run now, sorted."""
        self.settle()
        return sorted(c.config.name for c in self.containers() if c.running)

    def container(self, name: str, pod: str = "") -> FakeContainer:
        """The newest instance of that name that is there."""
        self.settle()
        found = [
            container
            for box in self.sandboxes.values()
            for container in box.containers.values()
            if container.config.name == name and pod in ("", box.config.pod_name)
        ]
        assert found, f"no container {name}"
        return found[-1]

    def effects(self, name: str = "", of: str = "") -> list[Entry]:
        """Those of that name and of that container or pod; "" for any."""
        self.settle()
        return [e for e in self.journal if e.what == "effect" and name in ("", e.name) and of in ("", e.of)]

    def calls(self, verb: str = "") -> list[Entry]:
        return [e for e in self.journal if e.what == "call" and verb in ("", e.name)]

    def verify(self) -> None:
        """Raises AssertionError when ever a container had two live instances, a pod two sandboxes, something was made
        without a proper id, in a sandbox that is not its own, under an id with other contents than before, or by a
        driver that had not taken the sandbox up.
        """
        self.settle()
        assert not self.violations, "\n".join(self.violations)

    def verify_empty(self) -> None:
        """Raises AssertionError when anything is left."""
        self.verify()
        assert not self.sandboxes, [(box.config.pod_name, box.config.id) for box in self.sandboxes.values()]

    # ---- for the driver: calls and faults

    def begin(self, verb: str, subject: str, names: Sequence[str]) -> dict[str, Fault]:
        """Count and note a call. Returns its faults by the name that each is of."""
        self.settle()
        self.note("call", verb, subject, ",".join(names))
        found: dict[str, Fault] = {}
        for name in dict.fromkeys(["", *names]):
            self._calls[verb, name] += 1
            for fault in self.faults:
                if (fault.verb, fault.of) == (verb, name) and fault.call in (None, self._calls[verb, name]):
                    found.setdefault(name, fault)
        return found

    def end(self, verb: str, subject: str, error: BaseException | None = None) -> None:
        detail = "" if error is None else f"{type(error).__name__}: {error}"
        self.note("answer", verb, subject, detail=detail)

    def note(
        self, what: Literal["call", "effect", "answer"], name: str, subject: str, of: str = "", detail: str = ""
    ) -> Entry:
        entry = Entry(at_s=anyio.current_time(), what=what, name=name, id=subject, of=of, detail=detail)
        self.journal.append(entry)
        return entry

    def effect(self, name: str, subject: str, of: str, detail: str = "") -> None:
        if INSTANCE_ID.fullmatch(subject) is None:
            self.violations.append(f"{name} of {of}: {subject!r} is no id")
        entry = self.note("effect", name, subject, of, detail)
        self._look_for_violations()
        self.on_effect(entry)

    # ---- for the driver: what happens

    def now_ns(self) -> int:
        """CLOCK_REALTIME of this host."""
        return self.wall_ns(anyio.current_time())

    def wall_ns(self, at_s: float) -> int:
        if self._started_s is None:
            self._started_s = anyio.current_time()
            self._wall_ns = self._wall_ns or time.time_ns()
        assert self._wall_ns is not None
        return self._wall_ns + round((at_s - self._started_s) * NS_PER_S)

    def settle(self) -> None:
        """Let what was due by now have happened."""
        now_s = anyio.current_time()
        due = [c for c in self.containers() if c.running and c.ends_s is not None and c.ends_s <= now_s]
        for container in sorted(due, key=lambda c: c.ends_s or 0):
            assert container.ends_s is not None
            code, signum = container.ends_with
            self._end(container, code, signum, container.ends_s, oom_killed=container.program.oom_killed)

    def containers(self) -> Iterator[FakeContainer]:
        return (container for box in self.sandboxes.values() for container in box.containers.values())

    def find(self, container_id: str) -> tuple[FakeSandbox, FakeContainer]:
        """Raises KeyError: not there."""
        key = ContainerId(container_id)
        for box in self.sandboxes.values():
            if key in box.containers:
                return box, box.containers[key]
        raise KeyError(container_id)

    def make_sandbox(self, config: SandboxConfig, *, whole: bool = True) -> FakeSandbox:
        box = self.sandboxes.get(config.id)
        if box is None:
            scopes = {name: getattr(config.namespaces, name) for name in NODE_NAMESPACES}
            namespaces = {
                name: NODE_NAMESPACES[name] if scope == "node" else next(self._inodes)
                for name, scope in scopes.items()
                if scope != "container"
            }
            observed = Observed(namespaces=namespaces, cgroup=f"/podd/{config.id}", limits=config.limits)
            box = FakeSandbox(config=config, observed=observed, whole=whole)
            self._connect(box)
            self.sandboxes[config.id] = box
            self.effect("sandbox_made", config.id, config.pod_name, "" if whole else "remains")
        self._same(box.config, config)
        box.whole = box.whole or whole
        return box

    def remove_sandbox(self, sandbox_id: SandboxId) -> None:
        box = self.sandboxes.get(sandbox_id)
        if box is None:
            return
        for container_id in list(box.containers):
            self.remove_container(container_id)
        del self.sandboxes[sandbox_id]
        self.effect("sandbox_removed", sandbox_id, box.config.pod_name)
        box.lost = box.lost or "destroyed"
        wake(box)

    def make_container(self, box: FakeSandbox, config: ContainerConfig, *, whole: bool = True) -> FakeContainer:
        container = box.containers.get(config.id)
        if container is None:
            if config.sandbox_id != box.config.id:
                self.violations.append(f"container_made of {config.name}: in sandbox {box.config.id}, not its own")
            target = self._target(box, config)
            container = box.containers[config.id] = FakeContainer(
                config=config,
                program=self._program(box.config.pod_name, config),
                observed=self.observe(config, self._observed(box, config, target)),
                pid=next(self._pids),
                target=target,
                whole=whole,
            )
            self.effect("container_made", config.id, config.name, "" if whole else "remains")
        self._same(container.config, config)
        container.whole = container.whole or whole
        return container

    def release(self, container: FakeContainer) -> None:
        """Let it run, if it has not run yet."""
        if container.started_s is not None or container.exit is not None:
            return
        container.started_s = anyio.current_time()
        if container.program.exits_after_s is not None:
            container.ends_s = container.started_s + container.program.exits_after_s
            container.ends_with = (container.program.code, signal.SIGKILL if container.program.oom_killed else 0)
        self.effect("released", container.config.id, container.config.name)
        self._write_log(container)
        wake(container)

    def cannot_start(self, container: FakeContainer) -> None:
        """It ends without having run an instruction."""
        self._end(container, 128, 0, anyio.current_time(), reason="StartError")

    def signal(self, container: FakeContainer, signum: int) -> None:
        """A frozen one hears it when it is thawed, as on a freezer of cgroup v1."""
        box, _ = self.find(container.config.id)
        if container.exit is not None:
            return
        self.effect("signalled", container.config.id, container.config.name, str(int(signum)))
        if box.frozen:
            container.pending_signals.append(signum)
            return
        self._deliver(container, signum)

    def remove_container(self, container_id: ContainerId) -> None:
        try:
            box, container = self.find(container_id)
        except KeyError:
            return
        if container.exit is None:
            self._end(container, 137, signal.SIGKILL, anyio.current_time())
        del box.containers[container_id]
        self.effect("container_removed", container_id, container.config.name)
        wake(container)

    def resize_sandbox(self, box: FakeSandbox, limits: Limits) -> Limits:
        running = [container for container in box.containers.values() if container.running]
        _refuse_below(limits, len(running) * USED_BYTES)
        box.observed = replace(box.observed, limits=limits)
        self.effect("sandbox_resized", box.config.id, box.config.pod_name)
        return limits

    def resize_container(self, container: FakeContainer, limits: Limits) -> Limits:
        _refuse_below(limits, USED_BYTES if container.running else 0)
        container.observed = replace(container.observed, limits=limits)
        self.effect("container_resized", container.config.id, container.config.name)
        return limits

    def _connect(self, box: FakeSandbox) -> None:
        if box.config.namespaces.net == "node":
            return
        if self.network.ready:
            number = next(self._addresses)
            box.ips = (f"10.88.{number >> 8}.{number & 255}", f"fd88::{number:x}")
        self._lead(box, box.config.ports)

    def _lead(self, box: FakeSandbox, ports: Sequence[PortMapping]) -> None:
        """All or none: one that leads to another sandbox is not to be had."""
        if ports and not box.ips:
            raise Unsupported(f"network {self.network.name or '(none)'}: {self.network.reason}")
        others = (other for other in self.sandboxes.values() if other is not box)
        taken = {(port.host_port, port.protocol): other for other in others for port in other.ports}
        for port in ports:
            if holder := taken.get((port.host_port, port.protocol)):
                raise Conflict(f"{port.host_port}/{port.protocol}: leads to pod {holder.config.pod_name}")
        box.ports = tuple(ports)

    def publish(self, box: FakeSandbox, ports: Sequence[PortMapping]) -> None:
        self._lead(box, ports)
        self.effect("published", box.config.id, box.config.pod_name, ",".join(str(one.host_port) for one in ports))

    def freeze(self, box: FakeSandbox) -> None:
        if box.frozen:
            return
        box.frozen = True
        for container in box.containers.values():
            if container.running and container.ends_s is not None:
                container.left_s, container.ends_s = container.ends_s - anyio.current_time(), None
            wake(container)
        self.effect("frozen", box.config.id, box.config.pod_name)

    def thaw(self, box: FakeSandbox) -> None:
        if not box.frozen:
            return
        box.frozen = False
        self.effect("thawed", box.config.id, box.config.pod_name)
        for container in box.containers.values():
            if container.left_s is not None:
                container.ends_s, container.left_s = anyio.current_time() + container.left_s, None
            for signum in container.pending_signals:
                self._deliver(container, signum)
            container.pending_signals.clear()
            wake(container)

    # ---- inside

    def _deliver(self, container: FakeContainer, signum: int) -> None:
        now_s = anyio.current_time()
        program = container.program
        if container.exit is not None:
            return
        if signum == signal.SIGKILL:
            self._end(container, 137, signum, now_s)
        elif container.started_s is not None and not program.ignores_term:
            by_signal = (128 + signum, signum)
            ends_s = now_s + program.term_takes_s
            if container.ends_s is None or ends_s < container.ends_s:
                container.ends_s = ends_s
                container.ends_with = by_signal if program.term_code is None else (program.term_code, 0)
            self.settle()
            wake(container)

    def _end(
        self,
        container: FakeContainer,
        code: int,
        signum: int,
        at_s: float,
        *,
        oom_killed: bool = False,
        reason: str = "",
    ) -> None:
        if container.exit is not None:
            return
        container.exit = Exit(
            code=code,
            signal=signum,
            oom_killed=oom_killed,
            reason=reason,
            started_at_ns=None if container.started_s is None else self.wall_ns(container.started_s),
            finished_at_ns=self.wall_ns(at_s),
        )
        self.effect("exited", container.config.id, container.config.name, str(code))
        wake(container)
        for other in self.containers():  # the kernel kills all in a pid namespace whose first process has ended
            if other.target is container:
                self._end(other, 137, signal.SIGKILL, at_s)

    def _write_log(self, container: FakeContainer) -> None:
        path = container.config.log_path
        if not path or not container.program.output:
            return
        stamp = datetime.fromtimestamp(self.now_ns() / NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{stamp} stdout F {line}\n" for line in container.program.output)

    def _program(self, pod: str, config: ContainerConfig) -> Program:
        scripted = self.programs.get(f"{pod}/{config.name}") or self.programs.get(config.name)
        if scripted is None:
            return FOREVER
        return scripted if isinstance(scripted, Program) else scripted[min(config.attempt, len(scripted) - 1)]

    def _target(self, box: FakeSandbox, config: ContainerConfig) -> FakeContainer | None:
        """Raises Conflict: the one whose processes it is to share does not run."""
        if config.pid_target is None or box.config.namespaces.pid != "container":
            return None
        target = box.containers.get(config.pid_target)
        if target is None or not target.running:
            raise Conflict(f"container {config.name}: the one whose processes it is to share does not run")
        return target

    def _observed(self, box: FakeSandbox, config: ContainerConfig, target: FakeContainer | None) -> Observed:
        own = ("mnt", "cgroup", *(name for name in NODE_NAMESPACES if name not in box.observed.namespaces))
        theirs = {} if target is None else {"pid": target.observed.namespaces["pid"]}
        return Observed(
            namespaces={**box.observed.namespaces, **{name: next(self._inodes) for name in own}, **theirs},
            cgroup=f"{box.observed.cgroup}/{config.id}",
            limits=config.limits,
        )

    def _same(self, before: SandboxConfig | ContainerConfig, now: SandboxConfig | ContainerConfig) -> None:
        if before != now:
            self.violations.append(f"{now.id}: asked for again with other contents: {before} then {now}")

    def _look_for_violations(self) -> None:
        boxes = [box for box in self.sandboxes.values() if not box.lost]
        for pod, number in Counter(box.config.pod_uid for box in boxes).items():
            if number > 1:
                self.violations.append(f"pod {pod}: has {number} sandboxes at {anyio.current_time():g} s")
        live = Counter(
            (box.config.pod_uid, c.config.name)
            for box in self.sandboxes.values()
            for c in box.containers.values()
            if c.exit is None
        )
        for (pod, name), number in live.items():
            if number > 1:
                self.violations.append(f"{pod}/{name}: has {number} live instances at {anyio.current_time():g} s")


def _refuse_below(limits: Limits, used_bytes: int) -> None:
    if limits.memory_bytes is not None and limits.memory_bytes < used_bytes:
        raise Conflict(f"memory: {used_bytes} bytes are in use: more than a limit of {limits.memory_bytes}")


def wake(thing: FakeSandbox | FakeContainer) -> None:
    """Let everyone who waits for a change look again."""
    thing.changed.set()
    thing.changed = anyio.Event()
