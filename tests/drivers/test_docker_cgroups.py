"""How groups of pods on dockerd are named, who makes them, and what systemd is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.driver.contract import Limits
from podd.errors import PoddError, Unavailable
from podd.linux.cgroup import Layout
from podd.linux.cgroup.layout import Hierarchy
from podd_docker import groups, units
from podd_docker.host import Host

ID = "0123456789abcdef"
V2 = Layout((Hierarchy("/nowhere", 2, frozenset({"cpu", "memory", "pids"})),))
HYBRID = Layout((Hierarchy("/nowhere/unified", 2, frozenset()), Hierarchy("/nowhere/cpu", 1, frozenset({"cpu"}))))


def ways(layout: Layout = V2, parent: str = "") -> groups.Ways:
    return groups.Ways("docker", layout, parent)


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "parent", "pod", "told", "container"),
    [
        ("cgroupfs", "all", f"all/{ID}", f"/all/{ID}", f"all/{ID}/d"),
        ("cgroupfs", "a.slice", f"a.slice/{ID}", f"/a.slice/{ID}", f"a.slice/{ID}/d"),
        (
            "systemd",
            "",
            f"podd.slice/podd-{ID}.slice",
            f"podd-{ID}.slice",
            f"podd.slice/podd-{ID}.slice/docker-d.scope",
        ),
        (
            "systemd",
            "a-b.slice",
            f"a.slice/a-b.slice/a-b-{ID}.slice",
            f"a-b-{ID}.slice",
            f"a.slice/a-b.slice/a-b-{ID}.slice/docker-d.scope",
        ),
    ],
)
def test_names(driver: str, parent: str, pod: str, told: str, container: str) -> None:
    both = ways(parent=parent)
    way = both.chosen(driver)
    assert way.path(ID) == pod
    assert groups.as_parent(pod) == told
    assert groups.of_parent(told) == pod
    assert groups.of_container(pod, "d") == container
    assert both.of(pod) is way
    assert pod in both.paths(ID)


@pytest.mark.parametrize(
    ("layout", "parent", "driver", "why", "remedy"),
    [
        (V2, "", "none", '"none"', "native.cgroupdriver=cgroupfs"),
        (HYBRID, "", "systemd", "cgroups hybrid", "boot with cgroup v2 alone"),
        (V2, "podd/docker", "systemd", 'drivers.docker.cgroup_parent: "podd/docker"', "podd.slice"),
        (V2, "a.slice/b.slice", "systemd", "is no slice", "podd.slice"),
        (V2, "-.slice", "systemd", "is no slice", "podd.slice"),
    ],
)
def test_what_is_refused(layout: Layout, parent: str, driver: str, why: str, remedy: str) -> None:
    with pytest.raises(PoddError, match=why) as refusal:
        ways(layout, parent).chosen(driver)
    assert remedy in refusal.value.remedy


# ---- what systemd is told --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({}, {}),
        ({"cpu_quota_us": 50_000, "cpu_period_us": 100_000}, {"CPUQuotaPerSecUSec": 500_000}),
        ({"cpu_quota_us": 250_000}, {"CPUQuotaPerSecUSec": 2_500_000}),
        ({"cpu_shares": 2}, {"CPUWeight": 1}),
        ({"memory_bytes": 64 << 20}, {"MemoryMax": 64 << 20, "MemorySwapMax": 0}),
        ({"pids": 7, "memory_bytes": None}, {"TasksMax": 7}),
    ],
)
def test_limits_as_properties(limits: Any, told: dict[str, int]) -> None:
    free = dict.fromkeys(("CPUQuotaPerSecUSec", "MemoryMax", "MemorySwapMax", "TasksMax"), 2**64 - 1)
    expected = {"CPUWeight": 100, "CPUQuotaPeriodUSec": 100_000, **free, **told}
    words = units.properties(limits)
    assert {words[n]: int(words[n + 2]) for n in range(0, len(words), 3)} == expected
    assert set(words[1::3]) == {"t"}


@given(st.integers(1000, 10**9), st.integers(1000, 10**6))
def test_systemd_works_out_the_same_quota(quota: int, period: int) -> None:
    words = units.properties({"cpu_quota_us": quota, "cpu_period_us": period})
    told = int(words[words.index("CPUQuotaPerSecUSec") + 2])
    assert told * period // 1_000_000 == quota


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What systemctl and busctl are here: a file to write, executable."""
    path = tmp_path / "program"
    path.touch(0o755)
    for name in ("systemctl", "busctl"):
        os.symlink(path, tmp_path / name)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return path


def test_a_slice_is_begun_and_waited_for(program: Path) -> None:
    program.write_text(f'#!/bin/sh\necho "${{0##*/}}" "$@" >> {program}.said\n')
    units.start_slice("a-b.slice", {"pids": 5})
    first, second = Path(f"{program}.said").read_text().splitlines()
    assert "StartTransientUnit ssa(sv)a(sa(sv)) a-b.slice replace 9 Description s A pod of podd" in first
    assert first.endswith(" TasksMax t 5 0")
    assert second == "systemctl start a-b.slice"


def test_a_unit_that_is_not_there_has_stopped(program: Path) -> None:
    program.write_text("#!/bin/sh\nexit 5\n")
    units.stop("a.slice")
    with pytest.raises(Unavailable):
        units.set_limits("a.slice", {})


def test_a_systemd_that_refuses_is_quoted(program: Path) -> None:
    program.write_text("#!/bin/sh\necho 'no such bus' >&2\nexit 1\n")
    with pytest.raises(Unavailable, match="busctl call: no such bus"):
        units.start_slice("a.slice", {})


def test_a_host_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="there is no systemctl"):
        units.stop("a.slice")


@pytest.mark.root
def test_limits_are_changed_for_the_kernel_and_for_systemd_or_for_none(
    program: Path, tmp_path: Path, cgroup_parent: str
) -> None:
    host = Host("docker", f"{tmp_path}/run", cgroup_parent)
    group = host.group(f"{cgroup_parent}/podd-x.slice")
    group.create()
    program.write_text("#!/bin/sh\n")
    assert host.change_pod(group.path, Limits(pids=10)).pids == 10
    program.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(Unavailable):
        host.change_pod(group.path, Limits(pids=20))
    assert group.read_limits()["pids"] == 10
