"""Run containers straight through `podd.shim.stage`, without a supervisor, and look at them from inside and outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

from podd.linux import capabilities
from podd.linux.cgroup import Layout
from podd.linux.inroot import Root
from podd.linux.syscalls import UmountFlag, umount2
from podd.shim import held, sandbox, stage
from podd.shim.credentials import resolve_identity
from podd.shim.failure import as_message
from podd.shim.plan import ContainerPlan, ExecPlan, MountPlan, SandboxPlan
from podd.shim.stage import Birth, ChildFds, Staged

Begin = Callable[[ChildFds], Staged]

HOST_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
"""What a root file system that has nothing needs as volumes to run the host's programs."""


@dataclass
class Child:
    """A forked child on its way: `report` is what it said first, {} when it died without a word."""

    pid: int
    sync: socket.socket
    hold: int
    output: int
    command: str
    report: dict[str, Any] = field(default_factory=dict)
    master: int = -1

    @property
    def notes(self) -> list[str]:
        return cast(list[str], self.report["notes"])

    def release(self) -> int:
        """Let it go; when it went. Raises what keeps it from executing its program."""
        os.write(self.hold, b"go")
        released_ns = held.released(self.sync.recv(4096))
        held.must_have_executed(self.sync.recv(4096), self.command)
        return released_ns

    def read_output(self) -> str:
        """Everything it writes until every copy of the other end is closed."""
        chunks = []
        with suppress(OSError):  # a terminal's master says EIO at the end
            while chunk := os.read(self.output if self.master < 0 else self.master, 65536):
                chunks.append(chunk)
        return b"".join(chunks).decode()

    def read_line(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self.output, 1)
        return line.decode().strip()

    def wait(self) -> int:
        """Its exit status, negative for a signal."""
        pid, self.pid = self.pid, -1
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def close(self) -> None:
        if self.pid > 0:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        self.sync.close()
        for fd in (self.hold, self.output, self.master):
            if fd >= 0:
                os.close(fd)
        self.hold = self.output = self.master = -1


@dataclass
class Run:
    """What became of a container that ran to its end, or did not start."""

    output: str
    status: int | None  # None: there never was a process
    notes: list[str]
    error: str = ""
    kind: str = ""

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()

    @property
    def status_lines(self) -> dict[str, str]:
        """The output taken as /proc/self/status."""
        return {key: value.strip() for key, _, value in (line.partition(":") for line in self.lines)}


