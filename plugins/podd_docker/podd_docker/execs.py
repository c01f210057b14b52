"""Running another program in a container, by the OCI runtime that dockerd itself uses.

dockerd's own exec carries bytes over HTTP, cannot tell a command that is missing from one that fails, and before API
1.42 has no size for a terminal at its start. The runtime (runc, or what is called like it) takes descriptors and tells.
Its state it keeps where dockerd tells it to, below exec_root. The program gets the container's user, capabilities,
environment and limits, since these are read from the container's own configuration.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import pty
import secrets
import shutil
import signal
import struct
import termios
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import TaskGroup

from podd.driver.contract import ExecRequest, Exit
from podd.errors import Conflict, Invalid, NotFound, PoddError, Unavailable, Unsupported
from podd.linux import inotify
from podd.linux.process import PidIdentity, identity, open_pidfd
from podd.shim.files import write_json
from podd_docker.flights import guarded
from podd_docker.handles import ContainerState
from podd_docker.hold import FIFO, NAMESPACE

KEPT = 512
"""Ends of execs that are remembered."""

DYING_S = 2
"""How long the end of one that was killed is waited for: in a pod that is paused it does not come."""

BOUND = "bound"
"""The file that names the process of an exec which is to end with podd, for the podd after one that was killed."""

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_WITH_TERMINAL = 'exec <"$0" >"$0" 2>&1 && exec "$@"'
"""A session's first process that opens a terminal gets it as its controlling one; so the runtime learns of its size."""


def end_bound(run_dir: str) -> None:
    """Those that an earlier podd has left behind, and that were to end with it. Blocks."""
    for path in glob.glob(f"{glob.escape(run_dir)}/exec-*/{BOUND}"):
        with suppress(FileNotFoundError, ProcessLookupError), open(path, encoding="utf-8") as file:
            _kill_exactly(PidIdentity(**json.load(file)))
        shutil.rmtree(os.path.dirname(path), ignore_errors=True)


class _Exec:
    def __init__(self, folder: str, request: ExecRequest) -> None:
        self.folder = folder
        self.argv0 = request.argv[0] if request.argv else ""
        self.bound = request.bound
        self.pidfd = -1  # of the runtime, which ends as the program does
        self.terminal: int | None = None
        self.program: PidIdentity | None = None
        self.settled = anyio.Event()  # begun, or failed
        self.failure: PoddError | None = None
        self.over = anyio.Event()
        self.exit: Exit | None = None


class Execs:
    def __init__(self, run_dir: str, exec_root: str, tasks: TaskGroup) -> None:
        self._run_dir = run_dir
        self._exec_root = exec_root
        self._tasks = tasks
        self._execs: OrderedDict[str, _Exec] = OrderedDict()
        self.runtimes: Mapping[str, list[str]] = {}  # name -> command, as dockerd tells

    async def start(
        self, container: ContainerState, request: ExecRequest, stdio: Sequence[int]
    ) -> tuple[str, int | None]:
        """Raises Conflict: the container does not run; Invalid: the command cannot be run; Unsupported: no runtime."""
        exec_id = secrets.token_hex(8)
        run = _Exec(f"{self._run_dir}/exec-{exec_id}", request)
        with anyio.CancelScope(shield=True):  # short: what is spawned must be attended to
            await anyio.to_thread.run_sync(self._spawn, run, container, request, stdio)
        self._execs[exec_id] = run
        self._tasks.start_soon(guarded, self._attend, run)
        try:
            await run.settled.wait()
            if run.failure is not None:
                raise run.failure
        except BaseException:
            _kill(run)
            if run.terminal is not None:
                os.close(run.terminal)
            raise
        for old in [one for one, run in self._execs.items() if run.over.is_set()][:-KEPT]:
            del self._execs[old]
        return exec_id, run.terminal

    async def wait(self, exec_id: str) -> Exit:
        """Raises NotFound."""
        run = self._execs.get(exec_id)
        if run is None:
            raise NotFound(f"exec {exec_id}: it does not exist, or an earlier podd started it")
        await run.over.wait()
        assert run.exit is not None
        return run.exit

    def kill(self, exec_id: str) -> None:
        if (run := self._execs.get(exec_id)) is not None:
            _kill(run)

    # ---- starting, in a thread

    def _spawn(self, run: _Exec, container: ContainerState, request: ExecRequest, stdio: Sequence[int]) -> None:
        state, runtime = self._runtime_of(container)
        os.makedirs(run.folder, 0o700)
        try:
            with open(f"{run.folder}/process.json", "w", encoding="utf-8") as file:
                json.dump(_process(state, request), file)
            command = [
                *(*runtime, "--root", os.path.dirname(state), "--log", f"{run.folder}/log", "--log-format", "json"),
                *("exec", "--process", f"{run.folder}/process.json", "--pid-file", f"{run.folder}/pid"),
                container.docker_id,
            ]
            pid = _with_terminal(run, command, request) if request.tty else _with_descriptors(command, stdio)
            run.pidfd = os.pidfd_open(pid)
        except BaseException:
            shutil.rmtree(run.folder, ignore_errors=True)
            raise

    def _runtime_of(self, container: ContainerState) -> tuple[str, list[str]]:
        """The directory of its state of this container, and the command."""
        found = glob.glob(f"{glob.escape(self._exec_root)}/runtime-*/{NAMESPACE}")
        if not found:
            raise Unsupported(
                f"exec: no OCI runtime keeps its state at {self._exec_root}/runtime-*/{NAMESPACE}",
                remedy="set drivers.docker.exec_root to dockerd's --exec-root",
            )
        for root in found:
            state = f"{root}/{container.docker_id}"
            if os.path.isfile(f"{state}/state.json") and not os.path.exists(f"{state}/{FIFO}"):
                name = os.path.basename(os.path.dirname(root)).removeprefix("runtime-")
                return state, self.runtimes.get(name) or [name]
        raise Conflict(f"container {container.name}: is not running")

    # ---- until its end

    async def _attend(self, run: _Exec) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_tell_when_begun, run)
                await anyio.wait_readable(run.pidfd)
                tasks.cancel_scope.cancel()
            run.exit = await anyio.to_thread.run_sync(_end_of, run)
        finally:
            with anyio.CancelScope(shield=True):
                if run.exit is None and run.bound:
                    await _end_now(run)
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(run.folder, ignore_errors=True))
            os.close(run.pidfd)
            if run.exit is None:
                run.failure = run.failure or Unavailable(f"exec {run.argv0}: podd is stopping")
            run.settled.set()
            run.over.set()


