"""A real zygote, pods made by its shims, and the audit that nothing is left of them."""

from __future__ import annotations

import os
import select
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from podd.linux.cgroup import Layout
from podd.shim.plan import ContainerPlan, SandboxPlan
from podd.testing.shim import Client, ZygoteProcess, container_plan, read_log, sandbox_plan

CGROUP = f"podd-test-{os.getpid()}"


class TestPod:
    """One sandbox with its shim, and the words that tests need. Swept at the end of the test, whatever became of it."""

    __test__ = False

    def __init__(self, zygote: ZygoteProcess, base: str, number: int, changes: dict[str, Any]) -> None:
        self.zygote = zygote
        self.base = base
        self.id = f"test-{os.getpid()}-{number}"
        self.plan: SandboxPlan = sandbox_plan(base, self.id, **{"cgroup": f"{CGROUP}/{self.id}", **changes})
        self.run_dir = self.plan["run_dir"]
        self.group = Layout.detect().group(f"{CGROUP}/{self.id}")
        self._exits: dict[str, dict[str, Any]] = {}
        self.client, self.pidfd = zygote.fork(self.plan)
        self.report: dict[str, Any] = {}

    def ready(self) -> TestPod:
        self.report, _ = self.client.answer(0)
        return self

    def container(self, name: str, *argv: str, **changes: Any) -> ContainerPlan:
        return container_plan(self.base, self.plan["id"], name, changes.pop("argv", argv), **changes)

    def sh(self, name: str, script: str, **changes: Any) -> ContainerPlan:
        return self.container(name, "/bin/sh", "-c", script, **changes)

    def create(self, *plans: ContainerPlan) -> list[dict[str, Any]]:
        requests = [self.client.ask("create_container", container=plan) for plan in plans]
        return [self.client.answer(request)[0] for request in requests]

    def start(self, *plans: ContainerPlan) -> list[dict[str, Any]]:
        answer = self.client.call("start", containers=[plan["id"] for plan in plans])
        return list(answer["started"])

    def run(self, *plans: ContainerPlan) -> list[dict[str, Any]]:
        self.client.call("subscribe")
        self.create(*plans)
        return self.start(*plans)

    def exit_of(self, plan: ContainerPlan) -> dict[str, Any]:
        """Wait for the notice of its exit. Needs `run`."""
        while plan["id"] not in self._exits:
            notice = self.client.notice()
            if notice["event"] == "exited":
                self._exits[notice["container"]] = notice["exit"]
        return self._exits.pop(plan["id"])

    def output(self, plan: ContainerPlan) -> bytes:
        """Its stdout after it has ended."""
        self.exit_of(plan)
        return read_log(plan)["stdout"]

    def reconnect(self) -> None:
        self.client.close()
        self.client = Client.to_shim(self.run_dir)

    def shim_ended(self, timeout_s: float = 10.0) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def close(self) -> None:
        self.client.close()
        self.zygote.sweep(self.plan, keep_logs=False)
        shutil.rmtree(self.plan["log_directory"], ignore_errors=True)  # of one whose shim.json was gone already
        os.close(self.pidfd)


@pytest.fixture(scope="session")
def zygote() -> Iterator[ZygoteProcess]:
    with ZygoteProcess() as process:
        yield process
    Layout.detect().group(CGROUP).remove()


@pytest.fixture
def pods(zygote: ZygoteProcess, tmp_path: Path) -> Iterator[Callable[..., TestPod]]:
    """Make pods: pods(net="node", …) with changes to their sandbox's plan. At the end nothing of any is left."""
    made: list[TestPod] = []

    def make(**changes: Any) -> TestPod:
        made.append(TestPod(zygote, str(tmp_path), len(made) + 1, changes))
        return made[-1]

    yield make
    for pod in made:
        pod.close()
    deadline = time.monotonic() + 5.0  # a sweeper answers, and then ends
    while (left := remains(tmp_path, made)) and time.monotonic() < deadline:
        select.select([], [], [], 0.005)
    assert left == []


def remains(base: Path, pods: Sequence[TestPod]) -> list[str]:
    """Everything of these pods that is still there: mounts, groups, files, processes that hold a place of theirs."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        left = [f"mount {line.split()[4]}" for line in file if str(base) in line]
    left += [f"cgroup {pod.group.path}" for pod in pods if pod.group.exists()]
    left += [str(path) for path in base.rglob("*") if any(pod.id in path.parts for pod in pods)]
    return left + [f"process {line}" for line in command_lines() if any(pod.id in line for pod in pods)]


def command_lines() -> list[str]:
    lines = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            lines.append(f"{pid} {file.read().decode(errors='replace')}")
    return lines


@pytest.fixture
def pod(pods: Callable[..., TestPod]) -> TestPod:
    return pods().ready()
