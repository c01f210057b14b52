"""The warm parent of all shims: an isolated interpreter that has imported everything, forks, and does nothing else.

The daemon's side starts it by exec (`podd.shim.launch`), because a daemon has threads and memory that a shim must not
have. It ends when its channel closes; the shims go on, as children of the host's init.

All that it has imported is shared by every shim, for as long as nobody writes to it. A page that the zygote writes to
after a fork is a page that the shim has for itself from then on. Hence the garbage collector is told to leave alone
what there is, and each request is read, judged and answered by a fork: the zygote only ever reads bytes and forks.
"""

from __future__ import annotations

import array
import gc
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from podd.errors import Invalid
from podd.linux.cgroup import Layout
from podd.linux.process import starttime_ticks
from podd.linux.syscalls import Prctl, close_all_but, prctl
from podd.shim import stage, supervisor
from podd.shim.plan import MAX_MESSAGE
from podd.shim.sweep import sweep
from podd.shim.wire import HEADER_BYTES, MAX_DESCRIPTORS, Descriptors, decode, encode, error_of

STDIO = (0, 1, 2)
LAST_FD = 2**31 - 1
IGNORED = (signal.SIGINT, signal.SIGHUP)
"""What the terminal of whoever started podd may send."""

_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
_RECEIVE_FLAGS = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_WAITALL)


def main(channel: int) -> None:
    """Serve the daemon's side on this descriptor until it closes."""
    gc.disable()
    close_all_but({*STDIO, channel})
    os.chdir("/")
    os.umask(0o022)
    prctl(Prctl.SET_DUMPABLE, 0)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps; nothing has to wake up for it
    stage.warm()
    zygote = Zygote(socket.socket(fileno=channel))
    gc.collect()
    gc.freeze()
    zygote.serve()


class Zygote:
    def __init__(self, channel: socket.socket) -> None:
        """channel: owned."""
        self._channel = channel
        self._layout = Layout.detect()
        self._title = Title()
        self._title.set("podd-zygote", "podd-zygote")
        starttime_ticks(os.getpid())
        decode(encode({"id": 0, "text": "", "number": 0.5, "list": [None, True]})[HEADER_BYTES:])

    def serve(self) -> None:
        """Fork for each request. Returns when the channel has closed, or does not speak the protocol."""
        channel = self._channel
        while True:
            header, ancillary, _, _ = channel.recvmsg(HEADER_BYTES, _ANCILLARY_BYTES, _RECEIVE_FLAGS)
            fds = array.array("i")
            for _, _, data in ancillary:
                fds.frombytes(data)
            size = int.from_bytes(header, "big")
            body = channel.recv(size, _RECEIVE_FLAGS) if len(header) == HEADER_BYTES and size <= MAX_MESSAGE else b""
            if len(body) < max(size, 1):
                return
            if os.fork() == 0:
                _exit_after(lambda body=body, fds=fds: self._answer(body, Descriptors(fds)))  # type: ignore[misc]
            for fd in fds:
                os.close(fd)

    def _answer(self, body: bytes, fds: Descriptors) -> None:
        """The whole life of a fork: it is the answer, a shim or a sweep."""
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.enable()
        number = -1
        try:
            request = decode(body)
            number, verb, plan = request["id"], request["verb"], request["args"]["sandbox"]
            if verb == "sweep":
                self._sweep(plan)
                self._send({"id": number, "ok": {}})
            elif verb == "fork" and len(fds) == 1:
                self._be_shim(number, plan, fds.take()[0])
            else:
                raise Invalid(f"request: verb {verb!r} with {len(fds)} descriptors: not known")
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is the answer
            self._send({"id": number, "error": error_of(exc)})

    def _send(self, message: dict[str, Any], fd: int = -1) -> None:
        """One sendmsg(2), so that the answers of several forks do not mix."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        self._channel.sendmsg([encode(message)], ancillary, socket.MSG_NOSIGNAL)

    def _sweep(self, plan: Any) -> None:
        os.closerange(self._channel.fileno() + 1, LAST_FD)
        self._title.set("podd-sweep", f"podd-sweep: {plan['id']}")
        sweep(plan)

    def _be_shim(self, number: int, plan: Any, first: int) -> None:
        pid = os.getpid()
        pidfd = os.pidfd_open(pid)
        self._send({"id": number, "ok": {"pid": pid, "starttime_ticks": starttime_ticks(pid)}}, pidfd)
        os.close(pidfd)
        self._channel.close()
        os.closerange(STDIO[-1] + 1, first)
        os.closerange(first + 1, LAST_FD)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in STDIO:
            os.dup2(null, fd)
        os.close(null)
        meta = plan["meta"]
        name = meta.get("name", "")
        self._title.set(f"podd-shim {name}", f"podd-shim: {meta.get('namespace', '')}/{name} ({plan['id']})")
        supervisor.run(socket.socket(fileno=first), plan, self._layout)


class Title:
    """What ps and top show of a process: found once, by whoever was started by exec, and set by it and its forks.

    Source of the place of the arguments: proc_pid_stat(5), fields 48 and 49.
    """

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
        self._start = int(fields[45])
        self._room = int(fields[46]) - self._start

    def set(self, comm: str, command_line: str) -> None:
        """comm: cut to 15 bytes. command_line: cut to the length of the arguments that the process began with."""
        text = command_line.encode()[: self._room - 1].ljust(self._room, b"\0")
        for path, place, data in (("/proc/self/comm", 0, comm.encode()[:15]), ("/proc/self/mem", self._start, text)):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            if place:
                os.lseek(fd, place, os.SEEK_SET)
            os.write(fd, data)
            os.close(fd)


def _exit_after(life: Callable[[], None]) -> NoReturn:
    """Run a fork's whole life, so that it never returns into its parent's code."""
    status = 1
    try:
        life()
        status = 0
    finally:
        os._exit(status)