async def _tell_when_begun(run: _Exec) -> None:
    """The runtime writes the pid, by renaming a file, once the program has begun."""
    watch = inotify.Watch(run.folder)
    try:
        while not await anyio.to_thread.run_sync(_read_pid, run):
            await anyio.wait_readable(watch.fd)
            watch.drain()
        run.settled.set()
    finally:
        watch.close()


def _read_pid(run: _Exec) -> bool:
    try:
        with open(f"{run.folder}/pid", encoding="ascii") as file:
            pid = int(file.read())
    except FileNotFoundError:
        return False
    with suppress(ProcessLookupError):
        run.program = identity(pid)
        if run.bound:
            write_json(f"{run.folder}/{BOUND}", run.program._asdict())
    return True


async def _end_now(run: _Exec) -> None:
    _kill(run)
    with anyio.move_on_after(DYING_S):
        await anyio.wait_readable(run.pidfd)
        os.waitid(os.P_PIDFD, run.pidfd, os.WEXITED)  # noqa: ASYNC222  it has ended


def _end_of(run: _Exec) -> Exit:
    """Its exit; notes why it has not begun, if so."""
    ended = os.waitid(os.P_PIDFD, run.pidfd, os.WEXITED)
    assert ended is not None
    code = ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status
    if not _read_pid(run):
        run.failure = _why_not(run)
    return Exit(code=code, signal=code - 128 if 128 < code < 128 + signal.NSIG else 0)


def _why_not(run: _Exec) -> PoddError:
    said = ""
    with suppress(OSError, ValueError), open(f"{run.folder}/log", encoding="utf-8", errors="replace") as file:
        records = [json.loads(line) for line in file.read(1 << 16).splitlines()]
        said = next((str(record.get("msg")) for record in reversed(records) if record.get("level") == "error"), "")
    if any(words in said for words in ("does not exist", "not running", "stopped container", "paused")):
        return Conflict(f"exec {run.argv0}: {said}")
    return Invalid(f"exec {run.argv0}: {said or 'the OCI runtime does not say why'}", remedy="check the command")


def _kill(run: _Exec) -> None:
    """The program; its descendants that stay in its session lose their terminal or pipes."""
    with suppress(ProcessLookupError):
        if run.program is None:
            if not run.over.is_set():
                signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)
            return
        _kill_exactly(run.program)


def _kill_exactly(program: PidIdentity) -> None:
    """Raises ProcessLookupError: it is gone."""
    pidfd = open_pidfd(program)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)


# ---- how it is spawned


def _with_descriptors(command: list[str], stdio: Sequence[int]) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(stdio)]
    return os.posix_spawnp(
        command[0], command, _ENVIRONMENT, file_actions=actions, setsid=True, setsigdef=[signal.SIGPIPE]
    )


def _with_terminal(run: _Exec, command: list[str], request: ExecRequest) -> int:
    master, slave = pty.openpty()
    try:
        if all(request.terminal_size):
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", *request.terminal_size, 0, 0))
        words = ["/bin/sh", "-c", _WITH_TERMINAL, os.ttyname(slave), *command]
        pid = os.posix_spawn(words[0], words, _ENVIRONMENT, setsid=True, setsigdef=[signal.SIGPIPE])
        run.terminal = master
        return pid
    except BaseException:
        os.close(master)
        raise
    finally:
        # The shell opens it by its name; the master, held here, keeps that name alive.
        os.close(slave)


def _process(state: str, request: ExecRequest) -> dict[str, Any]:
    """The container's own first process, with other arguments. Source: the OCI runtime specification, process."""
    with open(f"{state}/state.json", encoding="utf-8") as file:
        labels = json.load(file)["config"]["labels"]
    bundle = next(label.removeprefix("bundle=") for label in labels if label.startswith("bundle="))
    with open(f"{bundle}/config.json", encoding="utf-8") as file:
        process: dict[str, Any] = json.load(file)["process"]
    given = dict(request.env)
    kept = [pair for pair in process.get("env") or () if pair.partition("=")[0] not in given]
    process |= {
        "args": list(request.argv),
        "env": kept + [f"{name}={value}" for name, value in request.env],
        "terminal": request.tty,
    }
    process.pop("consoleSize", None)
    if request.tty and all(request.terminal_size):
        rows, columns = request.terminal_size
        process["consoleSize"] = {"height": rows, "width": columns}
    return process
