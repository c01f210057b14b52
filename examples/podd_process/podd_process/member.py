"""One member: a program of the host in a control group of its own, held, released, and watched until it ends."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import time

import anyio
import anyio.to_thread
from anyio.abc import ByteReceiveStream, Process, TaskGroup

from podd.driver.contract import (
    ContainerConfig,
    ContainerCreated,
    ContainerStarted,
    ContainerStatus,
    Exit,
    Handle,
    Limits,
    Observed,
)
from podd.errors import Invalid, Unsupported
from podd.linux import process
from podd.linux.cgroup import Group
from podd.shim.logs import Clock, Lines, RotatedFile

SHARED = ("net", "ipc", "uts", "pid")
"""The namespaces of a sandbox: the host's own."""

HELD = 'read -r _ && exec "$@" < /dev/null'
"""The shell waits for a line on its standard input, then becomes the program. Closed without one, it ends."""


def check(config: ContainerConfig) -> None:
    """Refuse what a program of the host cannot be given. Raises Unsupported, Invalid."""
    asked = {
        "privileged: false": not config.security.privileged,
        "a read-only root": config.security.read_only_rootfs,
        "no new privileges": config.security.no_new_privileges,
        "mounts": bool(config.mounts),
        f"image {config.image}": config.image != "rootfs:/",
        "input and terminals": config.stdin or config.tty,
        "the processes of another": config.pid_target is not None,
    }
    for what, is_asked in asked.items():
        if is_asked:
            raise Unsupported(f"container {config.name}: {what}: this driver runs programs of the host")
    if config.security.run_as_non_root and not config.security.uid:
        raise Invalid(f"container {config.name}: runs as root, and runAsNonRoot forbids it", remedy="set runAsUser")


def program(config: ContainerConfig) -> list[str]:
    """The words of its command, the first as an absolute path. Raises Invalid: there is no such program."""
    words = [*config.command, *config.args]
    found = shutil.which(words[0], path=dict(config.env).get("PATH", os.defpath)) if words else None
    if found is None:
        raise Invalid(f"container {config.name}: command {words[:1]}: not found, or not executable")
    return [os.path.abspath(found), *words[1:]]


class Member:
    """Everything about one container. What is asked of it while it is being made, waits in the driver."""

    def __init__(self, config: ContainerConfig, handle: Handle, group: Group) -> None:
        self.config = config
        self.handle = handle
        self._group = group
        self._ended = anyio.Event()
        self._exit: Exit | None = None
        self._started: ContainerStarted | None = None
        self._is_killed = False
        self.is_made = False  # there is a process, and it is watched

    # ---- its life

    async def make(self, tasks: TaskGroup) -> ContainerCreated:
        """Have it held, in its group, limits applied. tasks: where it is watched."""
        words = program(self.config)
        security = self.config.security
        gate, self._gate = os.pipe()
        try:
            self._process: Process = await anyio.open_process(
                ["/bin/sh", "-c", HELD, "podd", *words],
                stdin=gate,
                env=dict(self.config.env),
                cwd=self.config.working_dir or "/",
                start_new_session=True,
                user=security.uid or 0,
                group=_primary_group(security.uid or 0) if security.gid is None else security.gid,
                extra_groups=list(security.supplemental_groups),
            )
        except OSError as exc:
            self._close_gate()
            raise Invalid(f"container {self.config.name}: cannot be run: {exc}") from exc
        finally:
            os.close(gate)
        tasks.start_soon(self._watch)
        self.is_made = True
        await anyio.to_thread.run_sync(self._place)
        self._observed = await anyio.to_thread.run_sync(observe, self._process.pid, self._group)
        return self.created

    @property
    def created(self) -> ContainerCreated:
        return ContainerCreated(handle=self.handle, observed=self._observed)

    def _place(self) -> None:
        """It is held, so nothing of it can run before it is in its group."""
        self._group.create()
        self._group.apply(limits_for(self.config.limits))
        self._group.add(self._process.pid)
        if self.config.oom_score_adj is not None:
            with open(f"/proc/{self._process.pid}/oom_score_adj", "w") as file:
                file.write(str(self.config.oom_score_adj))

    def release(self) -> ContainerStarted:
        """Nothing is awaited here: it is released, or it is not."""
        if self._started is None:
            started_at_ns, error = time.time_ns(), ""
            try:
                os.write(self._gate, b"\n")
            except OSError:  # a pipe that nobody reads, or one that is closed
                error = "it has ended before it was started"
            self._started = ContainerStarted(
                id=self.config.id,
                pid=self._process.pid,
                started_at_ns=started_at_ns,
                released_ns=time.monotonic_ns(),
                error=error,
                observed=self._observed,
            )
        return self._started

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.Signals(number) if number in set(signal.Signals) else number)

    async def kill(self) -> None:
        """Every process of it, whatever it has become. Returns when it has ended."""
        self._is_killed = True
        await anyio.to_thread.run_sync(self._group.kill_all)
        await self._ended.wait()

    async def wait(self) -> Exit:
        await self._ended.wait()
        assert self._exit is not None
        return self._exit

    def status(self) -> ContainerStatus:
        started = self._started
        return ContainerStatus(
            id=self.config.id,
            state="exited" if self._exit else "running" if started else "created",
            pid=None if self._exit else self._process.pid,
            started_at_ns=started.started_at_ns if started else None,
            exit=self._exit,
            observed=self._observed,
        )

    # ---- watching

    async def _watch(self) -> None:
        """Until its first process has ended. With it ends all that it has left running, as in any container."""
        log = RotatedFile(self.config.log_path, self.config.log_max_bytes, self.config.log_max_files)
        clock = Clock()
        async with self._process, anyio.create_task_group() as copies:
            for name in ("stdout", "stderr"):
                copies.start_soon(_copy, getattr(self._process, name), Lines(name), log, clock)
            code = await self._process.wait()
            finished_at_ns = time.time_ns()
            await anyio.to_thread.run_sync(self._group.kill_all)
        log.close(clock.stamp(finished_at_ns))
        self._close_gate()
        self._exit = Exit(
            code=code if code >= 0 else 128 - code,
            signal=max(0, -code),
            oom_killed=code == -signal.SIGKILL and not self._is_killed and bool(self._group.oom_kills()),
            started_at_ns=self._started.started_at_ns if self._started else None,
            finished_at_ns=finished_at_ns,
        )
        self._ended.set()

    def _close_gate(self) -> None:
        os.close(self._gate)
        self._gate = -1  # its number may soon be another's


async def _copy(output: ByteReceiveStream, lines: Lines, log: RotatedFile, clock: Clock) -> None:
    """Into the log, in the form that podd-cli logs reads."""
    async for data in output:
        stamp = clock.stamp(time.time_ns())
        log.write(lines.feed(data, stamp), stamp)
    stamp = clock.stamp(time.time_ns())
    log.write(lines.end(stamp), stamp)


# ---- what the kernel says --------------------------------------------------------------------------------------------


def observe(pid: int, group: Group) -> Observed:
    """Read, never assumed. Mount and cgroup namespaces are the host's, and nobody was promised others."""
    names = process.namespaces(pid)
    where = [path for path in process.cgroups(pid).values() if path.strip("/") == group.path]
    return Observed(
        namespaces={name: names[name] for name in SHARED},
        cgroup=where[0] if where else "",
        limits=Limits(**group.read_limits()),
    )


def limits_for(limits: Limits) -> dict[str, int]:
    return {name: value for name in limits.__struct_fields__ if (value := getattr(limits, name)) is not None}


def _primary_group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return 0
