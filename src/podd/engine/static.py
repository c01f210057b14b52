"""Static pods: a folder of manifests, and the pods that are as it says, whenever it changes.

A pod of the folder lives as long as its file names it. A file that cannot be read, or is wrong, changes nothing: its
pods go on as they are, and it is shown as what it is. A folder that is away says nothing about its pods.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import anyio
import structlog

from podd.core import events as ev
from podd.core.state import PodState
from podd.engine.actor import Actor
from podd.engine.convergence import Convergence
from podd.engine.memory import Memory
from podd.engine.registry import Registry
from podd.engine.view import ApplyProgress, ApplyResult, ManifestText, PodView
from podd.errors import Conflict, Invalid, PoddError
from podd.linux.inotify import Watch
from podd.model.document import MAX_BYTES
from podd.model.pod import ObjectMeta, Pod, PodSpec
from podd.model.status import PodStatus

log = structlog.get_logger()

SUFFIXES = (".yaml", ".yml", ".json")
RESCAN_S = 20.0  # as the kubelet does, for what no event tells of
SETTLE_S = 0.2  # a file counts when it has been left alone so long
RETRY_S = 2.0  # what is right in itself, and was refused: another pod may be in its way, and go

NAMESPACE = "default"  # where a file that is wrong is shown
REASON = "ManifestError"

Name = tuple[str, str]
"""A pod's namespace and name."""


Listen = Callable[[str, Callable[[], None]], Coroutine[Any, Any, None]]
"""`listen`, or what stands for it."""


