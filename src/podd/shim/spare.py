"""A spare: a shim that waits for its request, so that its first steps are done by the time it comes.

The zygote forks it when nobody asks for anything. It has nothing: two processes, a keeper and its attendant, and a
socket to talk to the zygote. When that has ended, so does the spare.

On a socketpair of packets the attendant says READY; the zygote says what it was asked for, as it was asked, with its
own channel and the connection that came along. From then on the shim is like any other.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Sequence
from contextlib import suppress

from podd.shim.keeper import ORDERS, PEER, ZYGOTE, Keeper

READY = b"ready"
MAX_REQUEST = 32 * 1024
"""Bytes of one that a spare takes. A longer one is for a shim that is forked for it."""

WANTED = 1
"""How many are kept."""

_SEND_FLAGS = int(socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)


class Spares:
    """Those that the zygote has, by the descriptors of its ends of their sockets, which it polls."""

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self._sockets: dict[int, socket.socket] = {}
        self._ready: list[int] = []

    def __contains__(self, fd: int) -> bool:
        return fd in self._sockets

    @property
    def are_enough(self) -> bool:
        return len(self._sockets) >= WANTED

    def add(self) -> socket.socket:
        """The end for a new one, owned by the caller."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sockets[ours.fileno()] = ours
        self._poll.register(ours, select.POLLIN)
        return theirs

    def hear(self, fd: int) -> None:
        """What one says: that it is ready; or by its end, that it is no more."""
        try:
            is_ready = bool(self._sockets[fd].recv(len(READY)))
        except ConnectionResetError:
            is_ready = False
        if not is_ready:
            self._drop(fd)
        elif fd not in self._ready:  # where its attendant has failed, another one says it again
            self._ready.append(fd)

    def give(self, request: bytes, fds: Sequence[int]) -> bool:
        """Have one take a request; fds, borrowed: where it is answered, and the shim's first connection.

        False: there is none that can.
        """
        while self._ready and len(request) <= MAX_REQUEST:
            fd = self._ready[-1]
            try:
                socket.send_fds(self._sockets[fd], [request], fds, _SEND_FLAGS)
            except OSError:  # it has ended
                continue
            else:
                return True
            finally:
                self._drop(fd)
        return False

    def _drop(self, fd: int) -> None:
        if fd in self._ready:
            self._ready.remove(fd)
        self._poll.unregister(fd)
        self._sockets.pop(fd).close()


def await_request(keeper: Keeper, channel: socket.socket) -> bytes:
    """For a spare's attendant: the request that it is for from now on, which is given into keeping.

    channel: to the keeper. Does not return where no request comes.
    """
    with socket.socket(fileno=keeper.kept.pop(ORDERS)) as orders:
        with suppress(BrokenPipeError):  # the zygote has ended, or has given its request to one that failed
            orders.send(READY)
        request, fds, _, _ = socket.recv_fds(orders, MAX_REQUEST, 2, socket.MSG_CMSG_CLOEXEC)
    if not request:  # the zygote has ended
        channel.send(b"exit")
        os._exit(0)
    keeper.kept[ZYGOTE], keeper.kept[f"{PEER}0"] = fds
    socket.send_fds(channel, [b"begin ", request], fds[1:])
    return request
