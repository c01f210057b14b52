"""Drivers in corners of the host of their own, and what their tests ask the kernel."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from dockerd import Dockerd, a_dockerd, busybox, missing_of_systemd
from images.layouts import needs_program
from podd.driver.contract import Driver
from podd.driver.hookspecs import DriverPaths, ImagePlaces, NetworkPlaces
from podd.linux.cgroup import Layout
from podd.testing import audit
from podd.testing.contract import DriverContract
from podd.testing.contract_images import IMAGE_CONFIG
from podd.testing.lab import Lab, open_descriptors
from podd_docker.driver import DockerDriver
from podd_runc.driver import RuncDriver
from podd_setns.driver import SetnsDriver
from registry import Registry, registry

MakeDriver = Callable[[], Driver]

SLOW_S = 240.0
"""What dockerd may take on a machine that is emulated."""


@pytest.fixture
def cgroup_parent() -> Iterator[str]:
    parent = f"podd-test-{secrets.token_hex(4)}"
    yield parent
    group = Layout.everywhere().group(parent)
    group.kill_all()
    group.remove()


@pytest.fixture
def paths(tmp_path: Path) -> DriverPaths:
    """No network: the machine's own stays as it is."""
    images = f"{tmp_path}/images"
    return DriverPaths(
        run_dir=f"{tmp_path}/run",
        state_dir=f"{tmp_path}/state",
        log_dir=f"{tmp_path}/log",
        images=ImagePlaces(root=f"{images}/root", run_root=f"{images}/run", registries=f"{tmp_path}/registries.conf"),
        network=NetworkPlaces(conf_dir=f"{tmp_path}/cni.d"),
    )


# ---- images


@pytest.fixture(scope="session")
def one_image() -> Iterator[Registry]:
    """A registry with the image of the contract."""
    needs_program("busybox")
    with registry(busybox(), IMAGE_CONFIG) as one:
        yield one


@pytest.fixture
def remote_image(one_image: Registry, paths: DriverPaths) -> str:
    needs_program("skopeo")
    host = one_image.image.partition("/")[0]
    Path(paths.images.registries).write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
    return one_image.image


# ---- drivers


@pytest.fixture
def make_setns(paths: DriverPaths, cgroup_parent: str) -> Iterator[MakeDriver]:
    """Whatever the test does with its drivers, at its end nothing is left on the host but their empty directories."""
    for directory in (f"{paths.run_dir}/pods", f"{paths.state_dir}/containers", paths.log_dir):
        os.makedirs(directory)
    roots = [paths.run_dir, paths.state_dir]
    before = audit.snapshot(roots, cgroup_parent=cgroup_parent)
    yield lambda: SetnsDriver("setns", {"cgroup_parent": cgroup_parent}, paths)
    audit.until_clean(before, lambda: audit.snapshot(roots, cgroup_parent=cgroup_parent))


@pytest.fixture
def make_runc(paths: DriverPaths, cgroup_parent: str) -> Iterator[Callable[[str], MakeDriver]]:
    """By the runtime's name. As make_setns, and the runtime itself knows of no container either."""
    for directory in (f"{paths.run_dir}/runc/pods", f"{paths.state_dir}/runc/containers", paths.log_dir):
        os.makedirs(directory)
    Layout.everywhere().group(f"{cgroup_parent}/runc").create()
    roots = [paths.run_dir, paths.state_dir]
    before = audit.snapshot(roots, cgroup_parent=cgroup_parent)
    section = {"cgroup_parent": cgroup_parent}
    yield lambda runtime: lambda: RuncDriver("runc", {**section, "runtime": runtime}, paths)
    audit.until_clean(before, lambda: audit.snapshot(roots, cgroup_parent=cgroup_parent))


@pytest.fixture
async def lab(make_setns: MakeDriver, tmp_path: Path) -> AsyncIterator[Lab]:
    shared = tmp_path / "shared"
    shared.mkdir()
    before = open_descriptors()
    lab = Lab(make_setns, DriverContract().arrange, shared)
    await lab.enter()
    yield lab
    await lab.close()
    more = {fd: what for fd, what in open_descriptors().items() if before.get(fd) != what}
    assert not more, f"descriptors that the driver has left open: {more}"


# ---- docker


dockerd = pytest.fixture(scope="session")(a_dockerd)


@pytest.fixture
def make_docker(dockerd: Dockerd, paths: DriverPaths, cgroup_parent: str) -> Iterator[MakeDriver]:
    yield from _docker(dockerd, paths, cgroup_parent)


@pytest.fixture
def make_docker_with_runtime(dockerd: Dockerd, paths: DriverPaths, cgroup_parent: str) -> Iterator[MakeDriver]:
    yield from _docker(dockerd, paths, cgroup_parent, runtime="podd")


@pytest.fixture(scope="session")
def dockerd_by_systemd() -> Iterator[Dockerd]:
    """It has systemd make cgroups, as it does by itself where there is cgroup v2 alone."""
    if why := missing_of_systemd():
        pytest.skip(why)
    yield from a_dockerd(cgroups="systemd")


@pytest.fixture
def make_docker_by_systemd(dockerd_by_systemd: Dockerd, paths: DriverPaths) -> Iterator[MakeDriver]:
    slice_of_all = f"podd_test_{secrets.token_hex(4)}.slice"
    try:
        yield from _docker(dockerd_by_systemd, paths, slice_of_all, deadline_s=SLOW_S)
    finally:
        subprocess.run(["systemctl", "stop", slice_of_all], check=True)


def _docker(dockerd: Dockerd, paths: DriverPaths, cgroup_parent: str, **more: object) -> Iterator[MakeDriver]:
    """As make_setns; dockerd's own list is looked at, too."""
    for directory in (f"{paths.run_dir}/docker/sandboxes", paths.state_dir, paths.log_dir):
        os.makedirs(directory)
    roots = [paths.run_dir, paths.state_dir]
    before = audit.snapshot(roots, cgroup_parent=cgroup_parent)
    section = {**dockerd.section, "cgroup_parent": cgroup_parent, **more}
    yield lambda: DockerDriver("docker", section, paths)
    assert [one["Names"] for one in dockerd.containers() if paths.run_dir in one["Labels"].values()] == []
    audit.until_clean(before, lambda: audit.snapshot(roots, cgroup_parent=cgroup_parent))
