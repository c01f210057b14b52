"""Control groups, and interfaces, in the words of the driver contract."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

import msgspec

from podd.driver.contract import CgroupNode, InterfaceUsage, Limits, Usage
from podd.errors import NotFound
from podd.linux import process, rtnetlink
from podd.linux.cgroup import Group


def limits_of(group: Group) -> Limits:
    """As the kernel has them."""
    return msgspec.convert(dict(group.read_limits()), Limits)


def usage_of(group: Group) -> Usage:
    return msgspec.convert(dict(group.usage()), Usage)


def interfaces_of(open_socket: Callable[[int, int], int]) -> list[InterfaceUsage]:
    """Of the network in which open_socket opens one of a family and kind, but for its loopback.

    None where it raises NotFound: the sandbox is being destroyed.
    """
    try:
        fd = open_socket(socket.AF_NETLINK, socket.SOCK_RAW)
    except NotFound:
        return []
    try:
        found = rtnetlink.interfaces(fd)
    finally:
        os.close(fd)
    return [msgspec.convert(one._asdict(), InterfaceUsage) for one in found if one.name != "lo"]


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
