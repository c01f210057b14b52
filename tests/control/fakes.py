"""An engine that remembers what it was asked, and waits where a test wants it to."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from podd.driver.contract import (
    Capabilities,
    CgroupNode,
    Exit,
    Health,
    Image,
    Limits,
    NamespaceRow,
    NetworkStatus,
    PullProgress,
    SandboxUsage,
    Usage,
)
from podd.engine.view import (
    Added,
    ApplyProgress,
    ApplyResult,
    Attachment,
    DriverReport,
    FieldChange,
    ImagesPruned,
    ImageUsage,
    ImageView,
    Info,
    LogLine,
    ManifestText,
    PodCgroups,
    PodChange,
    PodEvent,
    PodNamespaces,
    PodUsage,
    PodView,
    ReloadReport,
)
from podd.errors import Invalid, NotFound
from podd.model.objects import Kind, Object, Secret
from podd.model.pod import Container, ObjectMeta, Pod, PodSpec
from podd.model.status import ContainerState, ContainerStatus, PodStatus

STORED = Secret(metadata=ObjectMeta(name="s", uid="u"), data={"word": "aHVudGVyMg=="})
UID = "0e6f2c5a-9f1b-4c53-8a45-2f3f5d0c9b11"


def view(name: str, namespace: str = "default", phase: Any = "Running") -> PodView:
    status = ContainerStatus(
        name="main",
        state=ContainerState(),
        ready=True,
        started=True,
        restart_count=0,
        image="rootfs:/",
        image_id="",
        last_state=ContainerState(),
        container_id="c1",
    )
    return PodView(
        pod=Pod(
            metadata=ObjectMeta(name=name, namespace=namespace, uid=UID, labels={"app": name}),
            spec=PodSpec(containers=(Container(name="main", image="rootfs:/"),)),
        ),
        status=PodStatus(phase=phase, container_statuses=(status,)),
    )


IMAGE = ImageView(
    image=Image(
        id=f"sha256:{'0' * 64}", names=["docker.io/library/busybox:1"], digests=["docker.io/library/busybox@sha256:1"]
    ),
    pods=["default/web"],
)


class FakeImages:
    """Has one image. A pull tells once how far it is."""

    async def pull(self, reference: str, driver: str | None, progress: Any) -> ImageView:
        await progress(PullProgress(done_bytes=7, message="2 layers"))
        if driver is not None:
            raise NotFound(f"driver {driver}: there is none")
        return IMAGE

    async def load(self, source: str, name: str, driver: str | None, progress: Any) -> Sequence[ImageView]:
        return [await self.pull(name or source, driver, progress)]

    async def list(self, driver: str | None) -> Sequence[ImageView]:
        return [IMAGE]

    async def inspect(self, reference: str, driver: str | None) -> ImageView:
        return IMAGE

    async def remove(self, reference: str, driver: str | None) -> Sequence[str]:
        return [reference, IMAGE.image.id]

    async def prune(self, driver: str | None, *, every: bool) -> ImagesPruned:
        return ImagesPruned(removed=[IMAGE.image.id] if every else [], freed_bytes=1024)

    async def usage(self, driver: str | None) -> ImageUsage:
        return ImageUsage(service="fake", images=1, unused=0, size_bytes=1024)


class Mark:
    """How far a call came, for a test in another thread to wait for."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.left = threading.Event()

    def __enter__(self) -> None:
        self.entered.set()

    def __exit__(self, *_: object) -> None:
        self.left.set()


class FakeSession:
    """Copies its input to its output until the input ends, in a thread's stead: the test holds the other ends."""

    exec_id = "x1"

    def __init__(self, terminal: int | None, ended: anyio.Event) -> None:
        self.terminal = terminal
        self._ended = ended

    async def wait(self) -> Exit:
        await self._ended.wait()
        return Exit(code=137, signal=9)


