"""The warm parent of all shims: an isolated interpreter that has imported everything, forks, and does nothing else.

The daemon's side starts it by exec (`podd.shim.launch`), because a daemon has threads and memory that a shim must not
have. It ends when its channel closes; the shims go on, as children of the host's init. What it has imported is shared
by all of them as long as nobody writes to it, so the garbage collector is told to leave it alone.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
from typing import Any, NoReturn

from podd.errors import Invalid
from podd.linux.cgroup import Layout
from podd.linux.process import identity
from podd.linux.syscalls import Prctl, close_all_but, prctl
from podd.shim import stage, supervisor
from podd.shim.loop import Loop
from podd.shim.peers import Answer, Peers
from podd.shim.plan import SandboxPlan
from podd.shim.processes import Child
from podd.shim.sweep import sweep
from podd.shim.wire import Descriptors, encode, error_from, error_of

STDIO = (0, 1, 2)


def main(channel: int) -> None:
    """Serve the daemon's side on this descriptor until it closes."""
    gc.disable()
    _isolate(channel)
    _warm()
    gc.enable()
    Zygote(socket.socket(fileno=channel)).serve()


def _isolate(channel: int) -> None:
    """Keep nothing of whoever started this process but the channel and its stderr, and let nobody look in."""
    close_all_but({*STDIO, channel})
    os.chdir("/")
    os.umask(0o022)
    prctl(Prctl.SET_DUMPABLE, 0)
    for number in (signal.SIGINT, signal.SIGHUP):  # of the daemon's terminal
        signal.signal(number, signal.SIG_IGN)
    set_title("podd-zygote", "podd-zygote")


def _warm() -> None:
    """Do once what every shim does, for what it imports and caches; then freeze all there is."""
    stage.warm()
    identity(os.getpid())
    json.loads(encode({"id": 0, "text": "", "number": 0.5, "list": [None, True]})[4:])
    gc.collect()
    gc.freeze()


class Zygote:
    def __init__(self, channel: socket.socket) -> None:
        self._layout = Layout.detect()
        self._loop = Loop(_raise)
        self._channel = channel
        self._peers = Peers(self._loop, {"fork": self._fork, "sweep": self._sweep})

    def serve(self) -> None:
        self._loop.run(self._peers.adopt(self._channel).closed)

    async def _fork(self, args: dict[str, Any], fds: Descriptors) -> Answer:
        plan: SandboxPlan = args["sandbox"]
        if len(fds) != 1:
            raise Invalid(f"fork: {len(fds)} descriptors: the shim's first connection is needed, and nothing else")
        (first,) = given = fds.take()
        pid = os.fork()
        if pid == 0:
            _exit_after(lambda: self._be_shim(plan, first))
        Descriptors(given).close()
        child = Child(self._loop, pid)
        return {"pid": pid, "starttime_ticks": child.starttime_ticks}, [os.dup(child.pidfd)]

    async def _sweep(self, args: dict[str, Any], _fds: Descriptors) -> Answer:
        result, theirs = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            _exit_after(lambda: self._be_sweeper(args["sandbox"], theirs))
        os.close(theirs)
        child = Child(self._loop, pid)
        try:
            await self._loop.ready(result)
            error = json.loads(os.read(result, 65536) or b'{"message": "sweep: it was killed", "kind": "Unavailable"}')
        finally:
            os.close(result)
        await child.ended
        if error:
            raise error_from(error)
        return {}, []

    def _be_shim(self, plan: SandboxPlan, first: int) -> None:
        self._leave(first)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in STDIO:
            os.dup2(null, fd)
        os.close(null)
        meta = plan.get("meta", {})
        name = meta.get("name", "")
        set_title(f"podd-shim {name}", f"podd-shim: {meta.get('namespace', '')}/{name} ({plan['id']})")
        supervisor.run(socket.socket(fileno=first), plan, self._layout)

    def _be_sweeper(self, plan: Any, result: int) -> None:
        self._leave(result)
        set_title("podd-sweep", f"podd-sweep: {plan['id']}")
        try:
            sweep(plan)
        except Exception as exc:  # noqa: BLE001 - the zygote passes it on
            os.write(result, json.dumps(error_of(exc)).encode()[:65536])
        else:
            os.write(result, b"{}")

    def _leave(self, keep: int) -> None:
        """In a child: hold nothing of the zygote's. Its objects stay, unused, so that none closes a number twice."""
        close_all_but({*STDIO, keep})
        os.setsid()
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _exit_after(child: Any) -> NoReturn:
    """Run a child's whole life, so that it never returns into its parent's code."""
    status = 1
    try:
        child()
        status = 0
    finally:
        os._exit(status)


def set_title(comm: str, command_line: str) -> None:
    """What ps and top show of this process.

    comm: cut to 15 bytes. command_line: written over the arguments that the process was started with, and cut to their
    length. Source: proc_pid_stat(5), fields 48 and 49.
    """
    with open("/proc/self/comm", "wb", buffering=0) as file:
        file.write(comm.encode()[:15])
    with open("/proc/self/stat", "rb", buffering=0) as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    room = end - start
    text = command_line.encode()[: room - 1]
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(text.ljust(room, b"\0"))


def _raise(exc: Exception) -> None:
    raise exc
