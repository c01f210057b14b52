"""What runs in a forked child between fork and exec.

The shim forks by `fork_container` or `fork_exec` and, in the child, calls `container_child` or `exec_child`, which
never return. They talk over `sync`, the child's end of a socketpair(AF_UNIX, SOCK_SEQPACKET), one JSON object a message:

    {"ready": true, "notes": [str]}     set up, about to wait on `hold`; with tty, the terminal's master rides along
    {"released_ns": int}                CLOCK_MONOTONIC right before execve
    end of file                         after released_ns: execve succeeded (sync is close-on-exec)
    {"error": str, "kind": str, "remedy": str}   at any time instead: it failed and exits 126 or 127
    end of file at any other time       it was killed

notes: what the host did not allow and was done without ("oom_score_adj -500: not permitted").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from podd.shim.plan import ContainerPlan, ExecPlan, SandboxPlan


class ChildFds(NamedTuple):
    """What a child gets from the shim, all >= 3; every other descriptor is closed first of all."""

    sync: int
    hold: int  # two bytes b"go" release, end of file means die; -1: do not wait (exec)
    stdio: tuple[int, int, int] | None  # None: a terminal of the container's own devpts (plan["tty"])
    cgroups: Sequence[int]  # open for writing on cgroup.procs (v2) or tasks (v1: spares a global lock); gets b"0"


def warm() -> None:
    """Import, look up and cache all that children need, so that every fork has it. Call once in the zygote."""
    raise NotImplementedError


def fork_container(sandbox: SandboxPlan) -> int:
    """As os.fork(), with the child in the pid namespace that a container of this sandbox belongs in."""
    raise NotImplementedError


def fork_exec(sandbox: SandboxPlan, pidfd: int) -> int:
    """As os.fork(), with the child in the pid namespace of the container whose first process pidfd names."""
    raise NotImplementedError


def container_child(sandbox: SandboxPlan, plan: ContainerPlan, fds: ChildFds) -> NoReturn:
    """Become the container's first process: set everything up, report ready, wait for the release, exec."""
    raise NotImplementedError


def exec_child(sandbox: SandboxPlan, plan: ContainerPlan, request: ExecPlan, pidfd: int, fds: ChildFds) -> NoReturn:
    """Become one more process of a running container, with the same rights and no more, and exec.

    pidfd: the container's first process. fds.hold is usually -1; fds.stdio is None for request["tty"].
    """
    raise NotImplementedError
