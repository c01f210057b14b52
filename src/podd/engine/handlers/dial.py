"""Connections into a pod's network, over sockets that its driver opens there."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence

import anyio
from anyio.abc import ByteStream

from podd.driver.contract import CanConnect, Handle
from podd.engine.handlers.place import Failed, Place
from podd.errors import PoddError

OWN = ("127.0.0.1", "::1")
"""The pod's own addresses, where no host is given."""


class Connection(ByteStream):
    """A connected socket. For one task."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        """name: of the far end, for messages."""
        self._sock = sock
        self._name = name

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Raises anyio.EndOfStream; Failed: the connection is broken."""
        while True:
            try:
                data = self._sock.recv(max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self._sock)
            except OSError as exc:
                raise self._broken("read", exc) from exc
            else:
                if not data:
                    raise anyio.EndOfStream
                return data

    async def send(self, item: bytes) -> None:
        """Raises Failed: the connection is broken."""
        left = memoryview(item)
        while left:
            try:
                left = left[self._sock.send(left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._sock)
            except OSError as exc:
                raise self._broken("write", exc) from exc

    async def send_eof(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """At once: it awaits nothing, so that nobody can cancel it."""
        self._sock.close()

    def _broken(self, verb: str, exc: OSError) -> Failed:
        return Failed(f"{verb} tcp {self._name}: {verb}: {_reason(exc)}")


async def dial(place: Place, host: str, port: int) -> Connection:
    """To the first of the host's addresses that answers; host "": the pod itself. Raises Failed; PoddError."""
    failures: list[Failed | PoddError] = []
    for address in await _addresses(host, port):
        try:
            return await _connect(place, address, port)
        except (Failed, PoddError) as exc:
            failures.append(exc)
    raise failures[0]


async def _connect(place: Place, address: str, port: int) -> Connection:
    return Connection(await connected(place.network, place.sandbox, address, port), join(address, port))


async def connected(network: CanConnect, sandbox: Handle, address: str, port: int) -> socket.socket:
    """A socket of the sandbox's network, which does not block. Raises Failed; PoddError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    fd = await network.open_socket(sandbox, family, socket.SOCK_STREAM)
    sock = socket.socket(family, socket.SOCK_STREAM, fileno=fd)
    try:
        sock.setblocking(False)
        # To an address of its own the kernel connects, or is refused, before the first call returns to say that it is
        # under way. The second tells.
        sock.connect_ex((address, port))
        error = sock.connect_ex((address, port))
        if error == errno.EALREADY:
            await anyio.wait_writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error not in (0, errno.EISCONN):
            raise Failed(f"dial tcp {join(address, port)}: connect: {os.strerror(error).lower()}")
    except BaseException:
        sock.close()
        raise
    return sock


async def _addresses(host: str, port: int) -> Sequence[str]:
    plain = host.strip("[]")
    if not plain:
        return OWN
    try:
        return [str(ipaddress.ip_address(plain))]
    except ValueError:
        pass
    try:
        found = await anyio.getaddrinfo(plain, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise Failed(f"dial tcp: lookup {plain}: {_reason(exc)}") from exc
    except UnicodeError as exc:  # no name that DNS could have
        raise Failed(f"dial tcp: lookup {plain}: no such host") from exc
    return [str(address[0]) for *_, address in found]


def join(host: str, port: int) -> str:
    """As in a URL: [::1]:80."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()
