"""Which control group hierarchies this host has, and where podd's part of them begins."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from podd.errors import Conflict, Unsupported
from podd.linux.cgroup.files import read, read_or_none, write
from podd.linux.cgroup.group import Group, parts_of
from podd.linux.cgroup.knobs import Version

LIMITING = ("cpu", "memory", "pids")
"""The controllers that limits need. Each lives in one hierarchy; a host may lack some."""

_ONLY_V1 = ("freezer", "cpuacct")  # what the v2 hierarchy does by itself
_USED = frozenset(LIMITING + _ONLY_V1)


class Hierarchy(NamedTuple):
    """One mounted tree of groups."""

    mount: str  # "/sys/fs/cgroup/memory"
    version: Version
    controllers: frozenset[str]  # those that podd uses


class Layout(NamedTuple):
    """The hierarchies in which a group is made, the v2 one first, and who controls what."""

    hierarchies: tuple[Hierarchy, ...]

    @classmethod
    def detect(cls, mountinfo: str = "/proc/self/mountinfo") -> Layout:
        """Read what is mounted. Raises Unsupported: no hierarchy at all."""
        mounts = _mounts(read(mountinfo))
        unified = next((mount for mount in mounts if mount.version == 2), None)
        wanted = set(LIMITING) if unified else set(_USED)
        chosen = [unified] if unified else []
        if unified:
            wanted -= unified.controllers
        for mount in mounts:
            if mount.version == 1 and mount.controllers & wanted:
                chosen.append(mount)
                wanted -= mount.controllers
        if not unified and "freezer" in wanted:
            raise Unsupported(
                "cgroup: neither cgroup v2 nor the freezer controller of v1 is mounted",
                remedy="mount -t cgroup2 none /sys/fs/cgroup",
            )
        return cls(tuple(chosen))

    @classmethod
    def everywhere(cls, mountinfo: str = "/proc/self/mountinfo") -> Layout:
        """Every hierarchy that is mounted: where an OCI runtime makes groups, whether podd has use for them or not."""
        return cls(tuple(_mounts(read(mountinfo))))

    @property
    def unified(self) -> Hierarchy | None:
        """The v2 hierarchy."""
        return next((h for h in self.hierarchies if h.version == 2), None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Controllers that no hierarchy has: their limits cannot be enforced, their usage is not known."""
        return tuple(name for name in LIMITING if self.of(name) is None)

    @property
    def kind(self) -> str:
        """ "v2", "v1" or "hybrid"."""
        versions = {h.version for h in self.hierarchies}
        return "hybrid" if len(versions) == 2 else f"v{versions.pop()}"

    def of(self, controller: str) -> Hierarchy | None:
        """Where a controller lives."""
        return next((h for h in self.hierarchies if controller in h.controllers), None)

    def group(self, path: str) -> Group:
        """The group of that path from the hierarchies' mount points, made or not: "podd/pods/4f1c".

        Raises Invalid: a part of it is empty, "." or "..".
        """
        return Group(self, "/".join(parts_of(path)))


def _mounts(mountinfo: str) -> list[Hierarchy]:
    found = []
    for line in mountinfo.splitlines():
        if " - cgroup" not in line:
            continue
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        mount = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields.split()[4])
        if kind == "cgroup2":
            offered = read_or_none(f"{mount}/cgroup.controllers") or ""
            found.append(Hierarchy(mount, 2, _USED & set(offered.split())))
        elif kind == "cgroup":
            found.append(Hierarchy(mount, 1, _USED & set(options.split(","))))
    return found


SUPERVISORS = "supervisor"
"""The leaf for processes that are not a pod's, since on v2 a group with such children may hold none."""

POD_UNIT = "podd-pods.service"
"""The unit that has nothing but a group for the pods. podd.service's own would not do: systemd starts a service in the
topmost group of its unit, where v2 allows no process once the groups below have controllers, as those of pods have."""


def default_parent(layout: Layout, cgroups: str = "/proc/self/cgroup") -> str:
    """Where the groups of this daemon belong.

    "podd", except where systemd has handed over a part of the v2 tree (Delegate=yes), since everything outside is
    systemd's: "<unit>/pods", with the POD_UNIT beside this daemon's own unit, else its own unit. cgroups: the file that
    tells where this process is.
    """
    unit = _delegated_unit(layout, cgroups)
    return "podd" if unit is None else f"{unit}/pods"


def prepare_parent(layout: Layout, parent: str) -> Group:
    """Make the group under which all pods go, with every controller enabled down to it. For the daemon, at its start.

    v2 allows no processes in a group whose children have controllers. So the processes of a unit's delegated group in
    which the parent is (this daemon's), and those of the topmost group where podd itself runs in a container, are moved
    to a leaf there. Raises Conflict: they cannot be, or a group between these and the parent has some.
    """
    if layout.unified and layout.unified.controllers:
        top, unit = layout.unified.mount, parent.rpartition("/")[0]
        if os.path.exists(f"{top}/cgroup.type"):  # which the root of the host does not have
            _vacate(top)
        if unit and _is_delegated(f"{top}/{unit}"):
            _vacate(f"{top}/{unit}")
    group = layout.group(parent)
    group.create()
    group.pass_on()
    return group


def place_supervisors(layout: Layout, parent: str, pid: int) -> None:
    """Move the process that is to be the ancestor of all supervisors out of podd's own unit, to a leaf beside the pods.

    There they stay when podd.service is stopped, started or killed. Outside of a delegated group: nothing.
    """
    unit = parent.rpartition("/")[0]
    if layout.unified and unit and _is_delegated(f"{layout.unified.mount}/{unit}"):
        leaf = f"{layout.unified.mount}/{unit}/{SUPERVISORS}"
        os.makedirs(leaf, exist_ok=True)
        write(f"{leaf}/cgroup.procs", str(pid))


def _vacate(unit: str) -> None:
    leaf = f"{unit}/{SUPERVISORS}"
    os.makedirs(leaf, exist_ok=True)
    for _ in range(10):  # a process may fork while it is moved
        pids = (read_or_none(f"{unit}/cgroup.procs") or "").split()
        if not pids:
            return
        for pid in pids:
            try:
                write(f"{leaf}/cgroup.procs", pid)
            except ProcessLookupError:
                continue
    raise Conflict(f"cgroup: cannot empty {unit}: its processes fork faster than they can be moved")


def _delegated_unit(layout: Layout, cgroups: str) -> str | None:
    """The nearest group that systemd has handed over, from the v2 mount point."""
    if layout.unified is None:
        return None
    own = next((line[3:] for line in read(cgroups).splitlines() if line.startswith("0::")), "/")
    parts = own.strip("/").split("/")
    for depth in range(len(parts), 0, -1):
        for path in ("/".join((*parts[: depth - 1], POD_UNIT)), "/".join(parts[:depth])):
            if path and _is_delegated(f"{layout.unified.mount}/{path}"):
                return path
    return None


def _is_delegated(directory: str) -> bool:
    """Whether systemd marked the group as handed over to the service in it."""
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(directory, name) == b"1":
                return True
        except OSError:
            continue
    return False
