"""One control group, in every hierarchy that it needs to be in."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from podd.errors import Conflict, Invalid, NotFound, PoddError, Unavailable
from podd.linux.cgroup import knobs
from podd.linux.cgroup.files import read, read_or_none, table, write
from podd.linux.cgroup.knobs import Limits, Usage
from podd.linux.cgroup.tree import pass_on, rmtree, some_of, subtree

if TYPE_CHECKING:
    from podd.linux.cgroup.layout import Hierarchy, Layout

_POLL_S = 0.001  # v1 tells nobody when a group becomes empty or frozen
_QUICK_POLL_S = 0.0003
_QUICK_S = 0.010


def parts_of(path: str) -> list[str]:
    """The names in a group's path. Raises Invalid: one of them could lead elsewhere, or cannot be a group's name."""
    parts = path.split("/")
    for part in parts:
        if part in ("", ".", "..") or part.startswith("cgroup.") or not part.isprintable():
            raise Invalid(f"cgroup: {path!r} is no group's path: its part {part!r} is not a plain name")
    return parts


class Group:
    """A node of podd's tree. Holds paths alone, no state and no descriptors: make as many for one group as you like.

    Errors are OSError with the file's path, except where a method names another.
    """

    def __init__(self, layout: Layout, path: str) -> None:
        """Use Layout.group, which checks the path."""
        self.layout = layout
        self.path = path

    def __repr__(self) -> str:
        return f"<Group {self.path}>"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def child(self, name: str) -> Group:
        """The group of that name below this one, made or not. Raises Invalid: it is not one plain name."""
        if len(parts_of(name)) != 1:
            raise Invalid(f"cgroup: {name!r} is no group's name: it has a slash")
        return Group(self.layout, f"{self.path}/{name}")

    def children(self) -> list[Group]:
        """The groups right below, by name."""
        directory = self._directory(self.layout.hierarchies[0])
        try:
            with os.scandir(directory) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        return [Group(self.layout, f"{self.path}/{name}") for name in names]

    def exists(self) -> bool:
        """Whether any hierarchy still has it."""
        return any(os.path.isdir(self._directory(h)) for h in self.layout.hierarchies)

    def _directory(self, hierarchy: Hierarchy) -> str:
        return f"{hierarchy.mount}/{self.path}"

    def _directory_of(self, controller: str) -> tuple[str, knobs.Version] | None:
        hierarchy = self.layout.of(controller)
        return None if hierarchy is None else (self._directory(hierarchy), hierarchy.version)

    @property
    def _unified(self) -> str | None:
        hierarchy = self.layout.unified
        return None if hierarchy is None else self._directory(hierarchy)

    # ---- making ------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make it, and the groups above it, in every hierarchy; on v2 with its ancestors' controllers enabled.

        Made already is fine. Raises Conflict: a group above it holds processes, which v2 does not allow.
        """
        for hierarchy in self.layout.hierarchies:
            directory = self._directory(hierarchy)
            parent = directory.rpartition("/")[0]
            try:
                os.mkdir(directory, 0o755)
            except FileExistsError:
                pass
            except FileNotFoundError:
                os.makedirs(directory, 0o755, exist_ok=True)
            if hierarchy.version == 2:
                pass_on(hierarchy, parent)

    def pass_on(self) -> None:
        """Let children have all of this group's controllers (v2; elsewhere nothing). Raises Conflict as create()."""
        if (hierarchy := self.layout.unified) is not None:
            pass_on(hierarchy, self._directory(hierarchy))

    def apply(self, limits: Limits, *, before: Limits | None = None) -> tuple[str, ...]:
        """Make the limits exactly these: what is not given becomes unlimited.

        before: what was applied last, if that is known; what has not changed since is left alone.
        Returns the given limits that nothing enforces here, since their controller is missing. Raises Invalid: the
        kernel refuses a value; Conflict: more memory is in use than the limit and it cannot be taken back.
        """
        unenforced: list[str] = []
        for controller, fields in knobs.FIELDS_OF.items():
            place = self._directory_of(controller)
            if place is not None and before is not None and knobs.same(controller, before, limits):
                continue
            try:
                if place is not None and knobs.APPLY[controller, place[1]](place[0], limits):
                    continue
            except OSError as exc:
                raise self._refused(exc) from exc
            unenforced += [field for field in fields if limits.get(field) is not None]
        return tuple(unenforced)

    def change(self, limits: Limits) -> Limits:
        """As apply, of a group in use, and all or nothing. Returns what `read_limits` then says.

        Raises as apply; the limits are then as they were.
        """
        before = self.read_limits()
        try:
            self.apply(limits)
        except (PoddError, OSError):
            with contextlib.suppress(PoddError, OSError):
                self.apply(before)
            raise
        return self.read_limits(limits)

    def die_together(self) -> None:
        """Have the kernel kill all of the group where it would kill one for want of memory. v1 cannot: no effect."""
        place = self._directory_of("memory")
        if place is not None and place[1] == 2:
            knobs.kill_whole_on_oom(place[0])

    def _refused(self, exc: OSError) -> Exception:
        knob = str(exc.filename).rpartition("/")[2]
        if exc.errno in (errno.EINVAL, errno.ERANGE):
            return Invalid(
                f"cgroup {self.path}: {knob}: the kernel refuses the value",
                remedy="a cpu quota is at least 1000 us and, on cgroup v1, not above the parent's share",
            )
        if exc.errno == errno.EBUSY:
            return Conflict(
                f"cgroup {self.path}: {knob}: more is in use than the limit allows",
                remedy="give it more, or have the program free some first",
            )
        return exc

    def read_limits(self, asked: Limits | None = None) -> Limits:
        """What the kernel's files say; None for what is not limited, no key for what has no controller.

        The kernel rounds memory down to pages and, on v2, cpu shares to weights. Where a file holds what `asked` is
        rounded to, the value is given back as asked.
        """
        found: Limits = {}
        for controller in knobs.FIELDS_OF:
            if (place := self._directory_of(controller)) is not None:
                found.update(knobs.READ[controller, place[1]](place[0], asked or {}))
        return found

    # ---- entering ----------------------------------------------------------------------------------------------------

    def open_directory(self) -> int | None:
        """A descriptor for `fork_into`, which the caller owns. None: there is no v2 hierarchy."""
        if self._unified is None:
            return None
        return os.open(self._unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def entry_fds(self, *, unified: bool = True) -> list[int]:
        """Open files; a single-threaded process that writes b"0" to each is in the group. The caller owns them.

        unified: with that of v2, first. False for a process that fork_into has put there already, which is much faster
        (see the package's text). Raises NotFound: the group is not there.
        """
        fds: list[int] = []
        try:
            for hierarchy in self.layout.hierarchies:
                if hierarchy.version == 2 and not unified:
                    continue
                file = "cgroup.procs" if hierarchy.version == 2 else "tasks"
                fds.append(os.open(f"{self._directory(hierarchy)}/{file}", os.O_WRONLY | os.O_CLOEXEC))
        except OSError as exc:
            for fd in fds:
                os.close(fd)
            if isinstance(exc, FileNotFoundError):
                raise NotFound(f"cgroup {self.path}: it does not exist: no {exc.filename}") from exc
            raise
        return fds

    def add(self, pid: int) -> None:
        """Move a process with all its threads here. Slow: it may wait for a grace period. OSError ESRCH: it ended."""
        for hierarchy in self.layout.hierarchies:
            write(f"{self._directory(hierarchy)}/cgroup.procs", str(pid))

    # ---- its processes -----------------------------------------------------------------------------------------------

    def pids(self) -> list[int]:
        """Every process in the group and below it, as seen from the caller's pid namespace, in any hierarchy."""
        found: set[int] = set()
        for hierarchy in self.layout.hierarchies:
            for directory in subtree(self._directory(hierarchy)):
                found.update(int(pid) for pid in (read_or_none(f"{directory}/cgroup.procs") or "").split())
        return sorted(found - {0})

    def kill_all(self, timeout_s: float = 10.0) -> None:
        """SIGKILL every process in the group and below, frozen or forking as they may be; return when none is left.

        Of no such group: quiet success. Raises Unavailable: after the time some are still there, and names them.
        """
        deadline = time.monotonic() + timeout_s
        if self._unified is not None:
            try:
                write(f"{self._unified}/cgroup.kill", "1")
            except FileNotFoundError:  # no group, or a kernel before 5.14
                pass
            else:
                self._wait_event("populated", 0, deadline)
        while pids := self.pids():
            self._kill_frozen(pids, deadline)
            if time.monotonic() > deadline:
                raise Unavailable(f"cgroup {self.path}: processes {some_of(self.pids())} are still there after SIGKILL")
            time.sleep(_POLL_S)

    def _kill_frozen(self, pids: list[int], deadline: float) -> None:
        """Without cgroup.kill: what is frozen neither forks nor ends, so that a pid means what it meant."""
        with contextlib.suppress(Unavailable, OSError):
            self.freeze(min(0.5, max(0.0, deadline - time.monotonic())))
            pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(Unavailable, OSError):
            self.thaw()

    def open_kill(self) -> int | None:
        """A descriptor, owned by the caller, to which b"1" is written to kill all at once. None: there is no such file.

        It takes a v2 hierarchy and Linux 5.14.
        """
        if self._unified is None:
            return None
        try:
            return os.open(f"{self._unified}/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None

    def populated(self) -> bool:
        """Whether a live process is in the group or below."""
        if self._unified is None:
            return bool(self.pids())
        return table(read_or_none(f"{self._unified}/cgroup.events") or "").get("populated") == 1

    # ---- pausing -----------------------------------------------------------------------------------------------------

    def freeze(self, timeout_s: float = 10.0) -> None:
        """Stop every process in the group and below; return when all have stopped.

        Raises Unavailable: not all did in time; then none stays frozen. NotFound: there is no such group.
        """
        try:
            self._set_frozen(frozen=True, deadline=time.monotonic() + timeout_s)
        except Unavailable:
            with contextlib.suppress(Unavailable, NotFound):
                self.thaw()
            raise

    def thaw(self, timeout_s: float = 10.0) -> None:
        """Let them run again. Raises as freeze."""
        self._set_frozen(frozen=False, deadline=time.monotonic() + timeout_s)

    def frozen(self) -> bool:
        """Whether it was asked to be frozen, by itself or with a group above it, and is."""
        if self._unified is not None:
            return table(read_or_none(f"{self._unified}/cgroup.events") or "").get("frozen") == 1
        return (read_or_none(self._freezer) or "").strip() == "FROZEN"

    @property
    def _freezer(self) -> str:
        place = self._directory_of("freezer")
        assert place is not None, "Layout.detect insists on v2 or the freezer"
        return f"{place[0]}/freezer.state"

    def _set_frozen(self, *, frozen: bool, deadline: float) -> None:
        try:
            if self._unified is not None:
                write(f"{self._unified}/cgroup.freeze", "1" if frozen else "0")
                if frozen:
                    self._wait_event("frozen", 1, deadline)
                return
            state = "FROZEN" if frozen else "THAWED"
            write(self._freezer, state)
            self._poll(lambda: read(self._freezer).strip() == state, f"be {state.lower()}", deadline)
        except FileNotFoundError as exc:
            raise NotFound(f"cgroup {self.path}: it does not exist: no {exc.filename}") from exc

    # ---- counting ----------------------------------------------------------------------------------------------------

    def usage(self) -> Usage:
        """Counters of the group and all below it. Every value is None when the group is gone."""
        cpu, memory, pids = (self._directory_of(name) for name in knobs.FIELDS_OF)
        counted = (self._unified, 2) if self._unified else self._directory_of("cpuacct")
        used, working_set, limit = knobs.memory_used(*memory) if memory else (None, None, None)
        tasks, tasks_limit = knobs.pids_used(pids[0]) if pids else (None, None)
        return {
            "cpu_usage_ns": knobs.cpu_used_ns(*counted) if counted else None,
            "cpu_throttled_ns": knobs.cpu_throttled_ns(*cpu) if cpu else None,
            "memory_usage_bytes": used,
            "memory_working_set_bytes": working_set,
            "memory_limit_bytes": limit,
            "pids": tasks,
            "pids_limit": tasks_limit,
            "oom_kills": self.oom_kills(),
        }

    def oom_kills(self) -> int | None:
        """How many processes here and below the kernel has killed for want of memory, whosever limit it was."""
        place = self._directory_of("memory")
        if place is None:
            return None
        directory, version = place
        counts = [knobs.oom_kills(d, version) for d in ([directory] if version == 2 else subtree(directory))]
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    # ---- removing ----------------------------------------------------------------------------------------------------

    def remove(self, timeout_s: float = 5.0) -> None:
        """Remove it and all below it, from every hierarchy. Gone already is fine; processes are not killed.

        Raises Unavailable: a process is in it and did not leave in time.
        """
        deadline = time.monotonic() + timeout_s
        for hierarchy in self.layout.hierarchies:
            self._poll(partial(rmtree, self._directory(hierarchy)), "be removed", deadline)

    # ---- waiting -----------------------------------------------------------------------------------------------------

    def _poll(self, done: Callable[[], bool], what: str, deadline: float) -> None:
        """Ask every millisecond, then less and less often: right after a SIGKILL a group is busy for about as long."""
        pause_s = _POLL_S
        while not done():
            if time.monotonic() > deadline:
                held = some_of(self.pids())
                raise Unavailable(f"cgroup {self.path}: it would not {what} in time: it holds {held}")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.05)

    def _wait_event(self, key: str, value: int, deadline: float) -> None:
        """Wait until the v2 group's cgroup.events says so. POLLPRI tells of each change.

        The kernel tells at most every 10 ms, and what is waited for mostly comes sooner: hence the quick looks first.
        """
        quick = time.monotonic() + _QUICK_S
        try:
            fd = os.open(f"{self._unified}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while table(os.pread(fd, 4096, 0).decode()).get(key) != value:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    held = some_of(self.pids())
                    raise Unavailable(f"cgroup {self.path}: it is not '{key} {value}' in time: it holds {held}")
                if time.monotonic() < quick:
                    time.sleep(_QUICK_POLL_S)
                else:
                    poll.poll(left_s * 1000)
        except OSError as exc:
            if exc.errno != errno.ENODEV:  # removed meanwhile
                raise
        finally:
            os.close(fd)
