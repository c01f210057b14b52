"""The warm parent of all shims: an isolated interpreter that has imported everything, forks, and does nothing else.

The daemon's side starts it by exec (`podd.shim.launch`), because a daemon has threads and memory that a shim must not
have. It ends when its channel closes; the shims go on, as children of the host's init.

All that it has imported is shared by every shim, for as long as nobody writes to it. A page that the zygote writes to
after a fork is a page that the shim has for itself from then on. Hence the garbage collector is told to leave alone
what there is, and each request is judged and answered by a fork: the zygote only ever reads bytes, forks and reaps.
"""

from __future__ import annotations

import array
import gc
import os
import select
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from podd.errors import Invalid
from podd.linux.cgroup import Layout
from podd.linux.syscalls import Prctl, close_all_but, prctl, signal_descriptor
from podd.shim import stage
from podd.shim.attendant import attend
from podd.shim.keeper import PEER, ZYGOTE, Keeper
from podd.shim.nowhere import nowhere
from podd.shim.plan import MAX_MESSAGE
from podd.shim.sweep import sweep
from podd.shim.title import Title
from podd.shim.wire import HEADER_BYTES, MAX_DESCRIPTORS, decode, error_of, send_once

STDIO = (0, 1, 2)
CHANNEL, TERMINATED = 3, 4
"""The zygote's own descriptors, below all that is opened later. The second is readable when SIGTERM has come."""

LAST_FD = 2**31 - 1
IGNORED = (signal.SIGINT, signal.SIGHUP)
"""What the terminal of whoever started podd may send."""

_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
_RECEIVE_FLAGS = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_WAITALL)


def main(channel: int) -> None:
    """Serve the daemon's side on this descriptor until it closes."""
    gc.disable()
    os.dup2(channel, CHANNEL)
    os.closerange(TERMINATED, LAST_FD)
    os.dup2(signal_descriptor(signal.SIGTERM), TERMINATED)
    os.chdir("/")
    os.umask(0o022)
    prctl(Prctl.SET_DUMPABLE, 0)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    stage.warm()
    zygote = Zygote(socket.socket(fileno=CHANNEL))
    gc.collect()
    filler = _fill_holes()
    gc.freeze()
    zygote.serve()
    del filler


def _fill_holes() -> list[bytes]:
    """Objects of no use, in every gap that the allocator would give to forks on pages that they share.

    So what a fork makes lies side by side on pages of its own, and it does not copy a page for every few objects. The
    allocator has pools for each size; neighbours that come one after the other show that a pool is new.
    """
    filler: list[bytes] = []
    for size in range(48, _LARGEST + 1, 16):
        run = last = 0
        for _ in range(_MOST_GAPS):
            filler.append(block := bytes(size - _BYTES_HEADER))
            run = run + 1 if id(block) == last + size else 0
            last = id(block)
            if run >= _POOL // size // 2:
                break
    return filler


_POOL, _LARGEST, _BYTES_HEADER = 16 * 1024, 512, 33
"""Bytes of a pool, and of the largest object in one; what a bytes object has beside its content. Source: obmalloc.c."""

_MOST_GAPS = 4096
"""Of one size: more are not looked for."""


class Zygote:
    def __init__(self, channel: socket.socket) -> None:
        """channel: owned."""
        self._channel = channel
        self._layout = Layout.detect()
        self._title = Title()
        self._title.set("podd-zygote", "podd-zygote")
        self._keeper = Keeper(self._title)

    def serve(self) -> None:
        """Fork for each request. Returns when the channel has closed, or does not speak the protocol."""
        poll = select.poll()
        poll.register(CHANNEL, select.POLLIN)
        poll.register(TERMINATED, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd > TERMINATED:
                    os.waitid(os.P_PIDFD, fd, os.WEXITED)
                    poll.unregister(fd)
                    os.close(fd)
                elif fd == CHANNEL and (pidfd := self._fork()) >= 0:
                    poll.register(pidfd, select.POLLIN)
                else:
                    return

    def _fork(self) -> int:
        """Read a request and fork for it: the pidfd of the fork, or -1 at the end."""
        channel = self._channel
        header, ancillary, _, _ = channel.recvmsg(HEADER_BYTES, _ANCILLARY_BYTES, _RECEIVE_FLAGS)
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data)
        size = int.from_bytes(header, "big")
        body = channel.recv(size, _RECEIVE_FLAGS) if len(header) == HEADER_BYTES and size <= MAX_MESSAGE else b""
        if len(body) < max(size, 1):
            return -1
        pid = os.fork()
        if pid == 0:
            _exit_after(lambda: self._be_keeper(body, fds) if fds else self._be_sweeper(body))
        for fd in fds:
            os.close(fd)
        return os.pidfd_open(pid)

    def _be_keeper(self, body: bytes, fds: array.array[int]) -> None:
        """What a shim does first, as little as can be: its attendant judges and answers the request."""
        os.setsid()
        gc.enable()
        first = fds[0]
        close_all_but({*STDIO, CHANNEL, TERMINATED, nowhere(), first})
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in STDIO:
            os.dup2(null, fd)
        os.close(null)
        kept = {f"{PEER}0": first, ZYGOTE: CHANNEL}
        self._keeper.run(partial(attend, body, self._layout), kept, TERMINATED)

    def _be_sweeper(self, body: bytes) -> None:
        os.setsid()
        os.closerange(TERMINATED + 1, LAST_FD)
        number = -1
        try:
            request = decode(body)
            number, verb = request["id"], request["verb"]
            if verb != "sweep":
                raise Invalid(f"request: verb {verb!r} without descriptors: not known")
            plan = request["args"]["sandbox"]
            self._title.set("podd-sweep", f"podd-sweep: {plan['id']}")
            sweep(plan)
            send_once(self._channel, {"id": number, "ok": {}})
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is the answer
            send_once(self._channel, {"id": number, "error": error_of(exc)})


def _exit_after(life: Callable[[], None]) -> NoReturn:
    """Run a fork's whole life, so that it never returns into its parent's code."""
    status = 1
    try:
        life()
        status = 0
    finally:
        os._exit(status)
