"""Who waits on which port, as the kernel tells it."""

from __future__ import annotations

import socket

import pytest

from podd.linux.listeners import Listener, listeners


@pytest.mark.parametrize(("family", "ip"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_what_listens_and_what_is_only_connected(family: int, ip: str) -> None:
    with socket.socket(family) as server, socket.socket(family) as client:
        server.bind((ip, 0))
        port = server.getsockname()[1]
        assert Listener(ip, port) not in listeners("tcp"), "it does not listen yet"
        server.listen()
        client.connect((ip, port))
        found = listeners("tcp")
        assert Listener(ip, port) in found
        assert client.getsockname()[1] not in [one.port for one in found if one.ip == ip]


@pytest.mark.parametrize(("family", "ip"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
def test_datagrams(family: int, ip: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((ip, 0))
        assert Listener(ip, server.getsockname()[1]) in listeners("udp")
        assert Listener(ip, server.getsockname()[1]) not in listeners("tcp")
