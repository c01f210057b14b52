"""The leak audit: what is on the host now that was not there before, and who holds it.

    before = audit.snapshot([run_dir, state_dir], cgroup_parent="podd", daemon=pid)
    ...
    audit.assert_clean(before, audit.snapshot([run_dir, state_dir], cgroup_parent="podd", daemon=pid))

It knows nothing of who made what. It blames on the podd under test: processes in its cgroups, with its directories in
their command line, as working directory or open, members of its namespaces, and all their descendants and the caller's;
mounts and pins below its directories or made of them; namespaces that any of these holds, be it by a descriptor alone;
cgroups below its parent in every hierarchy; files; network interfaces and, of a namespace that is named, rules of the
packet filter; descriptors of the daemon. Addresses that a CNI plugin keeps, and podd's journal of them, are files:
name the folders that they are in among the roots. What nobody can be
blamed for belongs to someone else on a shared machine, and is told with `whole_host=True`.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from podd.testing import network_audit

_NSFS_LINK = re.compile(r"(net|ipc|uts|pid|mnt|cgroup|user|time):\[\d+\]")
_NO_DIGITS = re.compile(r"\d+")
_KTHREADD = 2

_Key = tuple[str, ...]


class Leak(NamedTuple):
    """One thing that is left. kind: "process", "zombie", "mount", "namespace", "cgroup", "file", "interface", "rule",
    "descriptor"."""

    kind: str
    what: str
    held_by: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}" + (f" <- {self.held_by}" if self.held_by else "")


class _Item(NamedTuple):
    leak: Leak
    blamed: bool


class _Mount(NamedTuple):
    id: str
    point: str
    fstype: str
    source: str  # of nsfs pins "net:[4026532001]"
    options: str


@dataclass
class _Process:
    pid: int
    ppid: int
    state: str
    started: str
    command: str
    arguments: str = ""
    groups: str = ""
    namespaces: set[str] = field(default_factory=set)
    fds: dict[str, str] = field(default_factory=dict)  # number -> what it is
    cwd: str = ""

    def __str__(self) -> str:
        shown = " ".join(self.arguments.split()) or self.command
        return f"pid {self.pid} ({shown[:80]})"


@dataclass(frozen=True)
class Snapshot:
    """What is there. Items by identity; the daemon's descriptors by what they are, since their numbers mean nothing."""

    items: Mapping[_Key, _Item]
    descriptors: Mapping[str, Sequence[str]]
    daemon: int | None


def snapshot(roots: Sequence[str], *, cgroup_parent: str, daemon: int | None = None, network: str = "") -> Snapshot:
    """Look at the whole host once.

    roots: the directories that belong to the podd under test alone. cgroup_parent: from the hierarchies' mount points;
    it may stay itself. daemon: whose descriptors count. network: the path of a network namespace that belongs to it
    alone; "" where it has none. Needs root to see all. Some 8 ms for 100 processes.
    """
    roots = [os.path.realpath(root) for root in roots]
    mounts = list(_mounts())
    processes = {process.pid: process for process in _processes()}
    pins = {mount.source: mount.point for mount in mounts if mount.fstype == "nsfs"}
    pinned = {source for source, point in pins.items() if _below(point, roots)}
    makers = {os.getpid(), *([daemon] if daemon else [])}
    blamed = _blamed(processes, roots, cgroup_parent, pinned, makers)
    items: dict[_Key, _Item] = {}
    for found in (
        _process_items(processes, blamed),
        _mount_items(mounts, roots),
        _namespace_items(processes, pins, blamed | makers, pinned),
        _cgroup_items(mounts, cgroup_parent),
        _file_items(roots, {mount.point for mount in mounts}),
        _interface_items(),
        _network_items(network) if network else (),
    ):
        items.update(found)
    fds = _by_target(processes[daemon]) if daemon in processes else {}
    return Snapshot(items, fds, daemon)


def leaks(
    before: Snapshot, after: Snapshot, *, ignoring: Iterable[str] = (), whole_host: bool = False
) -> Sequence[Leak]:
    """What came and did not go. ignoring: regular expressions, searched for in the leak's line."""
    found = [item.leak for key, item in after.items.items() if key not in before.items and (item.blamed or whole_host)]
    for target, numbers in after.descriptors.items():
        more = len(numbers) - len(before.descriptors.get(target, ()))
        if more > 0:
            found.append(Leak("descriptor", f"{more} more of {target}", f"pid {after.daemon}, {', '.join(numbers)}"))
    patterns = [re.compile(pattern) for pattern in ignoring]
    return sorted(leak for leak in found if not any(pattern.search(str(leak)) for pattern in patterns))