class _Stamp(NamedTuple):
    """Another one: the file may have changed."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class _File:
    """As it was last read. names: of its pods, when it was last right. problem: what is wrong.

    again: another look may find it better without a change of the file.
    """

    stamp: _Stamp
    names: frozenset[Name] = frozenset()
    problem: str = ""
    again: bool = False


class StaticPods:
    """Which file a pod comes from is a part of its record: it outlives podd, and no manifest can say it."""

    def __init__(
        self,
        registry: Registry,
        convergence: Convergence,
        memory: Memory,
        delete: Callable[[Actor], Awaitable[object]],
        folder: str,
    ) -> None:
        """delete: begin to. folder "": there is none."""
        self._registry = registry
        self._convergence = convergence
        self._memory = memory
        self._delete = delete
        self._folder = os.path.abspath(folder) if folder else ""
        self._files: dict[str, _File] = {}
        self._away = ""  # why the folder cannot be read
        self._asked = anyio.Event()

    async def run(self) -> None:
        """For ever."""
        while self._folder:
            self._asked = anyio.Event()
            wait_s = await self._look()
            with anyio.move_on_after(wait_s):
                await self._asked.wait()

    def look(self) -> None:
        """Soon, instead of with the next slow look."""
        self._asked.set()

    def refuse_to_change(self, pod: PodState) -> None:
        """Raises Conflict: the next look at its file would undo it."""
        if pod.source in self._files:
            meta = pod.pod.metadata
            raise Conflict(f"pod {meta.namespace}/{meta.name}: comes from {pod.source}", remedy="change that file")

    def refuse_to_delete(self, pod: PodState) -> None:
        """Raises Conflict: it would come back."""
        if pod.source in self._files:
            meta = pod.pod.metadata
            raise Conflict(
                f"pod {meta.namespace}/{meta.name}: comes from {pod.source}, and would come back",
                remedy=f"remove that file, or stop the pod: podd-cli stop {meta.name} -n {meta.namespace}",
            )

    # ---- shown

    def problems(self) -> list[str]:
        away = [self._away] if self._away else []
        return away + [f"static pods: {file.problem}" for file in self._files.values() if file.problem]

    def views(self, namespace: str | None) -> list[PodView]:
        """Of files that are wrong, each in the place of the pods that it should be."""
        if namespace not in (None, NAMESPACE):
            return []
        return [_view(path, file) for path, file in sorted(self._files.items()) if file.problem]

    def find(self, name: str, namespace: str) -> PodView | None:
        """By name, or by the path, which stands for its uid."""
        wanted = (view for view in self.views(namespace) if name in (view.pod.metadata.name, view.pod.metadata.uid))
        return next(wanted, None)

    # ---- looking

    async def _look(self) -> float:
        """Make the pods what the folder says. Returns when to look again, at the latest."""
        before = self._stamps()
        await anyio.sleep(SETTLE_S)
        now = self._stamps()
        if before is None or now is None:
            return RESCAN_S
        for path in self._files.keys() - now.keys():
            del self._files[path]
        at_rest = [path for path in sorted(now) if before.get(path) == now[path]]
        for path in at_rest:
            known = self._files.get(path)
            if known is None or known.again or known.stamp != now[path]:
                self._files[path] = await self._take(path, now[path], known)
        retired = await self._retire(now.keys())
        if len(at_rest) < len(now):
            return SETTLE_S
        return RESCAN_S if retired and not any(file.again for file in self._files.values()) else RETRY_S

    def _stamps(self) -> dict[str, _Stamp] | None:
        """Of every manifest of the folder; None: the folder is away."""
        try:
            names = [name for name in os.listdir(self._folder) if name.endswith(SUFFIXES) and name[0] not in ".#"]
        except OSError as exc:
            self._say_away(exc)
            return None
        self._away = ""
        found = {name: _stamp(f"{self._folder}/{name}") for name in names}
        return {f"{self._folder}/{name}": stamp for name, stamp in found.items() if stamp is not None}

    def _say_away(self, exc: OSError) -> None:
        kept = sorted(actor.state.pod.metadata.name for actor in self._static())
        if isinstance(exc, FileNotFoundError) and not kept:
            self._away = ""
            return
        away = f"static pods: {self._folder}: {exc.strerror}; pods that came from it are left as they are"
        if away != self._away:
            log.error("static_pods.unread", folder=self._folder, error=str(exc), pods=kept)
        self._away = away

    async def _take(self, path: str, stamp: _Stamp, known: _File | None) -> _File:
        names = known.names if known else frozenset()
        problem, again = "", False
        try:
            text = _read(path)
            checked = await self._convergence.checked(text, path)
            names = frozenset((pod.metadata.namespace, pod.metadata.name) for pod in checked.pods)
            self._refuse_others(path, names)
            results = await self._converge(text, path)
            problem = "\n".join(_placed(path, one.message) for one in results if one.action == "refused")
            again = bool(problem)
            self._log(path, results)
        except (PoddError, OSError) as exc:
            problem, again = str(exc), not isinstance(exc, Invalid)
        except Exception as exc:  # a bug, of podd or of a plugin: it costs this file alone
            log.exception("static_pod.broke", file=path)
            problem = f"{path}: unexpected {type(exc).__name__}; podd's log tells more"
        if problem and (known is None or known.problem != problem):
            self._tell(path, problem)
        return _File(stamp, names, problem, again)

    async def _converge(self, text: str, path: str) -> Sequence[ApplyResult]:
        return await self._convergence.apply(
            [ManifestText(manifest=text, source=path)],
            origin=path,
            namespace=None,
            strict=True,
            dry_run=False,
            wait=False,
            timeout_s=None,
            progress=_nobody,
        )

    def _refuse_others(self, path: str, names: frozenset[Name]) -> None:
        """Raises Conflict: another file of the folder has a pod of one of these names."""
        for other, file in self._files.items():
            both = names & file.names
            if other != path and both:
                namespace, name = min(both)
                raise Conflict(f"{path}: pod {namespace}/{name} is in {other} as well", remedy="remove it from one")

    async def _retire(self, present: Collection[str]) -> bool:
        """False: try again."""
        all_ordered = True
        for actor in list(self._static()):
            meta, source = actor.state.pod.metadata, actor.state.source
            is_unwanted = source not in present or self._is_given_up(source, (meta.namespace, meta.name))
            if is_unwanted and actor.state.goal.want != "delete":
                try:
                    await self._delete(actor)
                except PoddError as exc:
                    told = {"pod": meta.name, "error": exc.message, "remedy": exc.remedy}
                    log.error("static_pod.not_retired", file=source, **told)
                    all_ordered = False
                else:
                    log.info("static_pod.retired", file=source, pod=meta.name, namespace=meta.namespace)
        return all_ordered

    def _is_given_up(self, source: str, name: Name) -> bool:
        """A file that is wrong, or was not read yet, may still mean the pods that came from it; unless it named others
        when it was last right, and another file names this one: so it is where two files were swapped.
        """
        file = self._files.get(source)
        if file is None or name in file.names:
            return False
        is_elsewhere = any(name in other.names for other in self._files.values())
        return not file.problem or (bool(file.names) and is_elsewhere)

    def _static(self) -> Iterator[Actor]:
        return (actor for actor in self._registry if actor.state.source)

    # ---- telling

    def _log(self, path: str, results: Sequence[ApplyResult]) -> None:
        for one in results:
            if one.action not in ("unchanged", "refused"):
                log.info("static_pod.applied", file=path, pod=one.name, namespace=one.namespace, action=one.action)
                for warning in one.warnings:
                    log.warning("static_pod.warned", file=path, pod=one.name, namespace=one.namespace, message=warning)

    def _tell(self, path: str, problem: str) -> None:
        log.error("static_pod.refused", file=path, error=problem, remedy="mend the file; podd sees it when it is saved")
        told = ev.Tell(reason=REASON, message=_brief(problem), type="Warning")
        self._memory.note(NAMESPACE, os.path.basename(path), path, told)
        for actor in self._static():
            if actor.state.source == path:
                self._memory.tell(actor.state, told)


async def listen(folder: str, told: Callable[[], None]) -> None:
    """Call told with each change of the folder, for ever, also when the folder comes late or is replaced."""
    while True:
        try:
            watch = Watch(folder)
        except OSError:  # the slow look tells of it
            await anyio.sleep(RESCAN_S)
            continue
        try:
            there = _inode(folder)
            told()  # of what changed before it was watched
            while there is not None and there == _inode(folder):
                await anyio.wait_readable(watch.fd)
                watch.drain()
                told()
        finally:
            watch.close()


async def _nobody(_: ApplyProgress) -> None:
    pass


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _stamp(path: str) -> _Stamp | None:
    """None: it is no file, as a directory or a FIFO, or it has just gone."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return _Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read(path: str) -> str:
    """Raises Invalid: it is too large, or not UTF-8; to read a part of it would make other pods of it."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Invalid(f"{path}:1:1: larger than {MAX_BYTES} bytes", remedy="give fewer pods in a file")
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        before = data[: exc.start].decode("latin-1")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise Invalid(f"{path}:{line}:{column}: is not UTF-8", remedy="save it as UTF-8") from exc


def _placed(path: str, message: str) -> str:
    return message if message.startswith(f"{path}:") else f"{path}: {message}"


def _brief(problem: str) -> str:
    """One line of it."""
    first, *more = problem.splitlines()
    return f"{first} (and {len(more)} more)" if more else first


def _view(path: str, file: _File) -> PodView:
    meta = ObjectMeta(name=os.path.basename(path), namespace=NAMESPACE, uid=path)
    shown = PodStatus(phase="Unknown", reason=REASON, message=file.problem)
    return PodView(pod=Pod(metadata=meta, spec=PodSpec(containers=())), status=shown)
