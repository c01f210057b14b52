"""What the control socket asks of the engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from podd.control.images import Images
from podd.control.objects import Objects
from podd.driver.contract import Exit
from podd.engine.view import (
    Added,
    ApplyProgress,
    ApplyResult,
    Attachment,
    DriverReport,
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
from podd.model.pod import Container


class ExecSession(Protocol):
    """A process that was started in a container."""

    @property
    def exec_id(self) -> str: ...

    @property
    def terminal(self) -> int | None:
        """The master side of its terminal, owned by the reader of this property from then on; None without one."""
        ...

    async def wait(self) -> Exit: ...


class Engine(Objects, Protocol):
    """The engine, as a front end sees it.

    Every call may be cancelled at any await: the client has left. That ends the waiting, not what was ordered; an order
    is stored before the first await that waits for its effect. Refusals and failures are podd.errors.

    name, namespace: as the client gave them. name is a pod's name, or its uid or the beginning of one; the engine
    resolves it, and an ambiguous one is Invalid. namespace None: "default" for a name, any for a uid; where name may be
    None (all pods), all namespaces.
    Generators may hold resources: the caller closes each in every case, in the task that iterates.
    """

    # ---- pods
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
        """Check all documents, then make the pods as they say; one result a document, in order.

        texts: judged as one: a pod may need what another text has. strict: False leaves out what podd does not honour,
        with warnings.
        Raises Invalid before anything is made: a document is wrong. timeout_s bounds the wait: Unavailable, and the
        pods go on starting. progress: awaited now and then while waiting; slow when its reader is.
        """
        ...

    async def get(self, name: str, namespace: str | None) -> PodView: ...

    async def list_pods(self, namespace: str | None, selector: str) -> Sequence[PodView]:
        """By namespace and name. selector: a label selector as in Kubernetes; "" selects all. Raises Invalid: wrong."""
        ...

    def watch(self, namespace: str | None, selector: str) -> AsyncGenerator[PodChange, None]:
        """ADDED for each that is there, SYNCED, then every change. Raises Unavailable: the reader is too slow."""
        ...

    async def amend(
        self,
        name: str,
        namespace: str | None,
        *,
        labels: Mapping[str, str | None],
        annotations: Mapping[str, str | None],
        overwrite: bool,
    ) -> PodView:
        """Set labels and annotations, or remove those of None. Raises Conflict: one is there, and not overwrite."""
        ...

    async def delete(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView:
        """The pod as it last was. grace_period_s None: the pod's own; 0: none. wait: until nothing is left of it."""
        ...

    async def stop(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView:
        """As delete, and it is kept. Of a stopped pod: quiet success."""
        ...

    async def start(self, name: str, namespace: str | None, *, wait: bool) -> PodView:
        """Run a stopped pod again. Of a running one: quiet success. wait: until it runs, has ended or cannot start."""
        ...

    async def restart(self, name: str, namespace: str | None, *, grace_period_s: int | None, wait: bool) -> PodView: ...

    async def pause(self, name: str, namespace: str | None) -> PodView: ...

    async def resume(self, name: str, namespace: str | None) -> PodView: ...

    async def resize(
        self,
        name: str,
        namespace: str | None,
        container: str | None,
        *,
        limits: Mapping[str, str],
        requests: Mapping[str, str],
    ) -> PodView:
        """Change the amounts that are given, of one container (None: the only one), and return when they are in force.

        Raises Conflict: the kernel refuses them now, or they would make another pod of it.
        """
        ...

    async def debug(self, name: str, namespace: str | None, added: Container, *, target: str | None) -> Added:
        """Add a container to a running pod, and return when it runs. Its name "": one is made up.

        target: the container whose processes it sees. It is never restarted, and goes with the pod's sandbox.
        """
        ...

    # ---- containers
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
        """Batches of lines, oldest first. It may be read as slowly as a person reads: nothing is queued meanwhile.

        container None: the only one, else Invalid names them. since: RFC 3339, or a duration back from now as Go
        writes it ("1h30m").
        """
        ...

    def exec(
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
    ) -> AbstractAsyncContextManager[ExecSession]:
        """Entered when the process was started; left before it ended, it is killed.

        stdio: three descriptors, none with tty. They are lent until the context is entered, and closed by the caller.
        terminal_size: rows, columns, as the process first sees them; 0: not known.
        """
        ...

    async def attach(self, name: str, namespace: str | None, container: str | None, *, stdin: bool) -> Attachment: ...

    async def forward(self, name: str, namespace: str | None, port: int) -> int:
        """A stream socket that is connected to a port of the pod, from inside its network; the caller owns it.

        Raises Unavailable: nothing listens there.
        """
        ...

    # ---- images
    @property
    def images(self) -> Images: ...

    # ---- what is going on
    def events(
        self, name: str | None, namespace: str | None, *, selector: str, since: str | None, follow: bool
    ) -> AsyncGenerator[Sequence[PodEvent], None]:
        """selector: of pods that are there; "" for all, also those that are gone.

        Those remembered, oldest first, in batches; then, with follow, those to come, until the caller leaves."""
        ...

    async def stats(self, name: str | None, namespace: str | None) -> Sequence[PodUsage]:
        """Of one pod; Unsupported: its driver cannot tell. Of all: those that run and whose drivers can."""
        ...

    async def namespaces(self, name: str | None, namespace: str | None) -> Sequence[PodNamespaces]: ...

    async def cgroups(self, name: str | None, namespace: str | None) -> Sequence[PodCgroups]: ...

    async def drivers(self) -> Sequence[DriverReport]:
        """Those that were found, broken ones included. Probes them."""
        ...

    async def info(self) -> Info: ...

    async def reload(self) -> ReloadReport:
        """Read the configuration and the static pods again. Raises Invalid: it is wrong, and the old one stays."""
        ...