def assert_clean(before: Snapshot, after: Snapshot, *, ignoring: Iterable[str] = (), whole_host: bool = False) -> None:
    """Raises AssertionError with a line for everything that is left. Arguments as for `leaks`."""
    left = leaks(before, after, ignoring=ignoring, whole_host=whole_host)
    if left:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(leak.kind for leak in left).items()))
        raise AssertionError(f"left behind: {counts}\n" + "\n".join(f"  {leak}" for leak in left))


def until_clean(
    before: Snapshot, look: Callable[[], Snapshot], *, ignoring: Iterable[str] = (), limit_s: float = 2.0
) -> None:
    """As `assert_clean`, looking again for a while: a process that has ended may wait for its parent to notice."""
    end = time.monotonic() + limit_s
    ignoring = list(ignoring)
    while (after := look()) and leaks(before, after, ignoring=ignoring) and time.monotonic() < end:
        time.sleep(0.02)
    assert_clean(before, after, ignoring=ignoring)


# ---- looking at /proc ------------------------------------------------------------------------------------------------


def _text(path: str) -> str:
    """A file of /proc or /sys; "" when it is gone or not ours to read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode(errors="surrogateescape")
    except OSError:
        return ""


def _links(directory: str) -> dict[str, str]:
    """Name -> target of every symbolic link; without those that went away meanwhile."""
    found: dict[str, str] = {}
    try:
        names = os.listdir(directory)
    except OSError:
        return found
    for name in names:
        try:
            found[name] = os.readlink(f"{directory}/{name}")
        except OSError:
            continue
    return found


def _processes() -> Iterator[_Process]:
    """All of them but the kernel's own threads."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        stat = _text(f"/proc/{name}/stat")
        head, _, tail = stat.rpartition(")")
        fields = tail.split()
        if not fields or int(fields[1]) == _KTHREADD or int(name) == _KTHREADD:
            continue
        process = _Process(int(name), int(fields[1]), fields[0], fields[19], head.partition("(")[2])
        if process.state != "Z":
            base = f"/proc/{name}"
            process.arguments = _text(f"{base}/cmdline").replace("\0", " ")
            process.groups = _text(f"{base}/cgroup")
            process.namespaces = set(_links(f"{base}/ns").values())
            process.fds = _links(f"{base}/fd")
            process.cwd = _links_to(f"{base}/cwd")
        yield process


