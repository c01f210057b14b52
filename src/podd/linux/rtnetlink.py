"""Network interfaces by rtnetlink: what they have counted, and the few that podd makes.

Every function takes a netlink socket (AF_NETLINK, SOCK_RAW) and speaks of the network namespace that it was opened in.
Source: rtnetlink(7), netlink(7), <linux/if_link.h>.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

_ERROR, _DONE = 2, 3
_NEWLINK, _GETLINK, _NEWADDR = 16, 18, 20
_REQUEST, _ACK, _DUMP, _CREATE_NEW = 0x1, 0x4, 0x300, 0x600
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_STATS64 = 3, 18, 23
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NESTED = 0x8000

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBi")  # struct ifaddrmsg
_ATTRIBUTE = struct.Struct("=HH")
_COUNTERS = struct.Struct("=6Q")  # the first of struct rtnl_link_stats64
_ANSWER_BYTES = 65536
ANSWER_S = 5.0
"""The kernel answers at once; the bound is there so that a lost answer holds up nobody."""


class Interface(NamedTuple):
    """Counters since it was made."""

    name: str
    number: int
    received_packets: int
    sent_packets: int
    received_bytes: int
    sent_bytes: int
    received_errors: int
    sent_errors: int


def interfaces(fd: int) -> list[Interface]:
    """All of them, the loopback too. OSError: the kernel refuses."""
    request = _message(_GETLINK, _DUMP, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
    return [_interface(body) for kind, body in _answers(fd, request) if kind == _NEWLINK]


def make_veth(fd: int, name: str, peer: str) -> None:
    """A pair of connected interfaces, both down. OSError: EEXIST and the like."""
    other = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, peer.encode() + b"\0")
    data = _attribute(_INFO_DATA | _NESTED, _attribute(_VETH_PEER | _NESTED, other))
    info = _attribute(_IFLA_LINKINFO | _NESTED, _attribute(_INFO_KIND, b"veth") + data)
    link = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, name.encode() + b"\0") + info
    for _ in _answers(fd, _message(_NEWLINK, _ACK | _CREATE_NEW, link)):
        pass


def add_address(fd: int, index: int, address: str) -> None:
    """address: with its prefix length, "10.88.0.2/16". OSError: EEXIST and the like."""
    one = ipaddress.ip_interface(address)
    family = socket.AF_INET if one.version == 4 else socket.AF_INET6
    body = _ADDRESS.pack(family, one.network.prefixlen, 0, 0, index)
    body += _attribute(_IFA_LOCAL, one.packed) + _attribute(_IFA_ADDRESS, one.packed)
    for _ in _answers(fd, _message(_NEWADDR, _ACK | _CREATE_NEW, body)):
        pass


# ---- messages --------------------------------------------------------------------------------------------------------


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 1, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _answers(fd: int, request: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each message until the last. OSError: an error came."""
    with socket.socket(fileno=os.dup(fd)) as netlink:
        netlink.send(request)
        while True:
            if not select.select([netlink], [], [], ANSWER_S)[0]:
                raise OSError(errno.ETIMEDOUT, "rtnetlink: no answer")
            for kind, body in _parts(netlink.recv(_ANSWER_BYTES)):
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    if number:
                        raise OSError(number, f"rtnetlink: {os.strerror(number)}")
                    return
                if kind == _DONE:
                    return
                yield kind, body


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _interface(body: bytes) -> Interface:
    _, _, index, _, _ = _LINK.unpack_from(body)
    found = _attributes(body[_LINK.size :])
    counters = found.get(_IFLA_STATS64, bytes(_COUNTERS.size))
    name = found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
    return Interface(name, index, *_COUNTERS.unpack_from(counters))


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        found[kind & ~_NESTED] = data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
    return found
