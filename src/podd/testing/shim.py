"""Drive a zygote and its shims by hand, without a daemon: for tests and measurements.

Blocking and single-threaded: one request at a time by `call`, or several by `ask` and then `answer` for each.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from podd.shim import launch, wire
from podd.shim.plan import ContainerPlan, SandboxPlan, SweepPlan

TIMEOUT_S = 20.0


class Client:
    """One connection to a zygote or a shim."""

    def __init__(self, sock: socket.socket) -> None:
        """sock: owned."""
        self.connection = wire.Connection(sock)
        self.notices: list[dict[str, Any]] = []
        self._answers: dict[int, tuple[dict[str, Any], list[int]]] = {}
        self._last = 0

    @classmethod
    def to_shim(cls, run_dir: str) -> Self:
        """run_dir: of the sandbox. Raises OSError: nobody listens there."""
        return cls(wire.connect(run_dir))

    def ask(self, verb: str, fds: Sequence[int] = (), **args: Any) -> int:
        """Send a request; its number. fds are borrowed."""
        self._last += 1
        self.connection.send({"id": self._last, "verb": verb, "args": args}, fds)
        return self._last

    def answer(self, number: int) -> tuple[dict[str, Any], list[int]]:
        """Wait for the answer to a request, and the descriptors with it, owned by the caller.

        Raises the error it tells of; ConnectionError: the peer has closed; TimeoutError.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while number not in self._answers:
            self._receive(deadline)
        message, fds = self._answers.pop(number)
        if "error" in message:
            raise wire.error_from(message["error"])
        return message["ok"], fds

    def call(self, verb: str, fds: Sequence[int] = (), **args: Any) -> dict[str, Any]:
        """Ask and wait, for answers without descriptors."""
        ok, given = self.answer(self.ask(verb, fds, **args))
        wire.Descriptors(given).close()
        return ok

    def notice(self) -> dict[str, Any]:
        """The next notice, waited for."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self.notices:
            self._receive(deadline)
        return self.notices.pop(0)

    def close(self) -> None:
        self.connection.close()
        for _, fds in self._answers.values():
            wire.Descriptors(fds).close()

    def _receive(self, deadline: float) -> None:
        if self.connection.fileno() < 0:
            raise ConnectionError("the peer has closed")
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError("no answer")
        frames = self.connection.receive()
        if frames is None:
            self.connection.close()
            raise ConnectionError("the peer has closed")
        for message, fds in frames:
            if "id" in message:
                self._answers[message["id"]] = (message, fds.take())
            else:
                fds.close()
                self.notices.append(message)


class ZygoteProcess:
    """A running zygote; a context manager that ends it."""

    def __init__(self) -> None:
        sock, self.process = launch.launch()
        self.client = Client(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.client.close()
        self.process.wait(TIMEOUT_S)

    def fork(self, plan: SandboxPlan) -> tuple[Client, int]:
        """A shim's first connection and its pidfd, both owned by the caller. Wait for answer 0."""
        ours, theirs = socket.socketpair()
        try:
            _, (pidfd,) = self.client.answer(self.client.ask("fork", [theirs.fileno()], sandbox=plan))
        finally:
            theirs.close()
        return Client(ours), pidfd

    def sweep(self, plan: SandboxPlan, *, keep_logs: bool = True) -> None:
        """Leave nothing of a sandbox, by its plan."""
        self.client.call("sweep", sandbox=sweep_plan(plan, keep_logs=keep_logs))


def sweep_plan(plan: SandboxPlan, *, keep_logs: bool = True) -> SweepPlan:
    return {
        "id": plan["id"],
        "run_dir": plan["run_dir"],
        "containers_dir": plan["containers_dir"],
        "cgroup": plan["cgroup"],
        "keep_logs": keep_logs,
    }


def sandbox_plan(base: str, sandbox_id: str, **changes: Any) -> SandboxPlan:
    """A plan for tests: own net, ipc and uts; everything below `base`; cgroup "podd-test/<id>"."""
    plan: dict[str, Any] = {
        "id": sandbox_id,
        "run_dir": f"{base}/run/pods/{sandbox_id}",
        "containers_dir": f"{base}/containers",
        "cgroup": f"podd-test/{sandbox_id}",
        "limits": {},
        "hostname": "test-pod",
        "net": "pod",
        "ipc": "pod",
        "uts": "pod",
        "pid": "container",
        "runtime": None,
        "sysctls": {},
        "shm_size_bytes": 1 << 20,
        "log_directory": f"{base}/log/{sandbox_id}",
        "meta": {"uid": "00000000-0000-4000-8000-000000000000", "name": "test-pod", "namespace": "default"},
    }
    plan.update(changes)
    return plan  # type: ignore[return-value]


def container_plan(base: str, sandbox_id: str, name: str, argv: Sequence[str], **changes: Any) -> ContainerPlan:
    """A plan for tests: the host's root as lower layer, no limits, no filter, the log in the sandbox's directory."""
    plan: dict[str, Any] = {
        "id": f"{name}-{sandbox_id}",
        "name": name,
        "lowers": ["/"],
        "argv": list(argv),
        "env": [],
        "working_dir": "/",
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
        "capabilities": 0xA80425FB,
        "no_new_privileges": False,
        "read_only_rootfs": False,
        "seccomp_bpf": "",
        "seccomp_oci": None,
        "masked_paths": [],
        "read_only_paths": [],
        "rlimits": {},
        "oom_score_adj": None,
        "pid_target": "",
        "log_path": f"{base}/log/{sandbox_id}/{name}.log",
        "log_max_bytes": 10 << 20,
        "log_max_files": 3,
    }
    plan.update(changes)
    return plan  # type: ignore[return-value]


def read_log(plan: ContainerPlan) -> dict[str, bytes]:
    """What the container wrote, by stream, put together from all files of its log."""
    streams: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    paths = [f"{plan['log_path']}.{n}" for n in range(plan["log_max_files"] - 1, 0, -1)] + [plan["log_path"]]
    for path in paths:
        if not os.path.exists(path):
            continue
        with open(path, "rb") as file:
            for line in file:
                _, stream, tag, text = line.rstrip(b"\n").split(b" ", 3)
                streams[stream.decode()] += text + (b"\n" if tag == b"F" else b"")
    return streams
