"""The keeper: the process that stays with a pod, as parent of all that runs in it and reader of its output.

It knows no plans and decides nothing. When something asks for a decision (a request, the end of a process) it forks an
attendant (`podd.shim.attendant`), which lives until there is nothing more to do and gives into keeping what the next
one needs. So the memory that stays with a pod is that of a short loop, and a mistake in the attendant costs no pod.

Between them runs a socketpair of packets. From the attendant, words of ASCII and descriptors:
    child PID                      reap it, and tell how it ended until that is forgotten
    forget PID                     it is known now
    keep NAME + 1                  hold it for the next attendant; one that begins with WAKE calls for one when readable
    listen + 1                     keep as LISTENER, and be the one who listens as far as peers can see (SO_PEERCRED)
    drop NAME                      close it
    container ID TTY ONCE MAX_BYTES MAX_FILES PATH + reports, hold, and stdout, stderr and perhaps stdin, or a master
                                   keep "reports/ID" and "hold/ID"; read the output into the log at PATH, which is the
                                   rest of the packet, empty for no log
    attach ID INPUT + 1            give this socket the output and, where INPUT is 1, the container its input
    abandon ID                     end reading and attachments
    adopt                          be the parent of what loses its own below here, and reap what nobody asks for:
                                   answered when it is
    title COMM <tab> TEXT          be shown so by ps
    park COUNT                     COUNT packets were handled, and there is nothing more to do: answered by end of file
    exit                           end the keeper
To the attendant:
    ended PID CODE SIGNAL NS       NS: CLOCK_REALTIME when it was reaped
    adopting                       see above
    drained ID                     all output has been read, and the log is closed
    leave                          the keeper was told to end, and may when all containers have
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import time
from collections.abc import Callable
from signal import SIGCHLD, SIGKILL

from podd.linux.syscalls import Prctl, prctl, signal_descriptor
from podd.shim.attach import Hub, Input
from podd.shim.logs import Log
from podd.shim.loop import READABLE, Later, Loop
from podd.shim.output import Output
from podd.shim.processes import children
from podd.shim.title import Title

WAKE = "wake/"
PEER, LISTENER = f"{WAKE}peer/", f"{WAKE}listener"
ZYGOTE = "zygote"  # whom the first attendant tells that there is a shim
MAX_PACKET = 64 * 1024
MAX_DESCRIPTORS = 5
REST_S = 1.0
"""How long after an attendant that has failed the next one may begin."""

MAX_FAILURES = 3
"""Attendants in a row that may fail."""

_SIGNALS_BYTES = 4096
_SEND_FLAGS = int(socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
_RECEIVE_FLAGS = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)


class Keeper:
    """What an attendant finds when it begins: `kept`, `children`, `ended` and `outputs`, inherited by the fork."""

    def __init__(self, title: Title) -> None:
        """Made once, by the zygote, for all keepers: what each of them need not make is memory that they share."""
        self.loop = Loop(_ignore)
        self._title = title
        self.kept: dict[str, int] = {}  # descriptor by name
        self.children: dict[int, int] = {}  # pidfd by pid
        self.ended: dict[int, bytes] = {}  # the packet that tells of it by pid, until it is forgotten
        self.outputs: dict[str, Output] = {}  # by container
        self.calls = 0
        self.is_leaving = False
        self.adopts = False
        self._attend: Callable[[Keeper, socket.socket], None]
        self._attendant = 0
        self._attendants: set[int] = set()  # that were not reaped
        self._channel: socket.socket | None = None
        self._told = 0
        self._rests = False
        self._failures = 0
        self._done: Later[None] = Later()
        self._verbs: dict[bytes, Callable[[str, list[int]], None]] = {
            b"child": self._child,
            b"forget": self._forget,
            b"keep": self._keep,
            b"listen": self._be_listener,
            b"drop": self._drop,
            b"container": self._container,
            b"attach": self._attach,
            b"abandon": self._abandon,
            b"adopt": self._adopt,
            b"title": self._set_title,
            b"park": self._park,
            b"exit": self._exit,
        }

    def run(self, attend: Callable[[Keeper, socket.socket], None], kept: dict[str, int], terminated: int) -> None:
        """Until an attendant says "exit".

        attend: the whole life of an attendant, called in a fork with the keeper as it was and the channel to it.
        terminated: readable when SIGTERM has come.
        """
        self.loop.open()
        self.loop.watch(terminated, READABLE, lambda _: self._leave_when_possible(terminated))
        self._attend = attend
        self.kept.update(kept)
        self._call(0)
        self._drop(ZYGOTE, [])  # the first attendant has it now, who answers
        self.loop.run(self._done)

    # ---- the attendant -----------------------------------------------------------------------------------------------

    def _call(self, _events: int) -> None:
        """Have an attendant."""
        if self._channel is not None:
            return
        self.calls += 1
        for fd in self._wakers():
            self.loop.forget(fd)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            self._attend(self, theirs)
        theirs.close()
        self._attendant, self._channel, self._told = pid, ours, 0
        self._attendants.add(pid)
        self.loop.watch(ours.fileno(), READABLE, self._hear)
        pidfd = os.pidfd_open(pid)
        self.loop.watch(pidfd, READABLE, lambda _: self._part(pid, pidfd, ours))

    def _hear(self, _events: int) -> None:
        """One packet; at the end of file, wait for the pidfd to tell more."""
        channel = self._channel
        assert channel is not None
        try:
            data, ancillary, _, _ = channel.recvmsg(MAX_PACKET, _ANCILLARY_BYTES, _RECEIVE_FLAGS)
        except ConnectionResetError:
            return  # it ended without hearing everything; what it said itself can still be read
        if data:
            fds = array.array("i")
            for _, _, raw in ancillary:
                fds.frombytes(raw)
            verb, _, rest = data.partition(b" ")
            self._verbs[verb](rest.decode("utf-8", "surrogateescape"), fds.tolist())
        else:
            self.loop.forget(channel.fileno())

    def _tell(self, packet: bytes) -> None:
        """To one that has ended: nothing. The next one finds what it has missed."""
        if self._channel is None:
            return
        self._told += 1
        try:
            self._channel.send(packet, _SEND_FLAGS)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except BlockingIOError:  # it has not listened for hundreds of packets; the keeper never waits
            os.kill(self._attendant, SIGKILL)

    def _park(self, count: str, _fds: list[int]) -> None:
        if int(count) == self._told:
            self._failures = 0
            self._part_from()
            self._listen()
            if self.adopts:
                self._reap_strays()

    def _part(self, pid: int, pidfd: int, channel: socket.socket) -> None:
        """An attendant has ended: as agreed, or it has failed."""
        if self._channel is channel and self.loop.watches(channel.fileno()):
            return  # its last packets first
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        self._attendants.discard(pid)
        self.loop.forget(pidfd)
        os.close(pidfd)
        if self._channel is channel:
            self._part_from()
            for name in [name for name in self.kept if name.startswith(PEER)]:
                self._drop(name, [])  # who waits for an answer shall not wait for ever
            self._failures += 1
            if self._failures == MAX_FAILURES:  # nobody supervises this pod any more: better it ends, and is seen to
                self._done.set(None)
            self._rests = True
            self.loop.after(REST_S, self._call_again)

    def _leave_when_possible(self, terminated: int) -> None:
        self.loop.forget(terminated)
        self.is_leaving = True
        self._tell(b"leave")
        if not self._rests:
            self._call(0)

    def _part_from(self) -> None:
        assert self._channel is not None
        self.loop.forget(self._channel.fileno())
        self._channel.close()
        self._channel = None

    def _call_again(self) -> None:
        """After a failure: what the last attendant has begun is to be finished or undone."""
        self._rests = False
        self._call(0)

    def _listen(self) -> None:
        """Without an attendant: see what calls for one."""
        for fd in self._wakers():
            self.loop.watch(fd, READABLE, self._call)

    def _wakers(self) -> list[int]:
        return [fd for name, fd in self.kept.items() if name.startswith(WAKE)]

    # ---- what it asks ------------------------------------------------------------------------------------------------

    def _child(self, pid_word: str, _fds: list[int]) -> None:
        pid = int(pid_word)
        self.children[pid] = pidfd = os.pidfd_open(pid)
        self.loop.watch(pidfd, READABLE, lambda _: self._reap(pid, pidfd))

    def _reap(self, pid: int, pidfd: int) -> None:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        if result is None:
            return
        self.loop.forget(pidfd)
        os.close(pidfd)
        del self.children[pid]
        code, signal = result.si_status, 0
        if result.si_code != os.CLD_EXITED:
            code, signal = 128 + code, code
        self.ended[pid] = packet = b"ended %d %d %d %d" % (pid, code, signal, time.time_ns())
        self._tell(packet)
        if self._channel is None and not self._rests:
            self._call(0)

    def _adopt(self, _words: str, _fds: list[int]) -> None:
        if not self.adopts:
            prctl(Prctl.SET_CHILD_SUBREAPER, 1)
            ended = signal_descriptor(SIGCHLD)
            self.loop.watch(ended, READABLE, lambda _: self._on_child_ended(ended))
            self.adopts = True
        self._tell(b"adopting")

    def _on_child_ended(self, ended: int) -> None:
        os.read(ended, _SIGNALS_BYTES)
        if self._channel is None:  # else it may be a child that the attendant is about to tell of
            self._reap_strays()

    def _reap_strays(self) -> None:
        """What containers have orphaned in this pid namespace, and parts of a runtime that was killed."""
        for pid in children(os.getpid()):
            if pid not in self.children and pid not in self._attendants:
                with contextlib.suppress(ChildProcessError):
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)

    def _forget(self, pid: str, _fds: list[int]) -> None:
        self.ended.pop(int(pid), None)

    def _keep(self, name: str, fds: list[int]) -> None:
        self._drop(name, [])
        (self.kept[name],) = fds

    def _be_listener(self, _words: str, fds: list[int]) -> None:
        listener = socket.socket(fileno=fds[0])
        listener.listen()  # again: the kernel shows to peers who has done it last
        self._keep(LISTENER, [listener.detach()])

    def _drop(self, name: str, _fds: list[int]) -> None:
        fd = self.kept.pop(name, -1)
        if fd >= 0:
            os.close(fd)

    def _container(self, words: str, fds: list[int]) -> None:
        container, tty, once, max_bytes, max_files, path = words.split(" ", 5)
        has_terminal = tty == "1"
        reports, hold, *fds = fds
        self._keep(f"reports/{container}", [reports])
        self._keep(f"hold/{container}", [hold])
        if has_terminal:
            fds.append(os.dup(fds[0]))
        for fd in fds:
            os.set_blocking(fd, False)
        streams = 1 if has_terminal else 2
        given = Input(self.loop, fds[streams], is_terminal=has_terminal) if fds[streams:] else None
        hub = Hub(self.loop, given, stdin_once=once == "1")
        output = Output(self.loop, Log(path, int(max_bytes), int(max_files)), hub)
        self.outputs[container] = output
        for stream, fd in enumerate(fds[:streams], 1):
            output.read(fd, stream)
        output.drained.when_done(lambda: self._tell(b"drained %b" % container.encode()))

    def _attach(self, words: str, fds: list[int]) -> None:
        container, wants_input = words.split(" ")
        sock = socket.socket(fileno=fds[0])
        if container in self.outputs:
            self.outputs[container].hub.adopt(sock, stdin=wants_input == "1")
        else:
            sock.close()

    def _abandon(self, container: str, _fds: list[int]) -> None:
        output = self.outputs.pop(container, None)
        if output is not None:
            output.abandon()

    def _set_title(self, words: str, _fds: list[int]) -> None:
        comm, _, text = words.partition("\t")
        self._title.set(comm, text)

    def _exit(self, _words: str, _fds: list[int]) -> None:
        self._done.set(None)


def _ignore(_exc: Exception) -> None:
    """What should not have happened with one container's output is no reason to end the others."""
