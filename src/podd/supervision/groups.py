"""Control groups in the words of the driver contract."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from podd.driver.contract import CgroupNode, Limits, Usage
from podd.linux import process
from podd.linux.cgroup import Group


def limits_of(group: Group) -> Limits:
    """As the kernel has them."""
    return msgspec.convert(dict(group.read_limits()), Limits)


def usage_of(group: Group) -> Usage:
    return msgspec.convert(dict(group.usage()), Usage)


def node(group: Group, names: Mapping[str, str]) -> CgroupNode:
    """The tree from this group down. names: what to call a group of that name; else it is called as it is."""
    children = [node(child, names) for child in group.children()]
    below = {pid for child in group.children() for pid in child.pids()}
    return CgroupNode(
        path=group.path,
        name=names.get(group.name, group.name),
        limits=limits_of(group),
        usage=usage_of(group),
        processes=[(pid, process.command_line(pid)) for pid in group.pids() if pid not in below],
        children=children,
    )
