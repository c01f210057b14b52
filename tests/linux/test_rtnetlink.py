"""Interfaces, asked of the kernel and made by it, in a network namespace of the test's own."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from podd.linux import namespaces, rtnetlink

pytestmark = pytest.mark.root


@pytest.fixture
def netns() -> Iterator[str]:
    """Of the path of a descriptor that keeps it."""
    fd = namespaces.new_network(lambda: None)
    yield f"/proc/self/fd/{fd}"
    os.close(fd)


@pytest.fixture
def netlink(netns: str) -> Iterator[int]:
    fd = namespaces.open_socket(netns, socket.AF_NETLINK, socket.SOCK_RAW)
    yield fd
    os.close(fd)


def test_a_new_namespace_has_its_loopback_and_the_thread_is_back(netlink: int) -> None:
    own = os.stat("/proc/thread-self/ns/net").st_ino
    assert {"lo"} <= {one.name for one in rtnetlink.interfaces(netlink)}
    assert os.stat("/proc/thread-self/ns/net").st_ino == own


def test_a_pair_of_interfaces_with_addresses(netns: str, netlink: int) -> None:
    rtnetlink.make_veth(netlink, "eth0", "peer")
    names = {one.name: one.number for one in rtnetlink.interfaces(netlink)}
    assert {"eth0", "peer"} <= names.keys()
    for address in ("10.9.8.7/16", "fd00::7/64"):
        rtnetlink.add_address(netlink, names["eth0"], address)
        with pytest.raises(FileExistsError):
            rtnetlink.add_address(netlink, names["eth0"], address)
    with pytest.raises(FileExistsError):
        rtnetlink.make_veth(netlink, "eth0", "peer")
    fd = namespaces.open_socket(netns, socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket(fileno=fd) as own:
        own.bind(("10.9.8.7", 0))


def test_what_has_passed_is_counted(netns: str, netlink: int) -> None:
    fd = namespaces.open_socket(netns, socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket(fileno=fd) as one:
        fcntl.ioctl(one, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
        before = next(i for i in rtnetlink.interfaces(netlink) if i.name == "lo")
        one.sendto(b"x" * 100, ("127.0.0.1", 9))
    after = next(i for i in rtnetlink.interfaces(netlink) if i.name == "lo")
    assert after.sent_packets - before.sent_packets >= 1
    assert after.sent_bytes - before.sent_bytes >= 128


def test_an_address_for_no_interface_is_an_error(netlink: int) -> None:
    with pytest.raises(OSError, match="rtnetlink"):
        rtnetlink.add_address(netlink, 4711, "10.0.0.1/8")


def test_what_fails_in_a_new_namespace_leaves_the_thread_in_its_own() -> None:
    own = os.stat("/proc/thread-self/ns/net").st_ino
    with pytest.raises(ZeroDivisionError):
        namespaces.new_network(lambda: 1 // 0)
    assert os.stat("/proc/thread-self/ns/net").st_ino == own