class FakeEngine:
    """pods: by name. asked: (method, arguments) in order. mark: of the last call that waits for ever."""

    def __init__(self, *names: str) -> None:
        self.images = FakeImages()
        self.pods = {name: view(name) for name in names}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.mark = Mark()
        self.chatter = 0  # replies of a watch or of logs after the first ones
        self.payload = "x"
        self.exec_ends = True
        self.error: Exception | None = None
        self.stdio: list[os.stat_result] = []
        self._changed = threading.Condition()

    def was_asked(self, method: str, times: int = 1) -> bool:
        """Wait until it was; False after five seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: [name for name, _ in self.asked].count(method) >= times, timeout=5)

    def _note(self, method: str, **arguments: Any) -> None:
        with self._changed:
            self.asked.append((method, arguments))
            self._changed.notify_all()
        if self.error:
            raise self.error

    async def apply(
        self,
        texts: Sequence[ManifestText],
        *,
        namespace: str | None,
        dry_run: bool,
        wait: bool,
        timeout_s: int | None,
        progress: Callable[[ApplyProgress], Awaitable[None]],
        strict: bool,
    ) -> Sequence[ApplyResult]:
        self._note(
            "apply",
            texts=[(text.manifest, text.source) for text in texts],
            namespace=namespace,
            dry_run=dry_run,
            wait=wait,
            timeout_s=timeout_s,
            strict=strict,
        )
        if not texts[0].manifest:
            raise Invalid("manifest: is empty", remedy="write a pod", line=1)
        await progress(ApplyProgress(name="web", namespace="default", phase="Pending"))
        await anyio.lowlevel.checkpoint()
        await progress(ApplyProgress(name="web", namespace="default", phase="Running"))
        change = FieldChange(path="metadata.labels.a", old=None, new='"b"', means="metadata")
        done = ApplyResult(
            name="web",
            namespace="default",
            uid=UID,
            action="amended",
            phase="Running",
            warnings=("w",),
            changes=(change,),
        )
        return [done]

    async def get(self, name: str, namespace: str | None) -> PodView:
        self._note("get", name=name, namespace=namespace)
        if name == "hang":
            with self.mark:
                await anyio.sleep_forever()
        if name not in self.pods:
            raise NotFound(f"pod {name}: not found", remedy="see podd-cli get pods", pod=name)
        return self.pods[name]

    async def list_pods(self, namespace: str | None, selector: str) -> Sequence[PodView]:
        self._note("list_pods", namespace=namespace, selector=selector)
        return list(self.pods.values())

    async def watch(self, namespace: str | None, selector: str) -> AsyncGenerator[PodChange, None]:
        self._note("watch", namespace=namespace, selector=selector)
        with self.mark:
            for each in self.pods.values():
                yield PodChange(type="ADDED", view=each)
            yield PodChange(type="SYNCED")
            for n in range(self.chatter):
                yield PodChange(type="MODIFIED", view=view(f"{self.payload}{n}"))
            await anyio.sleep_forever()

    async def _order(self, method: str, name: str, namespace: str | None, **arguments: Any) -> PodView:
        self._note(method, name=name, namespace=namespace, **arguments)
        if name == "hang":
            with self.mark:
                await anyio.sleep_forever()
        return self.pods[name]

    async def amend(
        self,
        name: str,
        namespace: str | None,
        *,
        labels: Mapping[str, str | None],
        annotations: Mapping[str, str | None],
        overwrite: bool,
    ) -> PodView:
        asked = {"labels": dict(labels), "annotations": dict(annotations), "overwrite": overwrite}
        return await self._order("amend", name, namespace, **asked)

    async def delete(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView:
        return await self._order("delete", name, namespace, grace_period_s=grace_period_s, wait=wait)

    async def stop(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView:
        return await self._order("stop", name, namespace, grace_period_s=grace_period_s, wait=wait)

    async def start(self, name: str, namespace: str | None, *, wait: bool) -> PodView:
        return await self._order("start", name, namespace, wait=wait)

    async def restart(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView:
        return await self._order("restart", name, namespace, grace_period_s=grace_period_s, wait=wait)

    async def pause(self, name: str, namespace: str | None) -> PodView:
        return await self._order("pause", name, namespace)

    async def resume(self, name: str, namespace: str | None) -> PodView:
        return await self._order("resume", name, namespace)

    async def resize(
        self,
        name: str,
        namespace: str | None,
        container: str | None,
        *,
        limits: Mapping[str, str],
        requests: Mapping[str, str],
    ) -> PodView:
        return await self._order("resize", name, namespace, container=container, limits=limits, requests=requests)

    async def debug(self, name: str, namespace: str | None, added: Container, *, target: str | None) -> Added:
        return Added(container="seen", view=await self._order("debug", name, namespace, added=added, target=target))

    async def logs(
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
        self._note("logs", name=name, container=container, follow=follow, tail=tail, since=since, previous=previous)
        line = LogLine(time="2024-01-01T00:00:00Z", stream="stdout", text=self.payload, partial=False, container="main")
        with self.mark:
            for _ in range(1 + self.chatter):
                yield [line]
            if follow:
                await anyio.sleep_forever()

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
    ) -> AsyncIterator[FakeSession]:
        given = {"argv": list(argv), "env": dict(env), "tty": tty, "terminal_size": terminal_size}
        self._note("exec", name=name, container=container, **given)
        ended = anyio.Event()
        if self.exec_ends:
            ended.set()
        self.stdio = [os.fstat(fd) for fd in stdio]
        terminal = None
        if tty:
            terminal, slave = os.openpty()
            os.close(slave)
        elif stdio:
            with contextlib.suppress(OSError):
                os.write(stdio[1], b"hello")
        with self.mark:
            yield FakeSession(terminal, ended)

    async def attach(self, name: str, namespace: str | None, container: str | None, *, stdin: bool) -> Attachment:
        self._note("attach", name=name, container=container, stdin=stdin)
        reader, writer = os.pipe()
        os.write(writer, b"attached")
        os.close(writer)
        return Attachment(fd=reader, container="main", tty=False)

    async def forward(self, name: str, namespace: str | None, port: int) -> int:
        self._note("forward", name=name, port=port)
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(b"forwarded")
        return ours.detach()

    async def events(
        self, name: str | None, namespace: str | None, *, selector: str, since: str | None, follow: bool
    ) -> AsyncGenerator[Sequence[PodEvent], None]:
        self._note("events", name=name, namespace=namespace, selector=selector, since=since, follow=follow)
        yield [
            PodEvent(
                time="2024-01-01T00:00:00Z",
                type="Normal",
                reason="Started",
                message="m",
                pod="web",
                namespace="d",
                uid=UID,
            )
        ]
        if follow:
            with self.mark:
                await anyio.sleep_forever()

    async def stats(self, name: str | None, namespace: str | None) -> Sequence[PodUsage]:
        self._note("stats", name=name, namespace=namespace)
        usage = SandboxUsage(at_ns=1_500_000_000_000_000_001, pod=Usage(pids=3), containers={"c1": Usage(pids=2)})
        return [PodUsage(view=each, usage=usage) for each in self.pods.values()]

    async def namespaces(self, name: str | None, namespace: str | None) -> Sequence[PodNamespaces]:
        self._note("namespaces", name=name, namespace=namespace)
        row = NamespaceRow(type="net", inode=4026531840, scope="pod", members=("main",), pinned_by="/run/x")
        return [PodNamespaces(view=each, rows=[row]) for each in self.pods.values()]

    async def cgroups(self, name: str | None, namespace: str | None) -> Sequence[PodCgroups]:
        self._note("cgroups", name=name, namespace=namespace)
        leaf = CgroupNode(
            path="podd/p/c", name="main", limits=Limits(pids=5), usage=Usage(), processes=[(7, "sh -c \udcff")]
        )
        root = CgroupNode(path="podd/p", name="p", limits=Limits(), usage=Usage(), processes=[], children=[leaf])
        return [PodCgroups(view=each, root=root) for each in self.pods.values()]

    async def create_object(self, manifest: str, *, source: str, namespace: str | None) -> Object:
        self._note("create_object", manifest=manifest, source=source, namespace=namespace)
        return STORED

    async def objects(self, kind: Kind, name: str | None, namespace: str | None) -> Sequence[Object]:
        self._note("objects", kind=kind, name=name, namespace=namespace)
        if name == "gone":
            raise NotFound(f"{kind} default/gone: there is none")
        return [STORED]

    async def delete_object(self, kind: Kind, name: str, namespace: str | None) -> None:
        self._note("delete_object", kind=kind, name=name, namespace=namespace)

    async def drivers(self) -> Sequence[DriverReport]:
        self._note("drivers")
        able = Capabilities(held_start=True, shared_uts=True, pid_pod=True, pid_node=True, exec=True)
        return [
            DriverReport(
                name="setns",
                driver="setns",
                is_default=True,
                health=Health(usable=True, version="1"),
                capabilities=able,
                network=NetworkStatus(ready=False, reason="no plugin"),
            ),
            DriverReport(
                name="bad",
                driver="bad",
                is_default=False,
                health=Health(usable=False, reason="ImportError"),
                capabilities=None,
            ),
        ]

    async def info(self) -> Info:
        self._note("info")
        return Info(
            version="0",
            pid=os.getpid(),
            started_at="2024-01-01T00:00:00Z",
            kernel="6.1",
            cgroups="v2",
            default_driver="setns",
            config_file="",
            run_dir="/run/podd",
            state_dir="/var/lib/podd",
            log_dir="/var/log/podd",
            pods={"Running": len(self.pods)},
        )

    async def reload(self) -> ReloadReport:
        self._note("reload")
        return ReloadReport(changed=("daemon.log_level",))
