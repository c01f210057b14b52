"""The runtime's command line: run it, wait for it, understand what it says."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from podd.errors import Denied, Invalid, PoddError, Unavailable
from podd.linux.script import Result, Script
from podd.linux.spawn import spawn
from podd.linux.syscalls import Prctl
from podd.shim import credentials
from podd.shim.files import unlink
from podd.shim.program import DEFAULT_PATH, NotRunnable
from podd.shim.wire import Descriptors, listener

if TYPE_CHECKING:
    from podd.shim.container import Pod
    from podd.shim.plan import RuntimePlan
    from podd.shim.processes import Child

SIGKILL = 9
_MAX_LOG_BYTES = 256 * 1024
_LAST_FD = 2**32 - 1
_CLOSE_RANGE_CLOEXEC = 4
_NOT_EXECUTED = 126
"""Of the process that was to become the runtime, and of nothing that runc or crun ends with."""

_WORDS = (
    (re.compile(r"permission denied|operation not permitted", re.IGNORECASE), NotRunnable, Denied),
    (re.compile(r"no such file|not found|not a directory|exec format|is a directory", re.IGNORECASE), Invalid, Invalid),
)


class Runtime:
    """The one of a pod."""

    def __init__(self, pod: Pod, plan: RuntimePlan) -> None:
        self.plan = plan
        self._pod = pod
        self._root = f"{pod.plan['run_dir']}/runtime"
        self._makes = 0
        self._pids: int | None = None

    def state(self, container: str) -> str:
        """The directory in which it keeps what it knows of a container."""
        return f"{self._root}/{container}"

    def knows(self, container: str) -> bool:
        """Whether it has been told to make it, and not to forget it."""
        return os.path.lexists(self.state(container))

    async def be_ready(self) -> None:
        """Whatever the runtime leaves behind will be the keeper's."""
        await self._pod.keeping.adopt()

    @contextmanager
    def room(self) -> Iterator[None]:
        """In the block, let the pod have as many processes as it takes to make a container.

        A runtime in Go is a dozen threads until it becomes the program, and does not survive when it gets no more.
        """
        if self._makes == 0:
            self._pids = self._pod.group.read_limits().get("pids")
            self._limit_pids(None)
        self._makes += 1
        try:
            yield
        finally:
            self._makes -= 1
            if self._makes == 0:
                self._limit_pids(self._pids)

    def _limit_pids(self, pids: int | None) -> None:
        if self._pids is not None:
            self._pod.group.apply({**self._pod.group.read_limits(), "pids": pids})

    def spawn(self, log: str, words: Sequence[str], stdio: Sequence[int], directory: str = "/") -> int:
        """Start the runtime with these words, as a child of the keeper; its pid.

        log: a file that it writes errors to. stdio: its descriptors 0 to 2, which it hands on to what it starts;
        borrowed. directory: where it is, to find sockets whose path is too long for an address.
        """
        unlink(log)
        argv = [self.plan["path"], "--root", self._root, "--log", log, "--log-format", "json", *words]
        nowhere = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            script = Script(nowhere)
            script.doing("runtime")
            script.call("prctl", Prctl.SET_PDEATHSIG, SIGKILL)
            credentials.default_signals(script)
            script.call("umask", 0o022)
            script.call("fchdir", place)
            for number, fd in enumerate(stdio):
                script.call("dup3", fd, number, 0)
            script.call("close_range", 3, _LAST_FD, _CLOSE_RANGE_CLOEXEC)
            arguments: list[int | bytes | Result] = [*map(os.fsencode, argv), 0]
            environment: list[int | bytes | Result] = [b"PATH=" + DEFAULT_PATH.encode(), 0]
            script.call("execve", os.fsencode(argv[0]), arguments, environment, status=_NOT_EXECUTED)
            return spawn(script, {nowhere, place, *stdio}, sibling=True)
        finally:
            os.close(nowhere)
            os.close(place)

    async def finished(self, child: Child, log: str, subject: str) -> None:
        """Wait for it. Raises a podd.errors kind with the runtime's own words: it has failed."""
        ended = await child.ended
        self._pod.keeping.forget_child(child.pid)
        if ended.code == _NOT_EXECUTED:
            raise Unavailable(f"{subject}: {self.plan['path']} cannot be executed", remedy="install it again")
        if ended.code != 0:
            raise refusal(subject, last_error(log) or f"{self.plan['name']} has ended with status {ended.code}")

    async def run(self, log: str, words: Sequence[str], subject: str) -> None:
        """Start it and wait for it. Raises as `finished`."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            child = self._pod.keeping.add_child(self.spawn(log, words, (null, null, null)))
        finally:
            os.close(null)
        await self.finished(child, log, subject)


class Console:
    """Where the runtime sends the master of a terminal that it has made. Owns its socket."""

    def __init__(self, directory: str, name: str) -> None:
        self.path = f"{directory}/{name}"
        self._listener = listener(directory, name)
        self._listener.setblocking(False)

    def master(self) -> Descriptors:
        """After the runtime has succeeded. Raises Unavailable: it has sent nothing."""
        try:
            with self._listener.accept()[0] as sender:
                _, fds, _, _ = socket.recv_fds(sender, 4096, 1, int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT))
        except BlockingIOError:
            fds = []
        if not fds:
            raise Unavailable("terminal: the runtime has sent none")
        return Descriptors(fds)

    def close(self) -> None:
        self._listener.close()
        unlink(self.path)


def refusal(subject: str, words: str) -> PoddError:
    """What a runtime has said, as an error of podd's. Which kind it is can only be read in its words."""
    about_command = "exec: " in words or "executable file" in words
    for pattern, of_command, of_rest in _WORDS:
        if pattern.search(words):
            kind = of_command if about_command else of_rest
            return kind(f"{subject}: {words}", remedy="check command and the image" if about_command else "")
    return Unavailable(f"{subject}: {words}")


def last_error(log: str) -> str:
    """The last error in a log of JSON lines, without what the runtime puts around every one; "" for none."""
    with suppress(FileNotFoundError), open(log, "rb") as file:
        for line in reversed(file.read(_MAX_LOG_BYTES).splitlines()):
            with suppress(ValueError, AttributeError):
                entry = json.loads(line)
                if entry.get("level") == "error":
                    return str(entry.get("msg", "")).removesuffix(": unknown")
    return ""
