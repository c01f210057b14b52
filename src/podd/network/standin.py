"""A network namespace for plugins that must see a pod's interface to undo what they have done, once it is gone.

bridge and ptp take the addresses whose masquerading they end from the interface, not from prevResult: without it they
succeed, and leave a rule and a chain of the packet filter for each address. Source: cmdDel of both,
containernetworking/plugins 1.9.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from podd.linux import namespaces, rtnetlink
from podd.network.call import INTERFACE, Attachment
from podd.network.conflist import Plugin
from podd.network.result import interface_addresses

_KINDS = ("bridge", "ptp")


class Place(NamedTuple):
    """Where DEL finds the pod's network. netns: "" where it is gone. stand_in: "" where none is needed."""

    netns: str
    stand_in: str

    def of(self, plugin: Plugin) -> str:
        return self.stand_in if self.stand_in and _needs(plugin) else self.netns


@contextmanager
def place(made: Attachment) -> Iterator[Place]:
    """Blocks: for a worker thread. OSError: no namespace can be made."""
    found = _interfaces(made.netns)
    netns = "" if found is None else made.netns
    addresses = interface_addresses(made.result or {}, INTERFACE)
    if INTERFACE in (found or ()) or not addresses or not any(map(_needs, made.network.plugins)):
        yield Place(netns, "")
        return
    fd = namespaces.new_network(lambda: _furnish(addresses))
    try:
        yield Place(netns, f"/proc/{os.getpid()}/fd/{fd}")
    finally:
        os.close(fd)


def _needs(plugin: Plugin) -> bool:
    return plugin.type in _KINDS and plugin.conf.get("ipMasq") is True


def _interfaces(netns: str) -> list[str] | None:
    """Their names; None: there is no such namespace."""
    try:
        fd = namespaces.open_socket(netns, socket.AF_NETLINK, socket.SOCK_RAW)
    except OSError:
        return None
    try:
        return [one.name for one in rtnetlink.interfaces(fd)]
    finally:
        os.close(fd)


def _furnish(addresses: Sequence[str]) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        rtnetlink.make_veth(netlink.fileno(), INTERFACE, "peer")
        index = next(one.number for one in rtnetlink.interfaces(netlink.fileno()) if one.name == INTERFACE)
        for address in addresses:
            with suppress(FileExistsError):
                rtnetlink.add_address(netlink.fileno(), index, address)
