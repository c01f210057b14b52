"""On which ports programs of this network namespace wait for others.

Source: proc_net_tcp(5); addresses there are words in the byte order of the machine, in hexadecimal digits.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

_WAITS = {"tcp": "0A", "udp": "07"}
"""TCP_LISTEN; and TCP_CLOSE, which is what a datagram socket is in that is connected with nobody."""


class Listener(NamedTuple):
    """ip: "0.0.0.0" and "::" are all addresses of their family, and "::" often all of the other, too."""

    ip: str
    port: int


def listeners(protocol: Literal["tcp", "udp"]) -> list[Listener]:
    """Of both families. Connections that programs have made or taken are none."""
    return [*_of(protocol, protocol), *_of(f"{protocol}6", protocol)]


def _of(table: str, protocol: str) -> Iterator[Listener]:
    try:
        with open(f"/proc/thread-self/net/{table}", encoding="ascii") as file:
            lines = file.read().splitlines()[1:]
    except FileNotFoundError:  # a kernel without IPv6
        return
    for line in lines:
        _, local, _, state, *_ = line.split()
        if state == _WAITS[protocol]:
            address, _, port = local.partition(":")
            yield Listener(_ip(address), int(port, 16))


def _ip(digits: str) -> str:
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))
