"""podd-cli attach: connect to the main process of a container.

Frames on the socket: 1 byte stream, 4 bytes length (big endian), payload; see Attach in io.podd.
"""

from __future__ import annotations

import os
import struct
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import ExitStack, suppress

from podd.cli import streams, terminal
from podd.cli.connect import connect
from podd.cli.status import Json, all_statuses
from podd.cli.streams import Inlet, Outlet
from podd.cli.text import complain, note
from podd.cli.words import EXIT_INTERRUPTED, pod_name
from podd.control.errors import EXIT_DONE
from podd.errors import PoddError

HEADER = struct.Struct(">BI")
INPUT, STDOUT, STDERR, SIZE = range(4)

CTRL_P, CTRL_Q = b"\x10", b"\x11"
SETTLE_S = 5.0  # how long the daemon may take to know of an end that we have seen


def arguments(parser: ArgumentParser) -> None:
    parser.epilog = "ctrl-c detaches; from a terminal with -i, ctrl-p ctrl-q does. The container runs on."
    parser.add_argument("pod", metavar="POD", help="NAME, pod/NAME, or the beginning of a uid")
    parser.add_argument("-c", "--container", metavar="C", help="which one, in a pod of several")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass our standard input on")


def run(options: Namespace) -> int:
    with connect(options) as podd, ExitStack() as undo:
        pod = podd.call("Get", {"name": pod_name(options.pod), "namespace": options.namespace})["pod"]
        asked = {"name": pod["metadata"]["uid"], "container": options.container, "stdin": options.stdin}
        answer, fds = podd.call_fds("Attach", asked)
        connection = fds[answer["fd"]]
        undo.callback(os.close, connection)
        os.set_blocking(connection, False)
        status = _run_session(_Session(connection, undo, stdin=options.stdin, tty=answer["tty"]))
    if status is not None:
        note("detached: the container runs on")
        return status
    return _exit_status(options, pod, answer["container"])


def _run_session(session: _Session) -> int | None:
    """Our own exit status when the user detached; None when the container ended the connection."""
    try:
        return EXIT_DONE if session.run() else None
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


class _Session:
    def __init__(self, connection: int, undo: ExitStack, *, stdin: bool, tty: bool) -> None:
        self._to_container = Outlet(connection)
        self._detached = False
        self._stdout = Outlet(1)
        demultiplexer = Demultiplexer(self._stdout, Outlet(2))
        self._output = Inlet(connection, demultiplexer.feed, demultiplexer.outlets)
        self._inlets = [self._output]
        at_terminal = tty and os.isatty(0)
        if at_terminal:
            self._inlets.append(self._sizes(undo))
        if stdin and at_terminal:
            undo.enter_context(terminal.raw(0))
            self._inlets.append(Inlet(0, self._keys(), [self._to_container]))
        elif stdin:
            self._inlets.append(Inlet(0, self._input, [self._to_container]))

    def run(self) -> bool:
        """Until the container's output ends, or the keys are typed. Returns whether they were.

        Raises BrokenPipeError: the reader of our output has gone.
        """
        while not self._output.done and not self._detached:
            streams.turn(self._inlets)
            if self._stdout.gone:
                raise BrokenPipeError
        streams.drain([self._output] if self._output.done else [])
        return self._detached

    def _input(self, data: bytes) -> None:
        self._to_container.put(frame(INPUT, data))

    def _keys(self) -> Callable[[bytes], None]:
        """Input but for the keys that detach: ctrl-p waits for the next key, which is ctrl-q or goes on with it."""
        held = b""

        def feed(data: bytes) -> None:
            nonlocal held
            before, found, _ = (held + data).partition(CTRL_P + CTRL_Q)
            self._detached = bool(found)
            held = CTRL_P if data and not found and before.endswith(CTRL_P) else b""
            going = before.removesuffix(held)
            if going:
                self._input(going)
            if not data:
                self._input(b"")

        return feed

    def _sizes(self, undo: ExitStack) -> Inlet:
        """Sizes go out between frames, never inside one: the signal only wakes the loop, by a pipe to ourselves."""
        wake, waker = os.pipe()
        undo.callback(os.close, wake)
        undo.callback(os.close, waker)
        os.set_blocking(waker, False)

        def send(_: bytes) -> None:
            rows, columns, _x, _y = struct.unpack("4H", terminal.size(0))
            self._to_container.put(frame(SIZE, struct.pack(">HH", rows, columns)))

        undo.enter_context(terminal.resized(lambda: _wake(waker)))
        return Inlet(wake, send, [self._to_container])


def _wake(waker: int) -> None:
    with suppress(BlockingIOError):  # it is awake already
        os.write(waker, b"!")


def frame(stream: int, payload: bytes) -> bytes:
    return HEADER.pack(stream, len(payload)) + payload


class Demultiplexer:
    """Sorts a container's frames to stdout and stderr."""

    def __init__(self, stdout: Outlet, stderr: Outlet) -> None:
        self.outlets = [stdout, stderr]
        self._rest = b""

    def feed(self, data: bytes) -> None:
        rest, begin = self._rest + data, 0
        while len(rest) >= begin + HEADER.size:
            stream, length = HEADER.unpack_from(rest, begin)
            payload = begin + HEADER.size
            if len(rest) < payload + length:
                break
            self.outlets[stream == STDERR].put(rest[payload : payload + length])
            begin = payload + length
        self._rest = rest[begin:]


# ---- how it ended ----------------------------------------------------------------------------------------------------


def _exit_status(options: Namespace, pod: Json, container: str) -> int:
    """The exit code of the instance that we were attached to, once the daemon knows it."""
    instance = _instance(_status_of(pod, container))
    try:
        with connect(options, timeout_s=SETTLE_S) as podd:
            for change, _ in podd.call_more("Watch", {"namespace": pod["metadata"]["namespace"]}):
                now = change.get("pod")
                if now is None or now["metadata"]["uid"] != pod["metadata"]["uid"]:
                    continue
                if (code := _code(_status_of(now, container), instance)) is not None:
                    return code
    except PoddError:
        pass
    return complain(f"container {container}: detached: its output was read too slowly, or its end is not known")


def _status_of(pod: Json, container: str) -> Json:
    return next((c for c in all_statuses(pod) if c["name"] == container), {})


def _code(status: Json, instance: str) -> int | None:
    for state in (status.get("state", {}), status.get("lastState", {})):
        ended = state.get("terminated")
        if ended and _instance(ended) == instance:
            code: int = ended["exitCode"]
            return code
    return None


def _instance(owner: Json) -> str:
    """A container's id without the driver before it: "setns://0123" or "0123"."""
    return str(owner.get("containerID", "")).rpartition("/")[2]
