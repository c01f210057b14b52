"""The attendant's side of the channel to its keeper: what it gives into keeping, and what it is told. See `keeper`."""

from __future__ import annotations

import array
import os
import select
import socket
from collections.abc import Sequence

from podd.shim.keeper import LISTENER, Keeper
from podd.shim.loop import READABLE, Later, Loop
from podd.shim.plan import ContainerPlan
from podd.shim.processes import Child, Ended

MAX_PACKET = 4096
"""Of what the keeper tells."""


class Keeping:
    """What the keeper keeps, as it was when this attendant began and as it was changed since.

    `kept`: descriptors by name. They are this process's own copies, of the same numbers as the keeper's at the start.
    """

    def __init__(self, loop: Loop, channel: socket.socket, keeper: Keeper) -> None:
        self.kept = dict(keeper.kept)
        self._loop = loop
        self._channel = channel
        self._children = {pid: Child(pid, pidfd) for pid, pidfd in keeper.children.items()}
        self._drained: dict[str, Later[None]] = {name: output.drained for name, output in keeper.outputs.items()}
        self._heard = 0
        self._useless: set[str] = set()
        self.told_to_leave: Later[None] = Later()
        self.adopting: Later[None] = Later()
        if keeper.adopts:
            self.adopting.set(None)
        if keeper.is_leaving:
            self.told_to_leave.set(None)
        for pid, packet in keeper.ended.items():
            self._children[pid] = Child(pid, -1)
            self._hear(packet)
        loop.watch(channel.fileno(), READABLE, self._on_readable)

    # ---- processes ---------------------------------------------------------------------------------------------------

    def add_child(self, pid: int) -> Child:
        """A process that was just forked as the keeper's child."""
        child = self._children[pid] = Child(pid, os.pidfd_open(pid))
        self._say(f"child {pid}")
        return child

    def child(self, pid: int) -> Child:
        """One that the keeper has. Raises KeyError: it has none such."""
        return self._children[pid]

    def children(self) -> list[Child]:
        return list(self._children.values())

    def adopt(self) -> Later[None]:
        """Have the keeper be the parent of what loses its own; done when it is."""
        if not self.adopting.done:
            self._say("adopt")
        return self.adopting

    def forget_child(self, pid: int) -> None:
        """Its end is written down."""
        self._children.pop(pid, None)
        self._say(f"forget {pid}")

    # ---- descriptors -------------------------------------------------------------------------------------------------

    def keep(self, name: str, fd: int) -> None:
        """fd stays the caller's own; the keeper gets a copy."""
        self.kept[name] = fd
        self._say(f"keep {name}", [fd])

    def listen(self, fd: int) -> None:
        """Keep a listening socket, to which the keeper now listens as far as peers can see."""
        self.kept[LISTENER] = fd
        self._say("listen", [fd])

    def drop(self, name: str) -> None:
        """The keeper closes its copy; the caller has closed, or will close, its own."""
        if self.kept.pop(name, None) is not None:
            self._say(f"drop {name}")

    # ---- output ------------------------------------------------------------------------------------------------------

    def keep_container(self, plan: ContainerPlan, reports: int, hold: int, stdio: Sequence[int]) -> None:
        """A held container: what lets it go, and its output, which is read from now on.

        stdio: stdout, stderr and perhaps stdin, or a terminal's master. All stay the caller's own.
        """
        self._drained[plan["id"]] = Later()
        for name, fd in ((f"reports/{plan['id']}", reports), (f"hold/{plan['id']}", hold)):
            self.kept[name] = fd
            self._useless.discard(name)
        flags = f"{plan['tty']:d} {plan['stdin_once']:d} {plan['log_max_bytes']} {plan['log_max_files']}"
        self._say(f"container {plan['id']} {flags} {plan['log_path']}", [reports, hold, *stdio])

    def held(self, container: str) -> tuple[int, int]:
        """The descriptors of its reports and its hold. Raises KeyError: it was let go."""
        return self.kept[f"reports/{container}"], self.kept[f"hold/{container}"]

    def let_go(self, container: str) -> None:
        """It is not held any more. In no hurry: the keeper's copies do no harm, and are dropped at the end."""
        for name in (f"reports/{container}", f"hold/{container}"):
            if self.kept.pop(name, None) is not None:
                self._useless.add(name)

    def drained(self, container: str) -> Later[None]:
        """Set when all its output has been read; of a container that has none: set already."""
        later = self._drained.get(container)
        if later is None:
            later = Later()
            later.set(None)
        return later

    def attach(self, container: str, *, stdin: bool) -> socket.socket:
        """The reader's end of a new attachment."""
        ours, theirs = socket.socketpair()
        with ours:
            self._say(f"attach {container} {stdin:d}", [ours.fileno()])
        return theirs

    def abandon_output(self, container: str) -> None:
        """Whatever is still to come is not read; attachments end. Again, or of no container: nothing."""
        later = self._drained.pop(container, None)
        if later is not None:
            self._say(f"abandon {container}")
            later.set(None)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def park(self) -> bool:
        """Offer to end: whether the keeper agrees. Otherwise it has told something that was not heard yet."""
        for name in self._useless:
            self._say(f"drop {name}")
        self._useless.clear()
        self._say(f"park {self._heard}")
        select.select([self._channel], [], [])
        return not self._receive()

    def end_keeper(self) -> None:
        self._say("exit")

    def _say(self, words: str, fds: Sequence[int] = ()) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._channel.sendmsg([os.fsencode(words)], ancillary, socket.MSG_NOSIGNAL)

    def _on_readable(self, _events: int) -> None:
        self._receive()

    def _receive(self) -> bool:
        """False: the keeper has closed the channel."""
        packet = self._channel.recv(MAX_PACKET)
        if not packet:
            return False
        self._heard += 1
        self._hear(packet)
        return True

    def _hear(self, packet: bytes) -> None:
        verb, *words = packet.decode().split(" ")
        if verb == "ended":
            pid, code, signal, at_ns = map(int, words)
            if pid in self._children:
                self._children[pid].end(Ended(code, signal, at_ns))
        elif verb == "drained" and words[0] in self._drained:
            self._drained[words[0]].set(None)
        elif verb == "adopting":
            self.adopting.set(None)
        elif verb == "leave":
            self.told_to_leave.set(None)
