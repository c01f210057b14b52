"""How long the parts of a pod's start and end take in the shim alone, and what a shim costs in memory.

    python bench/shim_latency.py [pods]      as root; prints medians in milliseconds, and KiB a shim

Each pod has three members with limits, on the host's own root as lower layer. No daemon, no seccomp filter.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from podd.linux.cgroup import Layout
from podd.shim.plan import ContainerPlan, SandboxPlan
from podd.testing.shim import Client, ZygoteProcess, container_plan, sandbox_plan

MEMBERS = ("one", "two", "three")
LIMITS = {"memory_bytes": 256 << 20, "cpu_quota_us": 100_000, "pids": 100}
RUN = "/dev/shm"  # a tmpfs, as /run is
TIMED = ("sandbox", "create 3", "start 3", "skew", "shutdown")


class Pod(NamedTuple):
    client: Client
    pidfd: int
    members: list[ContainerPlan]


def start(zygote: ZygoteProcess, base: str, number: int, took: dict[str, list[float]]) -> Pod:
    name = f"bench{number:04}"
    plan: SandboxPlan = sandbox_plan(base, name, limits=LIMITS, run_dir=f"{RUN}/{os.path.basename(base)}/pods/{name}")
    members = [container_plan(base, plan["id"], name, ["sleep", "1000"], limits=LIMITS) for name in MEMBERS]

    def timed(what: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        result = work()
        took[what].append(time.perf_counter() - begun)
        return result

    def make_sandbox() -> tuple[Client, int]:
        client, pidfd = zygote.fork(plan)
        client.answer(0)
        return client, pidfd

    client, pidfd = timed("sandbox", make_sandbox)

    def create() -> None:
        for request in [client.ask("create_container", container=member) for member in members]:
            client.answer(request)

    timed("create 3", create)
    started = timed("start 3", lambda: client.call("start", containers=[member["id"] for member in members]))
    released = [report["released_ns"] for report in started["started"]]
    took["skew"].append((max(released) - min(released)) / 1e9)
    return Pod(client, pidfd, members)


def pss_kib(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def main(count: int) -> None:
    took: dict[str, list[float]] = {what: [] for what in TIMED}
    base = tempfile.mkdtemp(prefix="podd-bench-")
    with ZygoteProcess() as zygote:
        pods = [start(zygote, base, number, took) for number in range(count)]
        shims = [pod.client.call("status")["sandbox"]["shim_pid"] for pod in pods]
        before = sum(map(cpu_ticks, shims))
        time.sleep(2.0)
        idle = sum(map(cpu_ticks, shims)) - before
        pss = [pss_kib(pid) for pid in shims]
        zygote_pss = pss_kib(zygote.process.pid)
        for pod in pods:
            begun = time.perf_counter()
            pod.client.call("shutdown")
            took["shutdown"].append(time.perf_counter() - begun)
            pod.client.close()
            os.close(pod.pidfd)
    for what, seconds in took.items():
        ms = [1e3 * second for second in seconds]
        print(f"{what:10} best {min(ms):7.2f}   median {statistics.median(ms):7.2f}   worst {max(ms):7.2f} ms")
    print(f"memory     median {statistics.median(pss):7.0f} KiB PSS a shim of {count}, zygote {zygote_pss} KiB")
    print(f"idle       {idle} ticks of CPU in 2 s for {count} shims")
    shutil.rmtree(base)
    shutil.rmtree(f"{RUN}/{os.path.basename(base)}")
    Layout.detect().group("podd-test").remove()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
