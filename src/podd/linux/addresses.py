"""Which addresses this host is known by."""

from __future__ import annotations

import socket
from contextlib import suppress

_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses that are nobody's: RFC 5737, RFC 3849."""


def host_addresses() -> tuple[str, ...]:
    """Those that the host sends from on its way elsewhere: its IPv4 and IPv6 address, each if it has a way.

    Nothing is sent: connecting a datagram socket only looks up the route.
    """
    found = []
    for family, elsewhere in _ELSEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((elsewhere, 9))  # refused in many ways: EINVAL where a route drops it, EPERM by a firewall
            found.append(str(sock.getsockname()[0]))
    return tuple(found)
