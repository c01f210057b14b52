"""The methods of io.podd: what each asks of the engine, and how its answer looks on the wire."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from importlib import resources

import msgspec

import podd
from podd.control import messages as m
from podd.control.dispatch import Context, Method, Nothing, Service
from podd.control.engine import Engine
from podd.control.errors import INTERFACE, readable
from podd.control.images import ImageMethods
from podd.control.objects import ObjectMethods
from podd.driver.contract import CgroupNode, NamespaceRow
from podd.engine.view import (
    ApplyProgress,
    DriverReport,
    Info,
    ManifestText,
    PodCgroups,
    PodUsage,
    PodView,
    ReloadReport,
)
from podd.errors import Invalid, Unavailable
from podd.model.pod import Container, EnvVar

__all__ = ["Engine", "interface_text", "make_service"]


def interface_text() -> str:
    """io.podd.varlink: what introspection answers, and the documentation shows."""
    return resources.files(__package__).joinpath(f"{INTERFACE}.varlink").read_text()


def make_service(engine: Engine) -> Service:
    table = _Methods(engine).table() | ObjectMethods(engine).table() | ImageMethods(engine.images).table()
    methods = {f"{INTERFACE}.{name}": method for name, method in table.items()}
    return Service(version=podd.__version__, url="", interfaces={INTERFACE: interface_text()}, methods=methods)


class _Methods:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def table(self) -> dict[str, Method]:
        return {
            "Apply": Method(m.ApplyParameters, self._apply, more="optional", changes=True),
            "Get": Method(m.OnePod, self._get),
            "List": Method(m.SelectedPods, self._list),
            "Watch": Method(m.SelectedPods, self._watch, more="required"),
            "Amend": Method(m.AmendParameters, self._amend, changes=True),
            "Delete": Method(m.StopParameters, self._delete, changes=True),
            "Stop": Method(m.StopParameters, self._stop, changes=True),
            "Start": Method(m.StartParameters, self._start, changes=True),
            "Restart": Method(m.StopParameters, self._restart, changes=True),
            "Pause": Method(m.OnePod, self._pause, changes=True),
            "Resume": Method(m.OnePod, self._resume, changes=True),
            "Resize": Method(m.ResizeParameters, self._resize, changes=True),
            "Debug": Method(m.DebugParameters, self._debug, changes=True),
            "Logs": Method(m.LogsParameters, self._logs, more="required", paced=True),
            "Exec": Method(m.ExecParameters, self._exec, more="required", changes=True),
            "Attach": Method(m.AttachParameters, self._attach, changes=True),
            "Forward": Method(m.ForwardParameters, self._forward, changes=True),
            "Events": Method(m.EventsParameters, self._events, more="required"),
            "Stats": Method(m.SomePods, self._stats),
            "Namespaces": Method(m.SomePods, self._namespaces),
            "Tree": Method(m.SomePods, self._tree),
            "Drivers": Method(Nothing, self._drivers),
            "Info": Method(Nothing, self._info),
            "Reload": Method(Nothing, self._reload, changes=True),
        }

    # ---- pods
    async def _apply(self, context: Context, asked: m.ApplyParameters) -> m.ApplyReply:
        async def progress(step: ApplyProgress) -> None:
            await context.reply(m.ApplyReply(progress=step))

        results = await self._engine.apply(
            [ManifestText(manifest=asked.manifest, source=asked.source or "manifest"), *(asked.others or ())],
            namespace=asked.namespace,
            dry_run=bool(asked.dry_run),
            wait=bool(asked.wait),
            timeout_s=asked.timeout_s,
            progress=progress,
            strict=asked.strict is not False,
        )
        return m.ApplyReply(results=results)

    async def _get(self, _: Context, asked: m.OnePod) -> m.PodReply:
        return _pod(await self._engine.get(asked.name, asked.namespace))

    async def _list(self, _: Context, asked: m.SelectedPods) -> m.ListReply:
        views = await self._engine.list_pods(asked.namespace, asked.selector or "")
        return m.ListReply(pods=[m.PodObject.of(view) for view in views])

    async def _watch(self, context: Context, asked: m.SelectedPods) -> m.WatchReply:
        async with aclosing(self._engine.watch(asked.namespace, asked.selector or "")) as changes:
            async for change in changes:
                pod = m.PodObject.of(change.view) if change.view else None
                await context.reply(m.WatchReply(type=change.type, pod=pod))
        raise Unavailable("watch: ended", remedy="watch again")

    async def _amend(self, _: Context, asked: m.AmendParameters) -> m.PodReply:
        labels, annotations = asked.labels or {}, asked.annotations or {}
        amended = await self._engine.amend(
            asked.name, asked.namespace, labels=labels, annotations=annotations, overwrite=bool(asked.overwrite)
        )
        return _pod(amended)

    async def _delete(self, _: Context, asked: m.StopParameters) -> m.PodReply:
        grace_s = _grace_s(asked)
        wait = asked.wait is not False
        return _pod(await self._engine.delete(asked.name, asked.namespace, grace_period_s=grace_s, wait=wait))

    async def _stop(self, _: Context, asked: m.StopParameters) -> m.PodReply:
        grace_s = _grace_s(asked)
        wait = asked.wait is not False
        return _pod(await self._engine.stop(asked.name, asked.namespace, grace_period_s=grace_s, wait=wait))

    async def _start(self, _: Context, asked: m.StartParameters) -> m.PodReply:
        return _pod(await self._engine.start(asked.name, asked.namespace, wait=asked.wait is not False))

    async def _restart(self, _: Context, asked: m.StopParameters) -> m.PodReply:
        grace_s = _grace_s(asked)
        wait = asked.wait is not False
        return _pod(await self._engine.restart(asked.name, asked.namespace, grace_period_s=grace_s, wait=wait))

    async def _pause(self, _: Context, asked: m.OnePod) -> m.PodReply:
        return _pod(await self._engine.pause(asked.name, asked.namespace))

    async def _resume(self, _: Context, asked: m.OnePod) -> m.PodReply:
        return _pod(await self._engine.resume(asked.name, asked.namespace))

    async def _resize(self, _: Context, asked: m.ResizeParameters) -> m.PodReply:
        limits, requests = dict(asked.limits or {}), dict(asked.requests or {})
        if not limits and not requests:
            raise Invalid("resize: names no amount", remedy="give limits or requests")
        return _pod(
            await self._engine.resize(asked.name, asked.namespace, asked.container, limits=limits, requests=requests)
        )

    async def _debug(self, _: Context, asked: m.DebugParameters) -> m.DebugReply:
        added = Container(
            name=asked.container or "",
            image=asked.image,
            command=tuple(asked.command or ()),
            args=tuple(asked.args or ()),
            env=tuple(EnvVar(name=name, value=value) for name, value in (asked.env or {}).items()),
            stdin=bool(asked.stdin),
            tty=bool(asked.tty),
        )
        made = await self._engine.debug(asked.name, asked.namespace, added, target=asked.target)
        return m.DebugReply(container=made.container, pod=m.PodObject.of(made.view))

    # ---- containers
    async def _logs(self, context: Context, asked: m.LogsParameters) -> m.LogsReply:
        batches = self._engine.logs(
            asked.name,
            asked.namespace,
            asked.container,
            follow=bool(asked.follow),
            tail=asked.tail,
            since=asked.since,
            previous=bool(asked.previous),
        )
        async with aclosing(batches):
            async for lines in batches:
                await context.reply(m.LogsReply(lines=lines))
        return m.LogsReply(lines=())

    async def _exec(self, context: Context, asked: m.ExecParameters) -> m.ExecReply:
        session = self._engine.exec(
            asked.name,
            asked.namespace,
            asked.container,
            argv=_argv(asked),
            env=_env(asked),
            tty=bool(asked.tty),
            stdio=_stdio(context, asked),
            terminal_size=(asked.rows or 0, asked.columns or 0),
        )
        async with session as process:
            context.fds.close()  # else whoever reads the other end of stdout would never see it end
            terminal = process.terminal
            master_fd = None if terminal is None else context.give(terminal)
            await context.reply(m.ExecReply(exec_id=process.exec_id, master_fd=master_fd))
            end = await process.wait()
        return m.ExecReply(exec_id=process.exec_id, exit_code=end.code, signal=end.signal)

    async def _attach(self, context: Context, asked: m.AttachParameters) -> m.AttachReply:
        got = await self._engine.attach(asked.name, asked.namespace, asked.container, stdin=bool(asked.stdin))
        return m.AttachReply(fd=context.give(got.fd), container=got.container, tty=got.tty)

    async def _forward(self, context: Context, asked: m.ForwardParameters) -> m.ForwardReply:
        return m.ForwardReply(fd=context.give(await self._engine.forward(asked.name, asked.namespace, asked.port)))

    # ---- what is going on
    async def _events(self, context: Context, asked: m.EventsParameters) -> m.EventsReply:
        if asked.name is not None and asked.selector:
            raise Invalid("events: a name and a selector exclude each other", remedy="give one of them")
        batches = self._engine.events(
            asked.name,
            asked.namespace,
            selector=asked.selector or "",
            since=asked.since,
            follow=bool(asked.follow),
        )
        async with aclosing(batches):
            async for events in batches:
                await context.reply(m.EventsReply(events=events))
        return m.EventsReply(events=())

    async def _stats(self, _: Context, asked: m.SomePods) -> m.StatsReply:
        return m.StatsReply(pods=[_usage(each) for each in await self._engine.stats(asked.name, asked.namespace)])

    async def _namespaces(self, _: Context, asked: m.SomePods) -> m.NamespacesReply:
        pods = await self._engine.namespaces(asked.name, asked.namespace)
        return m.NamespacesReply(rows=[_namespace(each.view, row) for each in pods for row in each.rows])

    async def _tree(self, _: Context, asked: m.SomePods) -> m.TreeReply:
        pods = await self._engine.cgroups(asked.name, asked.namespace)
        return m.TreeReply(nodes=[node for each in pods for node in _flat(each, each.root, 0)])

    async def _drivers(self, _: Context, _asked: Nothing) -> m.DriversReply:
        return m.DriversReply(drivers=[_driver(report) for report in await self._engine.drivers()])

    async def _info(self, _: Context, _asked: Nothing) -> Info:
        return await self._engine.info()

    async def _reload(self, _: Context, _asked: Nothing) -> ReloadReport:
        return await self._engine.reload()


# ---- what was asked, checked
def _grace_s(asked: m.StopParameters) -> int | None:
    if asked.now and asked.grace_period_s:
        raise Invalid("now: it excludes a grace period", remedy="give one of now and grace_period_s")
    return 0 if asked.now else asked.grace_period_s


def _argv(asked: m.ExecParameters) -> Sequence[str]:
    if not asked.argv or not asked.argv[0]:
        raise Invalid("argv: names no program")
    if any("\0" in word for word in asked.argv):
        raise Invalid("argv: holds a NUL character")
    return asked.argv


def _env(asked: m.ExecParameters) -> dict[str, str]:
    for name, value in (asked.env or {}).items():
        if not name or "=" in name or "\0" in name + value:
            raise Invalid(f"env: {name!r}: not a variable that a process can have")
    return dict(asked.env or {})


def _stdio(context: Context, asked: m.ExecParameters) -> Sequence[int]:
    given = [asked.stdin_fd, asked.stdout_fd, asked.stderr_fd]
    indices = [index for index in given if index is not None]
    if asked.tty and indices:
        raise Invalid("exec: tty: the terminal takes the place of stdin_fd, stdout_fd and stderr_fd")
    if not asked.tty and len(indices) < len(given):
        raise Invalid(
            "exec: stdin_fd, stdout_fd and stderr_fd are needed", remedy="pass three descriptors, or ask for tty"
        )
    return [context.fds.lend(index) for index in indices]


# ---- what the engine answered, as it goes out
def _pod(view: PodView) -> m.PodReply:
    return m.PodReply(pod=m.PodObject.of(view))


def _identity(view: PodView) -> dict[str, str]:
    meta = view.pod.metadata
    return {"pod": meta.name, "namespace": meta.namespace, "uid": meta.uid}


def _usage(each: PodUsage) -> m.PodUsage:
    meta = each.view.pod.metadata
    names = {status.container_id.rpartition("/")[2]: status.name for status in each.view.status.container_statuses}
    return m.PodUsage(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        time=_rfc3339(each.usage.at_ns),
        pod=each.usage.pod,
        containers={names.get(id_, id_): usage for id_, usage in each.usage.containers.items()},
        overhead=each.usage.overhead,
        layers={names.get(id_, id_): size for id_, size in each.usage.layers.items()},
        interfaces=each.usage.interfaces,
    )


def _namespace(view: PodView, row: NamespaceRow) -> m.NamespaceRow:
    return m.NamespaceRow(
        **_identity(view),
        type=row.type,
        inode=row.inode,
        scope=row.scope,
        members=row.members,
        pinned_by=row.pinned_by,
    )


def _flat(pod: PodCgroups, node: CgroupNode, depth: int) -> Iterator[m.CgroupNode]:
    yield m.CgroupNode(
        **_identity(pod.view),
        depth=depth,
        path=node.path,
        name=node.name,
        limits=node.limits,
        usage=node.usage,
        processes=[m.Process(pid=pid, command=readable(command)) for pid, command in node.processes],
    )
    for child in node.children:
        yield from _flat(pod, child, depth + 1)


def _driver(report: DriverReport) -> m.Driver:
    health = report.health
    return m.Driver(
        name=report.name,
        driver=report.driver,
        is_default=report.is_default,
        usable=health.usable,
        reason=health.reason,
        remedy=health.remedy,
        version=health.version,
        notes=health.notes,
        capabilities=msgspec.structs.asdict(report.capabilities) if report.capabilities else {},
        network=report.network,
    )


def _rfc3339(at_ns: int) -> str:
    seconds, ns = divmod(at_ns, 1_000_000_000)
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"