class Pod:
    """A sandbox in a directory of its own. plan: changes to the default sandbox plan."""

    def __init__(self, place: Path, plan: dict[str, Any]) -> None:
        self.place = place
        (place / "run").mkdir(parents=True)
        self.plan = cast(
            SandboxPlan,
            {
                "id": "5a5a5a5a5a5a5a5a",
                "run_dir": str(place / "run"),
                "containers_dir": str(place / "containers"),
                "cgroup": f"podd-stage-{os.getpid()}",
                "limits": {},
                "hostname": "web",
                "net": "pod",
                "ipc": "pod",
                "uts": "pod",
                "pid": "container",
                "sysctls": {},
                "shm_size_bytes": 1 << 20,
                "log_directory": "",
                "meta": {},
            }
            | plan,
        )
        self.children: list[Child] = []
        self._count = 0
        self.group = Layout.detect().group(self.plan["cgroup"])
        stage.warm()
        made = sandbox.make_sandbox_namespaces(self.plan, self.ns_dir)
        self.inodes, self.init_pid = made.inodes, made.init_pid
        sandbox.mount_shm(self.plan)

    @property
    def ns_dir(self) -> str:
        return f"{self.plan['run_dir']}/ns"

    def close(self) -> None:
        for child in self.children:
            child.close()
        if self.init_pid is not None:
            os.kill(self.init_pid, signal.SIGKILL)
            os.waitpid(self.init_pid, 0)
        sandbox.unpin_namespaces(self.ns_dir)
        shm = f"{self.plan['run_dir']}/shm"
        with suppress(FileNotFoundError):
            while os.path.ismount(shm):
                umount2(shm, UmountFlag.DETACH | UmountFlag.NOFOLLOW)
            os.rmdir(shm)
        self.group.remove()

    def container(self, argv: Sequence[str], changes: dict[str, Any]) -> ContainerPlan:
        self._count += 1
        plan = {
            "id": f"c{self._count}",
            "name": "c",
            "lowers": ["/"],
            "argv": list(argv),
            "env": [],
            "working_dir": "",
            "mounts": [],
            "tty": False,
            "stdin": False,
            "stdin_once": False,
            "limits": {},
            "image_user": "",
            "image_volumes": [],
            "uid": None,
            "gid": None,
            "supplemental_groups": [],
            "run_as_non_root": False,
            "privileged": False,
            "capabilities": capabilities.DEFAULT,
            "no_new_privileges": False,
            "read_only_rootfs": False,
            "seccomp_bpf": "",
            "masked_paths": [],
            "read_only_paths": [],
            "rlimits": {},
            "oom_score_adj": None,
            "pid_target": "",
            "log_path": "",
            "log_max_bytes": 0,
            "log_max_files": 0,
        }
        return cast(ContainerPlan, plan | changes)

    def hold(self, argv: Sequence[str], *, cgroups: Sequence[int] = (), stdin_from: int = -1, **changes: Any) -> Child:
        """A container that is set up and waits, or has failed to be."""
        plan = self.container(argv, changes)
        return self._start(self._begin(plan), argv, tty=plan["tty"], stdin=stdin_from, cgroups=cgroups)

    def _begin(self, plan: ContainerPlan) -> Begin:
        self.group.child(plan["id"]).create()
        return lambda fds: stage.start_container(self.plan, plan, fds, Birth(sibling=True))

    def run(self, *argv: str, cgroups: Sequence[int] = (), **changes: Any) -> Run:
        """A container from beginning to end."""
        return self._finish(self.hold(argv, cgroups=cgroups, **changes))

    def sh(self, script: str, **changes: Any) -> Run:
        return self.run("/bin/sh", "-c", script, **changes)

    @contextmanager
    def running(self, **changes: Any) -> Iterator[tuple[ContainerPlan, int]]:
        """A container that runs until the block ends; its plan and a pidfd."""
        plan = self.container(["/bin/sh", "-c", "echo up; read forever"], changes)
        gate, bolt = os.pipe()
        child = self._start(self._begin(plan), plan["argv"], stdin=gate)
        assert "error" not in child.report, child.report
        child.release()
        assert child.read_line() == "up"
        pidfd = os.pidfd_open(child.pid)
        try:
            yield plan, pidfd
        finally:
            os.close(pidfd)
            os.close(gate)
            os.close(bolt)
            child.close()

    def exec_hold(
        self, plan: ContainerPlan, pidfd: int, argv: Sequence[str], *, tty: bool = False, env: Any = ()
    ) -> Child:
        request: ExecPlan = {
            "id": "e",
            "argv": list(argv),
            "env": list(env),
            "tty": tty,
            "terminal_size": (24, 80),
            "bound": False,
        }
        with Root.at(plan["lowers"][0]) as root:
            identity = resolve_identity(root, plan)
        return self._start(
            lambda fds: stage.start_exec(self.plan, plan, request, pidfd, identity, fds, Birth(sibling=True)),
            argv,
            tty=tty,
        )

    def exec(self, plan: ContainerPlan, pidfd: int, *argv: str, tty: bool = False, env: Any = ()) -> Run:
        return self._finish(self.exec_hold(plan, pidfd, argv, tty=tty, env=env))

    def _finish(self, child: Child) -> Run:
        if "error" in child.report:
            status = child.wait() if child.pid > 0 else None
            run = Run(child.read_output(), status, [], child.report["error"], child.report["kind"])
        else:
            assert child.release() > 0
            run = Run(child.read_output(), child.wait(), child.notes)
        child.close()
        return run

    def _start(
        self, begin: Begin, argv: Sequence[str], *, tty: bool = False, stdin: int = -1, cgroups: Sequence[int] = ()
    ) -> Child:
        """As an attendant does it, in a process that moves into the pod's namespaces; the child is our own."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told, tell = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        waits_on, hold = os.pipe()
        output, write = os.pipe()
        null = os.open("/dev/null", os.O_RDWR)
        attendant = os.fork()
        if attendant == 0:
            stdio = None if tty else (stdin if stdin >= 0 else null, write, write)
            self._attend(begin, ChildFds(theirs.fileno(), waits_on, stdio, cgroups), ours, tell)
        for end in (theirs, tell):
            end.close()
        for fd in (waits_on, write, null):
            os.close(fd)
        message, fds, _, _ = socket.recv_fds(told, 65536, 1)
        told.close()
        os.waitpid(attendant, 0)
        report = json.loads(message or b"{}")
        child = Child(report.pop("pid", -1), ours, hold, output, argv[0] if argv else "", report, *fds)
        self.children.append(child)
        return child

    def _attend(self, begin: Begin, fds: ChildFds, reports: socket.socket, tell: socket.socket) -> NoReturn:
        told: dict[str, Any] = {}
        master: list[int] = []
        try:
            stage.prepare(self.plan)
            staged = begin(fds)
            told["pid"] = staged.pid
            os.close(fds.sync)
            told["notes"] = held.ready_notes(reports.recv(4096), staged)
            master = [staged.master] if staged.master >= 0 else []
        except BaseException as exc:  # noqa: BLE001 it is what the test looks at
            told |= as_message(exc)
        socket.send_fds(tell, [json.dumps(told).encode()], master)
        os._exit(0)


def volume(
    source: str | Path,
    target: str,
    *,
    read_only: bool = False,
    recursive: bool = False,
    propagation: str = "private",
    sub_path: str = "",
) -> MountPlan:
    plan = {
        "host_path": str(source),
        "container_path": target,
        "read_only": read_only,
        "recursive_read_only": recursive,
        "propagation": propagation,
        "sub_path": sub_path,
    }
    return cast(MountPlan, plan)


def host_programs() -> list[MountPlan]:
    """Volumes that let an empty root file system run /bin/sh."""
    return [volume(path, path, read_only=True) for path in HOST_PROGRAMS if os.path.isdir(path)]


def tree(place: Path) -> dict[str, str]:
    """Every file below a directory with its mode and what it holds or leads to."""
    found = {}
    for path in sorted(place.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
        found[str(path.relative_to(place))] = f"{stat.filemode(status.st_mode)} {status.st_uid} {content}"
    return found


def mounts_below(place: Path) -> list[str]:
    """Where something is mounted on the host at or below a directory."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if point == str(place) or point.startswith(f"{place}/")]


def in_child(work: Callable[[], None]) -> int:
    """Run in a fork; its exit status, 0 when nothing was raised. What was raised is printed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 a failed assertion included
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
