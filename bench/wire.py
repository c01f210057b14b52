"""The barest client of the control socket: what it costs itself stays out of the figures."""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Self


class Wire:
    """One connection that stays open."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.connect(path)
        except OSError:
            self._sock.close()
            raise
        self._data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.send(encode(method, parameters))
        return self.receive()

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self._sock.sendmsg([message], rights)
        self._sock.sendall(message[sent:])

    def receive(self) -> dict[str, Any]:
        """The parameters of the last reply to what was sent. Raises RuntimeError: it was refused."""
        while True:
            while b"\0" not in self._data:
                got = self._sock.recv(1 << 20)
                if not got:
                    raise RuntimeError("podd closed the connection")
                self._data += got
            message, _, self._data = self._data.partition(b"\0")
            reply = json.loads(message)
            if "error" in reply:
                raise RuntimeError(f"{reply['error']}: {reply['parameters']}")
            if not reply.get("continues"):
                return dict(reply["parameters"])


def encode(method: str, parameters: Mapping[str, Any], *, more: bool = False) -> bytes:
    call = {"method": f"io.podd.{method}", "parameters": parameters, "more": more}
    return json.dumps(call).encode() + b"\0"


def null_stdio() -> list[int]:
    """stdin, stdout and stderr for an exec; the caller closes them."""
    return [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) for _ in range(3)]