def _links_to(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _mounts() -> Iterator[_Mount]:
    for line in _text("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        number, _, _, root, point, *_ = fields.split()
        fstype, source, options = rest.split(" ", 2)
        yield _Mount(number, _unescaped(point), fstype, root if fstype == "nsfs" else _unescaped(source), options)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


# ---- whose it is -----------------------------------------------------------------------------------------------------


def _blamed(
    processes: Mapping[int, _Process], roots: Sequence[str], cgroup_parent: str, pinned: set[str], makers: set[int]
) -> set[int]:
    """Processes of the podd under test. makers: pids whose descendants are; the caller and its ancestors never are."""
    innocent = _ancestors(processes, os.getpid())
    common = set().union(*(processes[pid].namespaces for pid in innocent if pid in processes))
    inside = re.compile(rf":/{re.escape(cgroup_parent)}(/|$)", re.MULTILINE)
    blamed = {
        pid
        for pid, process in processes.items()
        if inside.search(process.groups)
        or any(root in process.arguments for root in roots)
        or _below(process.cwd, roots)
        or any(_below(target, roots) for target in process.fds.values())
    }
    while True:
        blamed -= innocent
        own = set(pinned).union(*(processes[pid].namespaces for pid in blamed)) - common
        parents = blamed | makers
        more = {
            pid for pid, process in processes.items() if process.ppid in parents or process.namespaces & own
        } - innocent
        if more <= blamed:
            return blamed
        blamed |= more


def _ancestors(processes: Mapping[int, _Process], pid: int) -> set[int]:
    found = {1}
    while pid in processes and pid not in found:
        found.add(pid)
        pid = processes[pid].ppid
    return found


# ---- what there is ---------------------------------------------------------------------------------------------------

_Items = Iterator[tuple[_Key, _Item]]


def _process_items(processes: Mapping[int, _Process], blamed: set[int]) -> _Items:
    for pid, process in processes.items():
        parent = processes.get(process.ppid)
        kind = "zombie" if process.state == "Z" else "process"
        groups = {line.split(":", 2)[2] for line in process.groups.splitlines()} - {"/"}
        where = f", in cgroup {', '.join(sorted(groups))}" if groups else ""
        leak = Leak(kind, str(process) + where, f"child of {parent}" if parent else "")
        yield (kind, str(pid), process.started), _Item(leak, pid in blamed)


def _mount_items(mounts: Iterable[_Mount], roots: Sequence[str]) -> _Items:
    for mount in mounts:
        ours = _below(mount.point, roots) or _below(mount.source, roots) or any(root in mount.options for root in roots)
        leak = Leak("mount", f"{mount.point} ({mount.fstype} {mount.source})", "")
        yield ("mount", mount.id, mount.point), _Item(leak, ours)


def _namespace_items(
    processes: Mapping[int, _Process], pins: Mapping[str, str], blamed: set[int], pinned: set[str]
) -> _Items:
    holders: dict[str, list[str]] = {}
    ours = set(pinned)
    for name, point in pins.items():
        holders.setdefault(name, []).append(f"pinned at {point}")
    for pid, process in processes.items():
        opened = {target: number for number, target in process.fds.items() if _NSFS_LINK.fullmatch(target)}
        for name in process.namespaces | opened.keys():
            how = "in it" if name in process.namespaces else f"by descriptor {opened[name]}"
            holders.setdefault(name, []).append(f"{process} {how}")
            if pid in blamed:
                ours.add(name)
    for name, held in holders.items():
        shown = "; ".join(held[:4]) + (f"; and {len(held) - 4} more" if len(held) > 4 else "")
        yield ("namespace", name), _Item(Leak("namespace", name, shown), name in ours)


def _cgroup_items(mounts: Iterable[_Mount], parent: str) -> _Items:
    for mount in mounts:
        if mount.fstype not in ("cgroup", "cgroup2"):
            continue
        top = f"{mount.point}/{parent}"
        for directory, _, _ in os.walk(top):
            if directory != top:
                pids = _text(f"{directory}/cgroup.procs").split()
                held = f"processes {', '.join(pids)}" if pids else ""
                yield ("cgroup", directory), _Item(Leak("cgroup", directory, held), blamed=True)


def _file_items(roots: Sequence[str], mounted: set[str]) -> _Items:
    """Everything in the roots; what is mounted there counts as a mount, whatever is in it."""
    waiting = [root for root in roots if os.path.isdir(root)]
    while waiting:
        directory = waiting.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError:
            continue
        for entry in entries:
            is_directory = entry.is_dir(follow_symlinks=False)
            path = entry.path + ("/" if is_directory else "")
            yield ("file", entry.path), _Item(Leak("file", path, ""), blamed=True)
            if is_directory and entry.path not in mounted:
                waiting.append(entry.path)


def _interface_items() -> _Items:
    for line in _text("/proc/self/net/dev").splitlines()[2:]:
        name = line.partition(":")[0].strip()
        index = _text(f"/sys/class/net/{name}/ifindex").strip()
        yield ("interface", name, index), _Item(Leak("interface", name, ""), blamed=True)


def _network_items(network: str) -> _Items:
    for name, number in network_audit.interfaces(network):
        yield ("interface", network, name, str(number)), _Item(Leak("interface", name, network), blamed=True)
    for line, nth in network_audit.rules(network):
        yield ("rule", network, line, str(nth)), _Item(Leak("rule", line, network), blamed=True)


# ---- descriptors -----------------------------------------------------------------------------------------------------


def _by_target(process: _Process) -> dict[str, list[str]]:
    """Descriptor numbers by what they are: paths as they are, numbers that differ from one to the next taken out."""
    sockets = _unix_sockets(process.pid)
    found: dict[str, list[str]] = {}
    for number, target in sorted(process.fds.items(), key=lambda item: int(item[0])):
        kind, _, inode = target.partition(":[")
        if kind == "socket":
            shown = f"socket {sockets.get(inode.rstrip(']'), '')}".rstrip()
        elif target.startswith("/") and not target.startswith("/proc/"):
            shown = target
        else:
            shown = _NO_DIGITS.sub("N", target)
        found.setdefault(shown, []).append(number)
    return found


def _unix_sockets(pid: int) -> dict[str, str]:
    """Inode -> the path that it is bound to, or "unix"."""
    found = {}
    for line in _text(f"/proc/{pid}/net/unix").splitlines()[1:]:
        fields = line.split(None, 7)
        found[fields[6]] = fields[7] if len(fields) > 7 else "unix"
    return found
