"""A daemon of canned answers: it speaks the wire from threads, and remembers what it was asked."""

from __future__ import annotations

import array
import json
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass
class Call:
    """What the client sent. fds: closed by the daemon after the last answer."""

    method: str
    parameters: Json
    more: bool
    fds: list[int]
    connection: socket.socket


@dataclass
class Answer:
    """fds go with it, and are closed when it is sent."""

    parameters: Json = field(default_factory=dict)
    fds: Sequence[int] = ()


class Refusal(Exception):
    """An error of io.podd as the answer."""

    def __init__(self, kind: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.wire = {"error": f"io.podd.{kind}", "parameters": {"message": message, "remedy": remedy, "facts": {}}}


Handler = Callable[[Call], Iterable[Answer | Json] | Json]


class FakeDaemon:
    """answers: by the method's last word, a handler: it gives one answer, or several for a call with "more"."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answers: dict[str, Handler] = {}
        self.calls: list[Call] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        self._threads: list[threading.Thread] = []

    def asked(self, method: str) -> list[Json]:
        """The parameters of every call of that method, without nulls."""
        return [
            {key: value for key, value in call.parameters.items() if value is not None}
            for call in self.calls
            if call.method == method
        ]

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self.listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while call := _receive(connection):
                self.calls.append(call)
                try:
                    for message, fds in self._answers(call):
                        _send(connection, message, fds)
                except OSError:
                    return  # the client has left
                finally:
                    for fd in call.fds:
                        os.close(fd)

    def _answers(self, call: Call) -> Iterator[tuple[Json, Sequence[int]]]:
        """Each answer is sent as soon as the next one, or the end, is known to follow."""
        try:
            given = self.answers[call.method](call)
            if isinstance(given, dict):
                yield {"parameters": given}, ()
                return
            waiting: Answer | None = None
            for item in given:
                answer = item if isinstance(item, Answer) else Answer(item)
                if item is NOW:
                    assert waiting is not None
                    yield {"parameters": waiting.parameters, "continues": True}, waiting.fds
                    waiting = None
                    continue
                if waiting is not None:
                    yield {"parameters": waiting.parameters, "continues": True}, waiting.fds
                waiting = answer
            assert waiting is not None, "the last answer of a call has no continues"
            yield {"parameters": waiting.parameters}, waiting.fds
        except Refusal as refusal:
            yield refusal.wire, ()


NOW = Answer()
"""Yielded after an answer: send it before going on, as one that others follow."""


def _receive(connection: socket.socket) -> Call | None:
    data = b""
    fds = array.array("i")
    while not data.endswith(b"\0"):
        try:
            part, ancillary, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(64))
        except ConnectionResetError:
            return None
        if not part:
            return None
        data += part
        for _, _, payload in ancillary:
            fds.frombytes(payload)
    message = json.loads(data[:-1])
    method = message["method"].rpartition(".")[2]
    return Call(method, message.get("parameters", {}), bool(message.get("more")), list(fds), connection)


def _send(connection: socket.socket, message: Json, fds: Sequence[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        connection.sendmsg([json.dumps(message).encode() + b"\0"], rights)
    finally:
        for fd in fds:
            os.close(fd)


@contextmanager
def fake_daemon(path: Path) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(path)
    try:
        yield daemon
    finally:
        daemon.close()
