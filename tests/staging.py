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
from typing import Any, cast

from podd.linux import capabilities
from podd.shim import sandbox, stage
from podd.shim.plan import ContainerPlan, ExecPlan, MountPlan, SandboxPlan
from podd.shim.stage import ChildFds

HOST_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
"""What a root file system that has nothing needs as volumes to run the host's programs."""


@dataclass
class Child:
    """A forked child on its way: `report` is what it said first, {} when it died without a word."""

    pid: int
    sync: socket.socket
    hold: int
    output: int
    report: dict[str, Any] = field(default_factory=dict)
    master: int = -1

    @property
    def notes(self) -> list[str]:
        return cast(list[str], self.report["notes"])

    def release(self) -> dict[str, Any]:
        """Let it go; what it says before it execs, {} if nothing. An error after that is what the rest says."""
        os.write(self.hold, b"go")
        said = self.sync.recv(65536)
        failure = self.sync.recv(65536)
        assert failure == b"", failure
        return cast(dict[str, Any], json.loads(said or b"{}"))

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
    status: int
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
                "cgroup": "",
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
        sandbox.unmount_shm(self.plan["run_dir"])

    def container(self, argv: Sequence[str], changes: dict[str, Any]) -> ContainerPlan:
        self._count += 1
        plan = {
            "id": f"c{self._count}",
            "name": "c",
            "rootfs": "/",
            "argv": list(argv),
            "env": [],
            "working_dir": "",
            "mounts": [],
            "tty": False,
            "stdin": False,
            "stdin_once": False,
            "limits": {},
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
        return self._start(
            lambda: stage.fork_container(self.plan),
            lambda fds: stage.container_child(self.plan, plan, fds),
            tty=plan["tty"],
            stdin=stdin_from,
            cgroups=cgroups,
        )

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
        child = self._start(
            lambda: stage.fork_container(self.plan),
            lambda fds: stage.container_child(self.plan, plan, fds),
            stdin=gate,
        )
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
        request: ExecPlan = {"id": "e", "argv": list(argv), "env": list(env), "tty": tty, "terminal_size": (24, 80)}
        return self._start(
            lambda: stage.fork_exec(self.plan, pidfd),
            lambda fds: stage.exec_child(self.plan, plan, request, pidfd, fds),
            tty=tty,
        )

    def exec(self, plan: ContainerPlan, pidfd: int, *argv: str, tty: bool = False, env: Any = ()) -> Run:
        return self._finish(self.exec_hold(plan, pidfd, argv, tty=tty, env=env))

    def _finish(self, child: Child) -> Run:
        if "error" in child.report:
            run = Run(child.read_output(), child.wait(), [], child.report["error"], child.report["kind"])
        else:
            said = child.release()
            assert said["released_ns"] > 0
            run = Run(child.read_output(), child.wait(), child.notes)
        child.close()
        return run

    def _start(self, fork: Any, work: Any, *, tty: bool = False, stdin: int = -1, cgroups: Sequence[int] = ()) -> Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        waits_on, hold = os.pipe()
        output, write = os.pipe()
        null = os.open("/dev/null", os.O_RDWR)
        pid = fork()
        if pid == 0:
            stdio = None if tty else (stdin if stdin >= 0 else null, write, write)
            work(ChildFds(theirs.fileno(), waits_on, stdio, cgroups))
        theirs.close()
        for fd in (waits_on, write, null):
            os.close(fd)
        child = Child(pid, ours, hold, output)
        self.children.append(child)
        message, fds, _, _ = socket.recv_fds(ours, 65536, 1)
        child.report = json.loads(message or b"{}")
        child.master = fds[0] if fds else -1
        return child


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
