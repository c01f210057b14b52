"""What may be asked about, or done in, the containers of a pod that runs: the driver's optional powers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import anyio

from podd.core import container, plan, sandbox
from podd.core.look import is_done, is_finished, of_kind, spec_of
from podd.driver.contract import CanAttach, CanConnect, CanExec, CanInspect, CanStats, ExecRequest, Exit, Handle
from podd.engine.actor import Actor
from podd.engine.clock import Clock, since_ns
from podd.engine.handlers import Failed
from podd.engine.handlers.dial import OWN, connected
from podd.engine.logs import Standing, read_log
from podd.engine.registry import Registry, view
from podd.engine.view import Attachment, LogLine, PodCgroups, PodNamespaces, PodUsage
from podd.errors import Conflict, Invalid, NotFound, PoddError, Unavailable, Unsupported

T = TypeVar("T")

KILL_S = 10  # how long ending an exec may take after its client has left
FORWARD_S = 10  # how long a pod may take to accept a connection


class Session:
    """A process that was started in a container. Satisfies podd.control.engine.ExecSession."""

    def __init__(self, driver: CanExec, container: Handle, exec_id: str, terminal: int | None) -> None:
        self.exec_id = exec_id
        self.terminal = terminal
        self._driver = driver
        self._container = container
        self.ended = False

    async def wait(self) -> Exit:
        ended = await self._driver.exec_wait(self._container, self.exec_id)
        self.ended = True
        return ended


class Inside:
    def __init__(self, registry: Registry, clock: Clock, log_dir: str) -> None:
        self._registry = registry
        self._clock = clock
        self._log_dir = log_dir

    def logs(
        self,
        name: str,
        namespace: str | None,
        container: str | None,
        *,
        follow: bool,
        tail: int | None,
        since: str | None,
        previous: bool,
    ) -> AsyncGenerator[Sequence[LogLine], None]:
        actor = self._registry.find(name, namespace)
        member = member_name(actor, container)
        attempt = _previous(actor, member) if previous else _newest(actor, member)
        after_ns = None if since is None else since_ns(since, self._clock.now_ns())
        directory = f"{plan.log_directory(actor.state.pod, self._log_dir)}/{member}"
        standing = (lambda: _standing(actor, member)) if follow and not previous else None
        return read_log(directory, member, attempt, tail=tail, since_ns=after_ns, follow=standing)

    @asynccontextmanager
    async def exec(
        self,
        name: str,
        namespace: str | None,
        container: str | None,
        *,
        argv: Sequence[str],
        env: Mapping[str, str],
        tty: bool,
        stdio: Sequence[int],
        terminal_size: tuple[int, int] = (0, 0),
    ) -> AsyncIterator[Session]:
        actor = self._registry.find(name, namespace)
        driver = _power(actor, CanExec, "exec")
        if not argv:
            raise Invalid("exec: no command given", remedy="podd-cli exec POD -- COMMAND")
        handle = _running(actor, member_name(actor, container))
        request = ExecRequest(argv=argv, tty=tty, terminal_size=terminal_size, env=tuple(env.items()))
        exec_id, terminal = await driver.exec_start(handle, request, stdio)
        session = Session(driver, handle, exec_id, terminal)
        try:
            yield session
        finally:
            if not session.ended:
                with anyio.move_on_after(KILL_S, shield=True):
                    await driver.exec_kill(handle, exec_id)

    async def attach(self, name: str, namespace: str | None, container: str | None, *, stdin: bool) -> Attachment:
        actor = self._registry.find(name, namespace)
        driver = _power(actor, CanAttach, "attach")
        member = member_name(actor, container)
        spec = spec_of(actor.state, member)
        if stdin and not spec.stdin:
            raise Invalid(f"container {member}: has no input", remedy="set stdin: true in its spec")
        fd = await driver.attach(_running(actor, member), stdin=stdin)
        return Attachment(fd=fd, container=member, tty=spec.tty)

    async def forward(self, name: str, namespace: str | None, port: int) -> int:
        actor = self._registry.find(name, namespace)
        network = _power(actor, CanConnect, "connect")
        box = _sandbox(actor)
        _refuse_paused(actor, f"pod {actor.state.pod.metadata.name}")
        addresses = [*OWN, *(ip.ip for ip in view(actor.state).status.pod_ips)]
        failures: list[Failed] = []
        with anyio.move_on_after(FORWARD_S):
            for address in addresses:
                try:
                    return (await connected(network, box, address, port)).detach()
                except Failed as exc:
                    failures.append(exc)
        why = str(failures[0]) if failures else f"no answer within {FORWARD_S} s"
        raise Unavailable(f"pod {actor.state.pod.metadata.name}: port {port}: {why}", remedy="is it the right port?")

    async def stats(self, name: str | None, namespace: str | None) -> Sequence[PodUsage]:
        found = []
        for actor, driver, box, members in self._inspectable(name, namespace, CanStats, "stats"):
            with _forgiving(name):
                usage = await driver.usage(box, members)
                found.append(PodUsage(view=view(actor.state), usage=usage))
        return found

    async def namespaces(self, name: str | None, namespace: str | None) -> Sequence[PodNamespaces]:
        found = []
        for actor, driver, box, members in self._inspectable(name, namespace, CanInspect, "inspect"):
            with _forgiving(name):
                rows = await driver.namespaces(box, members)
                found.append(PodNamespaces(view=view(actor.state), rows=rows))
        return found

    async def cgroups(self, name: str | None, namespace: str | None) -> Sequence[PodCgroups]:
        found = []
        for actor, driver, box, members in self._inspectable(name, namespace, CanInspect, "inspect"):
            with _forgiving(name):
                root = await driver.cgroups(box, members)
                found.append(PodCgroups(view=view(actor.state), root=root))
        return found

    def _inspectable(
        self, name: str | None, namespace: str | None, power: type[T], word: str
    ) -> list[tuple[Actor, T, Handle, list[Handle]]]:
        """The pod that was named, or all that run and whose drivers can. Raises only for one that was named."""
        found = []
        for actor in self._registry.select(name, namespace):
            with _forgiving(name):
                driver, box = _power(actor, power, word), _sandbox(actor)
                live = [m.instance for m in actor.state.members.values()]
                found.append((actor, driver, box, [i.handle for i in live if isinstance(i, container.Live)]))
        return found


@contextmanager
def _forgiving(name: str | None) -> Iterator[None]:
    """Of all pods that were asked about, one that cannot answer, since it goes just now, is left out."""
    try:
        yield
    except PoddError:
        if name is not None:
            raise


def member_name(actor: Actor, name: str | None) -> str:
    """None stands for the only one. Raises Invalid where there are several, NotFound where there is none such."""
    pod = actor.state.pod.metadata.name
    if name is None:
        members = of_kind(actor.state, "regular")
        if len(members) > 1:
            raise Invalid(f"pod {pod}: has several containers: {', '.join(members)}", remedy="name one with -c")
        return members[0]
    if name not in actor.state.members:
        known = ", ".join(actor.state.members)
        raise NotFound(f"container {name}: pod {pod} has none such", remedy=f"it has {known}")
    return name


def _newest(actor: Actor, member: str) -> int:
    """The instance that runs or ran last; where the next one is only being made, the one before says more."""
    found = actor.state.members[member]
    if found.last is not None and isinstance(found.instance, container.Creating | container.Created | None):
        return found.last.attempt
    return found.instance.attempt if found.instance is not None else 0


def _previous(actor: Actor, member: str) -> int:
    last = actor.state.members[member].last
    if last is None:
        raise NotFound(f"container {member}: has not run before", remedy="ask without previous")
    return last.attempt


def _standing(actor: Actor, member: str) -> Standing:
    over = actor.gone or (actor.state.sandbox is None and (is_finished(actor.state) or actor.state.goal.want != "run"))
    done = is_done(actor.state, member) and actor.state.goal.want == "run"
    return Standing(attempt=_newest(actor, member), over=over or done)


def _running(actor: Actor, member: str) -> Handle:
    instance = actor.state.members[member].instance
    if not isinstance(instance, container.Live):
        pod = actor.state.pod.metadata.name
        raise Conflict(f"container {member}: is not running", remedy=f"podd-cli describe pod {pod} says why")
    _refuse_paused(actor, f"container {member}")
    return instance.handle


def _refuse_paused(actor: Actor, what: str) -> None:
    if actor.state.freezer != "thawed":
        raise Conflict(f"{what}: is paused", remedy=f"podd-cli resume {actor.state.pod.metadata.name}")


def _sandbox(actor: Actor) -> Handle:
    box = actor.state.sandbox
    if not isinstance(box, sandbox.Ready):
        raise Conflict(f"pod {actor.state.pod.metadata.name}: is not running")
    return box.handle


def _power(actor: Actor, power: type[T], word: str) -> T:
    if not isinstance(actor.driver, power):
        raise Unsupported(
            f"driver {actor.driver.name}: cannot {word}", remedy="podd-cli drivers -o wide shows which can"
        )
    return actor.driver
