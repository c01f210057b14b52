"""podd-cli port-forward: reach ports of a pod from this host.

The daemon hands out sockets that are connected inside the pod's network; the bytes are this process's business alone,
and go on flowing while podd is away.
"""

from __future__ import annotations

import select
import socket
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from typing import NamedTuple

from podd.cli import streams
from podd.cli.connect import connect
from podd.cli.status import Json, podd_status
from podd.cli.text import complain, note
from podd.cli.words import Usage, pod_name
from podd.control.client import Client, Reply
from podd.errors import Conflict, PoddError, Unavailable

LOCALHOST = ("127.0.0.1", "::1")
BACKLOG = 128
AWAY_S = 1.0  # until a daemon that is away is looked for again


def arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} POD [LOCAL:]REMOTE ... [options]"
    parser.epilog = "LOCAL left out, as in :80, or 0 is any that is free. REMOTE may be a port's name in the manifest."
    parser.add_argument("pod", metavar="POD", help="NAME, pod/NAME, or the beginning of a uid")
    parser.add_argument(
        "ports", nargs="+", metavar="[LOCAL:]REMOTE", help="a port here, and the pod's that it leads to"
    )
    parser.add_argument(
        "--address", default="localhost", metavar="A,...", help="addresses of this host to listen on (localhost)"
    )


def run(options: Namespace) -> int:
    wanted = [_pair(word) for word in options.ports]
    with connect(options) as podd:
        pod = podd.call("Get", {"name": pod_name(options.pod), "namespace": options.namespace})["pod"]
    pairs = [(local, _number(pod, remote)) for local, remote in wanted]
    with ExitStack() as undo:
        doors = [
            Door(undo.enter_context(listener), remote)
            for local, remote in pairs
            for listener in _listeners(options.address, local)
        ]
        for door in doors:
            print(f"Forwarding from {door.shown} -> {door.remote}", flush=True)
        _serve(options, pod, doors, undo.enter_context(closing(Watch(options, pod))))
    raise Unavailable(f"pod {pod['metadata']['name']}: has ended", remedy="there is nothing to forward to")


# ---- what was asked for ----------------------------------------------------------------------------------------------


def _pair(word: str) -> tuple[int, str]:
    """Of "8080:80", "80" or ":80": the port here, 0 for any, and the pod's. Raises Usage."""
    local, colon, remote = word.rpartition(":")
    number = _port(local or "0") if colon else _port(remote, names=True)
    if not remote or number is None:
        raise Usage(f"'{word}': write LOCAL:REMOTE as in 8080:80, or REMOTE")
    return number, remote


def _port(word: str, *, names: bool = False) -> int | None:
    """None: it is none. names: one that is given by its name alone takes any port here."""
    if not word.isascii() or not word.isdigit():
        return 0 if names and word else None
    return int(word) if int(word) < 2**16 else None


def _number(pod: Json, remote: str) -> int:
    """Raises Usage: the pod has no port of that name."""
    if remote.isdigit():
        if 1 <= int(remote) < 2**16:
            return int(remote)
        raise Usage(f"'{remote}': not a port: 1 to 65535 are")
    spec = pod["spec"]
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        for port in container.get("ports", ()):
            if port.get("name") == remote:
                return int(port["containerPort"])
    raise Usage(f"'{remote}': no container of pod {pod['metadata']['name']} has a port of this name")


class Door(NamedTuple):
    """Where this process listens, and the pod's port that lies behind."""

    listener: socket.socket
    remote: int

    @property
    def shown(self) -> str:
        host, port = self.listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listeners(addresses: str, port: int) -> Iterator[socket.socket]:
    """localhost is 127.0.0.1, and the same port of ::1 where that can be had. Raises Conflict."""
    for word in addresses.split(","):
        if word != "localhost":
            yield _listener(word, port)
            continue
        first = _listener(LOCALHOST[0], port)
        number = first.getsockname()[1]
        yield first
        with suppress(Conflict):
            yield _listener(LOCALHOST[1], number)


