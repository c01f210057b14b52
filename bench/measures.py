"""What is measured of podd alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import processes
from effort import Effort
from figures import Row
from subject import Podd
from wire import Wire, encode, null_stdio

AT_A_TIME = 8
LIFE = "CPU of a start and a delete, all processes"


def start_and_delete(podd: Podd, effort: Effort) -> list[Row]:
    started, deleted, skewed = [], [], []
    lives = effort.warm_up + effort.rounds
    with Wire(podd.socket) as wire:
        apply(wire, podd.manifest("first"))
        wire.call("Delete", name="first", now=True)
        before = podd.cpu_ms()
        for number in range(lives):
            name = f"life-{number}"
            started.append(_timed_ms(lambda name=name: apply(wire, podd.manifest(name))))  # type: ignore[misc]
            skewed.append(wire.call("Get", name=name)["pod"]["status"]["podd"]["startSkewUs"] / 1e3)
            deleted.append(_timed_ms(lambda name=name: wire.call("Delete", name=name, now=True)))  # type: ignore[misc]
        time.sleep(effort.settle_s)
        used = podd.cpu_ms()
        apply(wire, podd.manifest("switched"))
        switched = _samples_ms(lambda: _stop_and_start(wire, "switched"), effort)
        wire.call("Delete", name="switched", now=True)
    cpu = [] if before is None or used is None else [Row(LIFE, "ms", [(used - before) / lives])]
    return [
        Row("start, request to last release", "ms", started[effort.warm_up :], most=25),
        Row("start skew, first to last release", "ms", skewed[effort.warm_up :], most=0.5),
        Row("delete, grace 0", "ms", deleted[effort.warm_up :], most=25),
        Row("stop with grace 0, and start", "ms", switched),
        *cpu,
    ]


def start_on_runc(podd: Podd, effort: Effort) -> list[Row]:
    """The first figures of `start_and_delete`, of a podd whose pods are made by runc."""
    most = {"start, request to last release": 120.0}
    rows = start_and_delete(podd, effort)
    return [replace(row, name=f"runc: {row.name}", most=most.get(row.name)) for row in rows]


def _stop_and_start(wire: Wire, name: str) -> None:
    wire.call("Stop", name=name, now=True)
    wire.call("Start", name=name)


def parallel(podd: Podd, effort: Effort) -> list[Row]:
    """One client, one connection a pod: all requests are on their way before the first answer is read."""
    rates = []
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(podd.socket)) for _ in range(AT_A_TIME)]
        for number in range(effort.warm_up + effort.batches):
            names = [f"batch-{number}-{i}" for i in range(AT_A_TIME)]
            began = time.perf_counter()
            for wire, name in zip(wires, names, strict=True):
                wire.send(_apply_message(podd.manifest(name)))
            for wire in wires:
                _expect_running(wire.receive())
            rates.append(AT_A_TIME / (time.perf_counter() - began))
            for name in names:
                wires[0].call("Delete", name=name, now=True)
    return [Row(f"pods started {AT_A_TIME} at a time", "pods/s", rates[effort.warm_up :], least=60)]


def exec_true(podd: Podd, effort: Effort) -> list[Row]:
    with Wire(podd.socket) as wire:
        apply(wire, podd.manifest("host"))
        stdio = null_stdio()
        fds = {"stdin_fd": 0, "stdout_fd": 1, "stderr_fd": 2}
        call = encode("Exec", {"name": "host", "container": "c0", "argv": ["true"], **fds}, more=True)

        def by_socket() -> None:
            wire.send(call, stdio)
            assert wire.receive()["exit_code"] == 0

        direct = _samples_ms(by_socket, effort)
        command = _samples_ms(lambda: podd.cli("exec", "host", "-c", "c0", "--", "true"), effort)
        for fd in stdio:
            os.close(fd)
        wire.call("Delete", name="host", now=True)
    return [
        Row("exec true", "ms", direct),
        Row("podd-cli exec POD -- true", "ms", command, most=100),
    ]


def density(podd: Podd, effort: Effort) -> list[Row]:
    """With many pods, on a podd that has had none yet."""
    time.sleep(effort.settle_s)
    rows = _daemon_memory(podd, "no pod", most_mib=None)
    with Wire(podd.socket) as wire:
        for number in range(effort.pods):
            apply(wire, podd.manifest(f"dense-{number}"))
        many = f"{effort.pods} pods"
        python = [sys.executable, "-c", "pass"]
        bare = _samples_ms(lambda: subprocess.run(python, check=True, env=podd.environment), effort)
        listed = _samples_ms(lambda: podd.cli("get", "pods"), effort)
        rows += [Row(f"podd-cli get pods, {many}", "ms", listed, most=80), Row("python -c pass", "ms", bare)]
        time.sleep(effort.settle_s)
        pods = wire.call("List")["pods"]
    parents = processes.parents()
    shims = {pod["metadata"]["name"]: podd.shims(pod, parents) for pod in pods}
    zygotes = podd.zygotes(parents)
    share = sum(map(processes.pss_kib, zygotes)) / len(pods)
    each = [(sum(map(processes.pss_kib, of_pod)) + share) / 1024 for of_pod in shims.values()]
    rows.append(Row(f"PSS of a pod's supervisor, {many}", "MiB", each, most=1.6))
    rows += _daemon_memory(podd, many, most_mib=80)
    return rows + _idle([podd.pid, *zygotes, *(pid for of_pod in shims.values() for pid in of_pod)], effort)


def _daemon_memory(podd: Podd, when: str, *, most_mib: float | None) -> list[Row]:
    return [
        Row(f"PSS of the daemon, {when}", "MiB", [processes.pss_kib(podd.pid) / 1024]),
        Row(f"RSS of the daemon, {when}", "MiB", [processes.rss_kib(podd.pid) / 1024], most=most_mib),
    ]


def _idle(pids: list[int], effort: Effort) -> list[Row]:
    """pids: the daemon, its zygote, and all shims."""
    began = time.perf_counter()
    before = processes.cpu_s(pids)
    time.sleep(effort.idle_s)
    exact, ticks = processes.spent_s(before, processes.cpu_s(pids))
    percent = 100 / (time.perf_counter() - began)
    name = f"idle CPU, {effort.pods} pods"
    return [
        Row(f"{name}, scheduler's clock", "% core", [exact * percent], most=0.5),
        Row(f"{name}, utime + stime", "% core", [ticks * percent]),
    ]


# ---- steps


def apply(wire: Wire, manifest: str) -> None:
    """Returns when its members have been released. Raises RuntimeError: they have not."""
    wire.send(_apply_message(manifest))
    _expect_running(wire.receive())


def _apply_message(manifest: str) -> bytes:
    return encode("Apply", {"manifest": manifest, "wait": True})


def _expect_running(reply: dict[str, Any]) -> None:
    (result,) = reply["results"]
    if result["phase"] != "Running":
        raise RuntimeError(f"{result['name']}: {result['phase']}: {result['reason']}: {result['message']}")


def _timed_ms(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1e3


def _samples_ms(act: Callable[[], object], effort: Effort) -> list[float]:
    return [_timed_ms(act) for _ in range(effort.warm_up + effort.rounds)][effort.warm_up :]
