"""Two ways to have a cgroup for a pod: podd makes it, or systemd does, whichever makes those of dockerd's containers.

dockerd calls this its cgroup driver. By cgroupfs a container's group is a directory that its OCI runtime makes, and a
pod's is one that podd makes. By systemd a container is a scope, for which the runtime asks systemd, and a pod is a
slice: the tree is systemd's, which writes there what it knows from properties of its units, again and again. So what
podd sets there it tells systemd, too. Freezing, killing and counting are the kernel's either way.

A path tells which way it was made by, so that pods of both can be looked after.
"""

from __future__ import annotations

import re
from typing import Protocol

from podd.driver.contract import Limits
from podd.errors import Invalid, Unsupported
from podd.linux.cgroup import Group, Layout, default_parent, prepare_parent
from podd.supervision.plans import limits_plan
from podd_docker import units

SLICE = ".slice"
SLICE_OF_ALL = f"podd{SLICE}"
_CGROUPFS = 'put "exec-opts": ["native.cgroupdriver=cgroupfs"] into /etc/docker/daemon.json'
_PLAIN_SLICE = re.compile(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*\.slice", re.ASCII)


# ---- names, pure -----------------------------------------------------------------------------------------------------


def is_slice(path: str) -> bool:
    """No group that podd makes is called so: their names are ids."""
    return path.endswith(SLICE)


def slice_path(name: str) -> str:
    """Where systemd puts a slice: "a-b.slice" is below "a.slice". Source: systemd.slice(5)."""
    parts = name.removesuffix(SLICE).split("-")
    return "/".join("-".join(parts[:count]) + SLICE for count in range(1, len(parts) + 1))


def unit_of(path: str) -> str:
    """The name that systemd has for it."""
    return path.rpartition("/")[2]


def as_parent(path: str) -> str:
    """What dockerd is told, so that it puts containers into this group."""
    return unit_of(path) if is_slice(path) else f"/{path}"


def of_parent(told: str) -> str:
    """The path of which `as_parent` gives that."""
    return slice_path(told) if is_slice(told) else told.strip("/")


def of_container(pod: str, docker_id: str) -> str:
    """The group of a container, by that of its pod."""
    return f"{pod}/docker-{docker_id}.scope" if is_slice(pod) else f"{pod}/{docker_id}"


# ---- ways ------------------------------------------------------------------------------------------------------------


class Way(Protocol):
    """How groups of pods are made and kept. Blocks: for worker threads."""

    def path(self, sandbox: str) -> str: ...
    def make(self, group: Group, limits: Limits) -> None:
        """Also of one that is there. Raises Conflict, Unavailable."""

    def keep(self, group: Group, limits: Limits) -> None:
        """These limits have just been written into the group."""

    def remove(self, group: Group) -> None:
        """Of none: quiet success."""


class Plain:
    """podd makes directories, below its own part of the tree."""

    def __init__(self, layout: Layout, parent: str) -> None:
        self._layout = layout
        self._parent = parent or f"{default_parent(layout)}-docker"
        self._is_prepared = False

    def path(self, sandbox: str) -> str:
        return f"{self._parent}/{sandbox}"

    def make(self, group: Group, limits: Limits) -> None:
        if not self._is_prepared:
            prepare_parent(self._layout, self._parent)
            self._is_prepared = True
        group.create()
        group.apply(limits_plan(limits))

    def keep(self, group: Group, limits: Limits) -> None:
        """Nobody else writes there."""

    def remove(self, group: Group) -> None:
        group.remove()


class Slices:
    """systemd makes slices, of which a pod's limits are properties."""

    def __init__(self, parent: str) -> None:
        """parent: a slice's name, "" for podd.slice."""
        self._stem = (parent or SLICE_OF_ALL).removesuffix(SLICE)

    def path(self, sandbox: str) -> str:
        return slice_path(f"{self._stem}-{sandbox}{SLICE}")

    def make(self, group: Group, limits: Limits) -> None:
        if group.exists():
            units.set_limits(group.name, limits_plan(limits))
        else:
            units.start_slice(group.name, limits_plan(limits))

    def keep(self, group: Group, limits: Limits) -> None:
        units.set_limits(group.name, limits_plan(limits))

    def remove(self, group: Group) -> None:
        if group.exists():
            units.stop(group.name)
        group.remove()


class Ways:
    """Both. parent: drivers.docker.cgroup_parent."""

    def __init__(self, name: str, layout: Layout, parent: str) -> None:
        self._name = name
        self._layout = layout
        self._parent = parent
        self._plain = Plain(layout, parent)
        self._slices = Slices(parent if _PLAIN_SLICE.fullmatch(parent) else "")

    def of(self, path: str) -> Way:
        """By which this group of a pod was made."""
        return self._slices if is_slice(path) else self._plain

    def paths(self, sandbox: str) -> list[str]:
        """Wherever it may have one: dockerd may have changed its way since."""
        return [way.path(sandbox) for way in (self._plain, self._slices)]

    def chosen(self, cgroup_driver: str) -> Way:
        """For pods to come. Raises Unsupported, Invalid: there is none with this cgroup driver of dockerd's."""
        if cgroup_driver == "cgroupfs":
            return self._plain
        if cgroup_driver != "systemd":
            raise Unsupported(
                f'docker: dockerd has the cgroup driver "{cgroup_driver}": podd could neither limit nor pause a pod',
                remedy=_CGROUPFS,
            )
        if self._layout.kind != "v2":
            raise Unsupported(
                f"docker: dockerd has the systemd cgroup driver on a host with cgroups {self._layout.kind}, where "
                "systemd makes a pod's group in some hierarchies only: podd could neither limit nor pause a pod",
                remedy=f"boot with cgroup v2 alone, or {_CGROUPFS}",
            )
        if self._parent and not _PLAIN_SLICE.fullmatch(self._parent):
            raise Invalid(
                f'drivers.{self._name}.cgroup_parent: "{self._parent}" is no slice, and dockerd has the systemd cgroup '
                "driver",
                remedy=f'give the name of a slice, such as "{SLICE_OF_ALL}", or none',
            )
        return self._slices
