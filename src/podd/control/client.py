"""A small blocking client of the control socket, for commands: it imports little, so that they start fast.

    with Client("/run/podd/podd.sock") as client:
        pods = client.call("List", {"namespace": "default"})["pods"]
        for reply in client.call_more("Watch"):
            print(reply.parameters["type"])

Every refusal is raised as its class of podd.errors, as if the engine were in this process.
"""

from __future__ import annotations

import array
import grp
import json
import os
import socket
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from podd.control.errors import INTERFACE, from_wire
from podd.errors import Denied, PoddError, Unavailable

_CONNECT_S = 10
_CHUNK = 256 * 1024
_INT_SIZE = array.array("i").itemsize
_ANCILLARY_BYTES = socket.CMSG_SPACE(16 * _INT_SIZE)


class Reply(NamedTuple):
    """fds: descriptors that came with it; the receiver owns them."""

    parameters: dict[str, Any]
    fds: Sequence[int]


class Client:
    """One connection; one call at a time. Not for sharing between threads."""

    def __init__(self, path: str, *, timeout_s: float | None = None) -> None:
        """Connect. timeout_s: for each wait on podd; None waits for ever.

        Raises Unavailable: no socket, nobody listens; Denied: the socket's permissions forbid it.
        """
        self._path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A connect with Python's timeout does not wait at all for room in the backlog; this one does.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _CONNECT_S, 0))
            self._sock.connect(path)
        except OSError as exc:
            self._sock.close()
            raise _no_connection(path, exc) from exc
        self._sock.settimeout(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave: what podd does for this client's sake alone, it ends. Closing twice is harmless."""
        self._sock.close()

    def fileno(self) -> int:
        """For select: readable when a reply, or podd's end, has come."""
        return self._sock.fileno()

    def call(self, method: str, parameters: Mapping[str, Any] | None = None, fds: Sequence[int] = ()) -> dict[str, Any]:
        """Ask and get one answer. Raises PoddError.

        method: of io.podd, as "List", or with its interface. fds: go with the call, named in it by their index; they
        stay the caller's.
        """
        reply = self.call_fds(method, parameters, fds)
        _close_all(list(reply.fds))
        return reply.parameters

    def call_fds(self, method: str, parameters: Mapping[str, Any] | None = None, fds: Sequence[int] = ()) -> Reply:
        """As call, for answers with descriptors."""
        self._send({"method": _full_name(method), "parameters": parameters or {}}, fds)
        return self._receive()[0]

    def call_more(
        self, method: str, parameters: Mapping[str, Any] | None = None, fds: Sequence[int] = ()
    ) -> Iterator[Reply]:
        """Ask, now, and get answers as they come, until the last. To stop before it, close the client.

        Raises PoddError, also while iterating.
        """
        self._send({"method": _full_name(method), "parameters": parameters or {}, "more": True}, fds)
        return self._replies()

    def _replies(self) -> Iterator[Reply]:
        continues = True
        while continues:
            reply, continues = self._receive()
            yield reply

    # ---- the wire
    def _send(self, message: dict[str, Any], fds: Sequence[int]) -> None:
        data = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\0")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self._sock.sendmsg([data], rights)
            self._sock.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            return  # podd has closed and may have said why: reading tells
        except TimeoutError as exc:
            raise self._silent() from exc

    def _receive(self) -> tuple[Reply, bool]:
        data, fds = self._read_message()
        try:
            message = json.loads(data)
            error, parameters = message.get("error"), message.get("parameters") or {}
            if error is not None:
                raise from_wire(error, parameters)
            reply = Reply(dict(parameters), tuple(fds))
            fds.clear()
            return reply, bool(message.get("continues"))
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise self._stranger() from None
        finally:
            _close_all(fds)

    def _read_message(self) -> tuple[bytes, list[int]]:
        """One message, without its NUL, and what came with it.

        It looks for the end first and reads no further, so that descriptors stay with their own message.
        """
        data = bytearray()
        fds: list[int] = []
        try:
            while not data.endswith(b"\0"):
                seen = self._sock.recv(_CHUNK, socket.MSG_PEEK)
                if not seen:
                    raise self._stranger() if data else self._gone()
                size = seen.find(b"\0") + 1 or len(seen)
                got, ancillary, _, _ = self._sock.recvmsg(size, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
                data += got
                for level, kind, payload in ancillary:
                    if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                        fds += array.array("i", payload[: len(payload) - len(payload) % _INT_SIZE])
        except BaseException as exc:
            _close_all(fds)
            if isinstance(exc, TimeoutError):
                raise self._silent() from exc
            if isinstance(exc, ConnectionResetError):
                raise self._gone() from exc
            raise
        return bytes(data[:-1]), fds

    # ---- what can be wrong
    def _gone(self) -> PoddError:
        return Unavailable(f"{self._path}: podd closed the connection", remedy="see podd's log")

    def _silent(self) -> PoddError:
        return Unavailable(f"{self._path}: no answer within {self._sock.gettimeout():g} s", remedy="see podd's log")

    def _stranger(self) -> PoddError:
        return Unavailable(f"{self._path}: who listens there does not speak Varlink", remedy=_WHICH_SOCKET)


_WHICH_SOCKET = "check --socket and PODD_SOCKET"


def _full_name(method: str) -> str:
    return method if "." in method else f"{INTERFACE}.{method}"


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _no_connection(path: str, exc: OSError) -> PoddError:
    if isinstance(exc, FileNotFoundError):
        return Unavailable(f"{path}: no such socket", remedy=f"start podd, or {_WHICH_SOCKET}")
    if isinstance(exc, ConnectionRefusedError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return Unavailable(f"{path}: not a socket", remedy=_WHICH_SOCKET)
        return Unavailable(f"{path}: nobody listens: podd has ended and left its socket", remedy="start podd")
    if isinstance(exc, PermissionError):
        return Denied(f"{path}: permission denied", remedy=f"run as root{_or_as_member(path)}")
    if isinstance(exc, BlockingIOError):
        return Unavailable(f"{path}: not let in within {_CONNECT_S} s: too many wait", remedy="try again later")
    return Unavailable(f"{path}: {exc.strerror or exc}", remedy=_WHICH_SOCKET)


def _or_as_member(path: str) -> str:
    """The group that may open the socket, or its directory where that is what is closed; "" where only root may."""
    for candidate in (path, os.path.dirname(path)):
        try:
            status = os.stat(candidate)
            if status.st_gid and status.st_mode & stat.S_IRGRP:
                return f", or as a member of group {grp.getgrgid(status.st_gid).gr_name}"
        except (OSError, KeyError):
            continue
    return ""
