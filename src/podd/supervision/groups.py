"""Control groups, and interfaces, in the words of the driver contract."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from podd.driver.contract import CgroupNode, InterfaceUsage, Limits, Usage
from podd.linux import process, rtnetlink
from podd.linux.cgroup import Group


def limits_of(group: Group) -> Limits:
    """As the kernel has them."""
    return msgspec.convert(dict(group.read_limits()), Limits)


def usage_of(group: Group) -> Usage:
    return msgspec.convert(dict(group.usage()), Usage)


def interfaces_of(fd: int) -> list[InterfaceUsage]:
    """Of the network of a NETLINK_ROUTE socket, but for its loopback."""
    return [
        InterfaceUsage(
            name=one.name,
            received_bytes=one.received_bytes,
            received_packets=one.received_packets,
            received_errors=one.received_errors,
            sent_bytes=one.sent_bytes,
            sent_packets=one.sent_packets,
            sent_errors=one.sent_errors,
        )
        for one in rtnetlink.interfaces(fd)
        if one.name != "lo"
    ]


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
