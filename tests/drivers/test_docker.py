"""The docker driver keeps the contract on a real dockerd."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import pytest
from blockbuster import blockbuster_ctx
from msgspec.structs import replace
from networked import place

from dockerd import IMAGE, Dockerd, a_dockerd
from podd.driver.contract import Driver, Handle, Limits
from podd.driver.hookspecs import DriverPaths
from podd.testing.contract import DriverContract, until_gone
from podd.testing.contract_network import Network
from podd.testing.lab import Lab
from podd_docker.driver import DockerDriver

MIB = 1 << 20


@pytest.mark.root
@pytest.mark.slow
class TestDocker(DriverContract):
    image = IMAGE

    @pytest.fixture(autouse=True)
    def nothing_blocks_the_event_loop(self) -> Iterator[None]:
        with blockbuster_ctx("podd_docker"):
            yield

    @pytest.fixture
    def make_driver(self, make_docker: Callable[[], Driver]) -> Callable[[], Driver]:
        return make_docker

    @pytest.fixture
    def remote(self, remote_image: str) -> str:
        return remote_image

    async def lose(self, sandbox: Handle) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(sandbox.state["pid"], signal.SIGKILL)
        await until_gone(sandbox.state["pid"])


@pytest.mark.root
@pytest.mark.slow
class TestDockerWithRuntime(TestDocker):
    """With podd's OCI runtime below dockerd: members are held, and share uts."""

    @pytest.fixture
    def make_driver(self, make_docker_with_runtime: Callable[[], Driver]) -> Callable[[], Driver]:
        return make_docker_with_runtime

    @pytest.fixture
    def remote(self) -> str:
        pytest.skip("who runs what dockerd makes has no part in its images")

    async def test_members_have_one_uts_namespace(self, lab: Lab) -> None:
        made = await lab.sandbox(hostname="shared")
        held = [(await lab.created(made.handle)).observed for _ in range(2)]
        assert {one.namespaces["uts"] for one in held if one} == {made.observed.namespaces["uts"]}


@pytest.mark.root
@pytest.mark.slow
class TestDockerBySystemd(TestDocker):
    """systemd makes the cgroups."""

    @pytest.fixture
    def make_driver(self, make_docker_by_systemd: Callable[[], Driver]) -> Callable[[], Driver]:
        return make_docker_by_systemd

    async def test_limits_of_a_pod_outlast_a_reload_of_systemd(self, lab: Lab) -> None:
        limits = Limits(cpu_quota_us=30_000, memory_bytes=48 * MIB, pids=70)
        made = await lab.sandbox(limits=limits)
        assert made.observed.limits == limits
        for pids in (70, 71):
            changed = await lab.driver.resize_sandbox(made.handle, replace(limits, pids=pids))
            await anyio.run_process(["systemctl", "daemon-reload"])
            status = await lab.driver.sandbox_status(made.handle)
            assert status.observed is not None
            assert changed == status.observed.limits == replace(limits, pids=pids)


@pytest.fixture(scope="module")
def bridged() -> Iterator[Dockerd]:
    """One that has a network namespace to itself."""
    with place() as there:
        yield from a_dockerd(network=there.host)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.anyio
class TestDockerConnected(Network):
    """By the bridge of a dockerd."""

    real_processes = True

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    async def lab(self, bridged: Dockerd, paths: DriverPaths, cgroup_parent: str, tmp_path: Path) -> AsyncIterator[Lab]:
        section = {**bridged.section, "cgroup_parent": cgroup_parent}
        shared = tmp_path / "shared"
        shared.mkdir()
        lab = Lab(lambda: DockerDriver("docker", section, paths), TestDocker().arrange, shared)
        await lab.enter()
        yield lab
        await lab.close()
        assert bridged.containers() == []