def _listener(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        made = socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise Conflict(
            f"{address} port {port}: {exc.strerror or exc}", remedy="give another LOCAL, or none as in :80"
        ) from exc
    made.setblocking(False)
    return made


# ---- until the pod ends ----------------------------------------------------------------------------------------------


def _serve(options: Namespace, pod: Json, doors: Sequence[Door], watch: Watch) -> None:
    """Return when the pod has ended."""
    by_number = {door.listener.fileno(): door for door in doors}
    while not watch.ended:
        poll = select.poll()
        for number in (*by_number, *watch.filenos):
            poll.register(number, select.POLLIN)
        ready = {number for number, _ in poll.poll(None if watch.filenos else AWAY_S * 1000)}
        if not watch.filenos or ready.intersection(watch.filenos):
            watch.look()
        for number in ready & by_number.keys():
            _let_in(options, pod, by_number[number])


class Watch:
    """Tells when the pod has ended. filenos: the one that is readable when there is news; none while podd is away."""

    def __init__(self, options: Namespace, pod: Json) -> None:
        self.ended = False
        self._options = options
        self._meta = pod["metadata"]
        self._seen = False
        self._client: Client | None = None
        self._changes: Iterator[Reply] = iter(())
        self._ask()

    @property
    def filenos(self) -> Sequence[int]:
        return () if self._client is None else (self._client.fileno(),)

    def look(self) -> None:
        """Take in what there is, or look for podd again."""
        try:
            if self._client is None:
                self._ask()
                note("podd is back")
            else:
                self._take(next(self._changes).parameters)
        except (PoddError, StopIteration):
            if self._client is not None:
                note("podd is away: connections go on, and there are no new ones until it is back")
            self.close()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None

    def _ask(self) -> None:
        client = connect(self._options)
        self._seen = False
        self._changes = client.call_more("Watch", {"namespace": self._meta["namespace"]})
        self._client = client

    def _take(self, change: Json) -> None:
        pod = change["pod"]
        if pod is None:
            self.ended = not self._seen  # that was all that is there
        elif pod["metadata"]["uid"] == self._meta["uid"]:
            self._seen = True
            self.ended = change["type"] == "DELETED" or _is_over(pod)


def _is_over(pod: Json) -> bool:
    """It does not run, and does not come back by itself."""
    ours = podd_status(pod)
    has_ended = pod["status"].get("phase") in ("Succeeded", "Failed") or ours.get("wanted", "Running") != "Running"
    return has_ended and not ours.get("sandboxId")


# ---- connections -----------------------------------------------------------------------------------------------------


def _let_in(options: Namespace, pod: Json, door: Door) -> None:
    try:
        local, _ = door.listener.accept()
    except (BlockingIOError, ConnectionAbortedError):  # who knocked has left
        return
    note(f"Handling connection for {door.listener.getsockname()[1]}")
    threading.Thread(target=_handle, args=(options, pod, door.remote, local), daemon=True).start()


def _handle(options: Namespace, pod: Json, port: int, local: socket.socket) -> None:
    """One connection, from its beginning to its end."""
    with local:
        try:
            with connect(options) as podd:
                answer, fds = podd.call_fds("Forward", {"name": pod["metadata"]["uid"], "port": port})
        except PoddError as refusal:
            complain(str(refusal))
            return
        with socket.socket(fileno=fds[answer["fd"]]) as remote:
            relay(local, remote)


class _Way(streams.Outlet):
    """What is written to a connection: its end is told, while what comes from there may go on."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.fileno())
        self._sock = sock

    def close(self) -> None:
        if not self.gone:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        super().close()


def relay(one: socket.socket, other: socket.socket) -> None:
    """Both ways until both have ended."""
    inlets = []
    for source, sink in ((one, _Way(other)), (other, _Way(one))):
        source.setblocking(False)
        inlets.append(streams.Inlet(source.fileno(), _feeding(sink), [sink]))
    while not all(inlet.done and all(sink.gone for sink in inlet.outlets) for inlet in inlets):
        streams.turn(inlets)


def _feeding(sink: streams.Outlet) -> Callable[[bytes], None]:
    return lambda data: sink.put(data) if data else sink.end()
