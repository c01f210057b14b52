"""How long a driver with shims takes, without the engine: request to held, to released, and to gone. Needs root.

python bench/driver_latency.py [--runtime runc] [--rounds 30] [--members 3] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import os
import platform
import pstats
import secrets
import statistics
import tempfile
import time
from collections.abc import Sequence

import anyio

from podd.driver.contract import ContainerConfig, ExecRequest, Handle, Limits, SandboxConfig
from podd.driver.hookspecs import DriverPaths, NetworkPlaces
from podd.linux.cgroup import Layout
from podd.model.ids import ContainerId, PodUid, SandboxId
from podd.supervision.driver import ShimDriver
from podd_runc.driver import RuncDriver
from podd_setns.driver import SetnsDriver

LIMITS = Limits(cpu_quota_us=50_000, memory_bytes=64 << 20, pids=64)


def sandbox_config() -> SandboxConfig:
    return SandboxConfig(
        id=SandboxId(secrets.token_hex(8)),
        pod_uid=PodUid("00000000-0000-0000-0000-000000000000"),
        pod_name="bench",
        pod_namespace="default",
        attempt=0,
        hostname="bench",
        limits=Limits(memory_bytes=256 << 20, pids=512),
    )


def container_config(sandbox: SandboxId, number: int, log_dir: str) -> ContainerConfig:
    return ContainerConfig(
        id=ContainerId(secrets.token_hex(8)),
        sandbox_id=sandbox,
        name=f"c{number}",
        attempt=0,
        image="rootfs:/",
        command=("sleep", "3600"),
        limits=LIMITS,
        log_path=f"{log_dir}/{number}.log",
    )


class Pod:
    """One pod's life, timed."""

    def __init__(self, driver: ShimDriver, members: int, log_dir: str) -> None:
        self._driver, self._members, self._log_dir = driver, members, log_dir
        self._handles: dict[int, Handle] = {}
        self.took: dict[str, float] = {}
        self.skew_us = 0.0

    async def live(self) -> None:
        cpu_began = time.process_time()
        config = sandbox_config()
        try:
            await self._run(config)
        finally:
            began = time.perf_counter()
            await self._driver.destroy_sandbox(config.id)
            self._mark("gone", began)
        self.took["cpu here"] = (time.process_time() - cpu_began) * 1e3

    async def _run(self, config: SandboxConfig) -> None:
        began = time.perf_counter()
        created = await self._driver.create_sandbox(config)
        self._mark("sandbox", began)
        async with anyio.create_task_group() as tasks:
            for number in range(self._members):
                tasks.start_soon(self._create, created.handle, number)
        self._mark("held", began)
        members = [self._handles[number] for number in range(self._members)]
        started = await self._driver.start_containers(members)
        self._mark("released", began)
        assert not any(one.error for one in started), started
        released = [one.released_ns for one in started]
        self.skew_us = (max(released) - min(released)) / 1e3
        await self._exec(members[0])

    async def _create(self, sandbox: Handle, number: int) -> None:
        config = container_config(SandboxId(sandbox.id), number, self._log_dir)
        self._handles[number] = (await self._driver.create_container(sandbox, config)).handle

    async def _exec(self, container: Handle) -> None:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        began = time.perf_counter()
        exec_id, _ = await self._driver.exec_start(container, ExecRequest(argv=("true",)), (null, null, null))
        await self._driver.exec_wait(container, exec_id)
        self._mark("exec true", began)
        os.close(null)

    def _mark(self, what: str, since: float) -> None:
        self.took[what] = (time.perf_counter() - since) * 1e3


def driver_of(runtime: str, parent: str, paths: DriverPaths) -> ShimDriver:
    if not runtime:
        return SetnsDriver("setns", {"cgroup_parent": parent}, paths)
    return RuncDriver("runc", {"cgroup_parent": parent, "runtime": runtime}, paths)


async def measure(rounds: int, members: int, runtime: str, directory: str) -> None:
    paths = DriverPaths(
        run_dir=f"{directory}/run",
        state_dir=f"{directory}/state",
        log_dir=f"{directory}/log",
        network=NetworkPlaces(conf_dir=f"{directory}/cni.d"),
    )
    parent = f"podd-bench-{os.getpid()}"
    async with driver_of(runtime, parent, paths) as driver:
        health = await driver.probe()
        print(f"{health.version}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
        pods: list[Pod] = []
        for _ in range(rounds + 3):
            pods.append(Pod(driver, members, paths.log_dir))
            await pods[-1].live()
        report([pod.took | {"skew": pod.skew_us / 1e3} for pod in pods[3:]])
        began = time.perf_counter()
        batch = 8
        async with anyio.create_task_group() as tasks:
            for _ in range(batch):
                tasks.start_soon(Pod(driver, members, paths.log_dir).live)
        took = time.perf_counter() - began
        print(f"{batch} pods at a time, whole lives: {batch / took:.0f} pods/s")
    Layout.everywhere().group(parent).remove()


def report(rows: Sequence[dict[str, float]]) -> None:
    """cpu here: of this process for the whole life of a pod; the rest of the time is the kernel's and the shim's."""
    for what in rows[0]:
        values = sorted(row[what] for row in rows)
        high = values[int(len(values) * 0.95)]
        print(f"{what:10} median {statistics.median(values):7.2f} ms   p95 {high:7.2f} ms   min {values[0]:7.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runtime", default="", help="the OCI runtime that makes containers; without it, the shim")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="show where the daemon's side spends its time")
    args = parser.parse_args()
    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory(prefix="podd-bench-") as directory:
        os.mkdir(f"{directory}/state")
        if args.profile:
            profile.enable()
        anyio.run(measure, args.rounds, args.members, args.runtime, directory)
        profile.disable()
    if args.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
