"""Network namespaces for plugins that must see a pod's interface to undo what they have done, once it is gone.

bridge and ptp take the addresses whose masquerading they end from the interface, not from prevResult: without it they
succeed, and leave a rule and a chain of the packet filter for each address. Where masquerading of an address has ended
already, they may fail and leave that of the next: each address gets a namespace of its own.
Source: cmdDel of both, and TeardownIPMasq, containernetworking/plugins 1.1 and 1.9.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from podd.errors import PoddError
from podd.linux import namespaces, rtnetlink
from podd.network.call import INTERFACE, Attachment
from podd.network.conflist import Plugin
from podd.network.result import interface_addresses

_KINDS = ("bridge", "ptp")
_ENDED = ("does not exist", "No chain/target/match by that name")
"""What iptables says of a chain that is not there, on nf_tables and before."""


class Place(NamedTuple):
    """Where DEL finds the pod's network. netns: "" where it is gone. stand_ins: to be shown to plugins before it."""

    netns: str
    stand_ins: Sequence[str]

    def before(self, plugin: Plugin) -> Sequence[str]:
        return self.stand_ins if _needs(plugin) else ()


def has_ended(exc: PoddError) -> bool:
    """Whether a plugin has failed because what it was to undo is undone."""
    return any(words in exc.message for words in _ENDED)


@contextmanager
def place(made: Attachment) -> Iterator[Place]:
    """Blocks: for a worker thread. OSError: no namespace can be made."""
    found = _interfaces(made.netns)
    missing = INTERFACE not in (found or ()) and any(map(_needs, made.network.plugins))
    with ExitStack() as opened:
        stand_ins = []
        for address in interface_addresses(made.result or {}, INTERFACE) if missing else ():
            fd = _stand_in(address)
            opened.callback(os.close, fd)
            stand_ins.append(f"/proc/{os.getpid()}/fd/{fd}")
        yield Place("" if found is None else made.netns, stand_ins)


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


def _stand_in(address: str) -> int:
    return namespaces.new_network(lambda: _furnish(address))


def _furnish(address: str) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        rtnetlink.make_veth(netlink.fileno(), INTERFACE, "peer")
        index = next(one.number for one in rtnetlink.interfaces(netlink.fileno()) if one.name == INTERFACE)
        rtnetlink.add_address(netlink.fileno(), index, address)
