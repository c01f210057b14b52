"""Pods that an OCI runtime or a dockerd makes, beside those of podd's own driver, and two drivers' contracts.

crun takes no hybrid control groups, and dockerd has systemd make its own only on cgroup v2 alone, so this machine is
where these parts of the tests are run.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

from machine import (
    CONFIG,
    EXAMPLES,
    HURRIED,
    KEPT,
    PODS,
    UNIT,
    apply,
    cli,
    containers,
    group_of,
    is_pure,
    look,
    main_pid,
    pids,
    pods,
    restarts,
    run,
    systemd,
    unified,
    until,
)

from podd.testing import audit

TESTS = Path("/opt/tests")
MIB = 1 << 20
COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"
IMAGE = "busybox:local"
CGROUPFS = {"exec-opts": ["native.cgroupdriver=cgroupfs"]}
PLACES = {"systemd": "podd.slice", "cgroupfs": f"{UNIT}/pods-docker"}
"""Where pods on dockerd are, by its cgroup driver."""

OWN = (
    *KEPT,
    r"^process: .* \(/usr/(s?bin/(dockerd|containerd)|bin/docker-proxy)",
    r"^(file|cgroup): .*/(runc|crun|classes|docker)(/|$)",
)
"""Drivers of which a pod has run keep their places."""


def check_runtimes_are_found() -> None:
    CONFIG.write_text(f'{CONFIG.read_text()}\n[runtime_classes.crun]\ndriver = "runc"\nruntime = "crun"\n')
    cli("reload")
    found = {one["name"]: one for one in json.loads(cli("drivers", "-o", "json"))}
    assert found["runc"]["usable"], found["runc"]
    assert found["runc"]["version"].startswith("runc 1."), found["runc"]
    if is_pure():
        assert found["crun"]["usable"], found["crun"]
        assert found["crun"]["version"].startswith("crun 1."), found["crun"]
    else:
        assert "hybrid mode" in found["crun"]["reason"], found["crun"]


def check_a_dockerd_that_is_not_there_is_told_of() -> None:
    docker = _driver("docker")
    assert not docker["usable"], docker
    assert docker["remedy"], docker


def check_examples_run_on_runc() -> None:
    _examples_run_on("runc")


def check_examples_run_on_crun() -> None:
    if is_pure():
        _examples_run_on("crun")


def _examples_run_on(name: str) -> None:
    before = look()
    for manifest in sorted(file for file in EXAMPLES.glob("*.yaml") if file.stem not in HURRIED):
        text = manifest.read_text().replace("\nspec:\n", f"\nspec:\n  runtimeClassName: {name}\n", 1)
        cli("apply", "-f", "-", "--wait", stdin=text)
    assert {pod["spec"]["runtimeClassName"] for pod in pods().values()} == {name}
    assert {pod["status"]["phase"] for pod in pods().values()} == {"Running"}, cli("get", "pods")
    cli("delete", "pods", "--all", "--grace-period", "2")
    audit.assert_clean(before, look(), ignoring=OWN)


def check_a_life_on_runc() -> None:
    _a_life_on("runc", image="rootfs:/")


def check_a_life_on_crun() -> None:
    if is_pure():
        _a_life_on("crun", image="rootfs:/")


def check_dockerd_comes() -> None:
    run("systemctl", "start", "docker.service")
    run("docker", "import", "-", IMAGE, stdin=_busybox())
    until(lambda: _usable("docker"), "the driver finds it")


def check_a_life_on_docker() -> None:
    """As Debian has it: where there is cgroup v2 alone, systemd makes the groups of containers."""
    _a_life_on_docker("systemd" if is_pure() else "cgroupfs")


def check_all_pods_on_docker_can_be_bounded_together() -> None:
    if is_pure():
        bound = unified() / "podd.slice/memory.max"
        run("systemctl", "set-property", "--runtime", "podd.slice", "MemoryMax=1G")
        assert bound.read_text() == f"{1 << 30}\n"
        run("systemctl", "revert", "podd.slice")


def check_a_life_on_docker_with_groups_of_podds() -> None:
    if is_pure():
        file = Path("/etc/docker/daemon.json")
        file.write_text(json.dumps(CGROUPFS))
        run("systemctl", "restart", "docker.service")
        _a_life_on_docker("cgroupfs")
        file.unlink()
        run("systemctl", "restart", "docker.service")


def check_a_life_on_docker_with_podds_runtime() -> None:
    """Members are held until all can start, and share uts, too."""
    plain = CONFIG.read_text()
    cli("docker", "setup", "--write")
    CONFIG.write_text(f'{plain}\n[drivers.docker]\nruntime = "podd"\n')
    run("systemctl", "restart", "docker.service", "podd.service")
    until(lambda: _shares_uts("docker"), "the driver finds it")
    _a_life_on_docker("systemd" if is_pure() else "cgroupfs")
    CONFIG.write_text(plain)
    Path("/etc/docker/daemon.json").unlink()
    run("systemctl", "restart", "docker.service", "podd.service")
    until(lambda: _usable("docker"), "the driver finds it")
    assert not _shares_uts("docker")


def _a_life_on_docker(cgroup_driver: str) -> None:
    assert run("docker", "info", "--format", "{{.CgroupDriver}}").strip() == cgroup_driver
    _a_life_on("docker", image=IMAGE, parent=PLACES[cgroup_driver])
    assert run("docker", "ps", "-aq") == ""
    assert run("systemctl", "list-units", "--all", "--plain", "--no-legend", "podd-*.slice", "docker-*.scope") == ""


def check_pods_of_all_live_side_by_side() -> None:
    names = [name for name in ("setns", "runc", "crun", "docker") if name != "crun" or is_pure()]
    for name in names:
        image = IMAGE if name == "docker" else "rootfs:/"
        member = {"name": "c", "image": image, "command": ["sleep", "1000000"]}
        apply(f"on-{name}", member, runtimeClassName=name, terminationGracePeriodSeconds=1)
    before, podd = pids(), main_pid()
    assert len(before) == len(names)
    os.kill(podd, 9)
    until(lambda: main_pid() not in (0, podd) and systemd("ActiveState") == "active", "systemd starts it again")
    until(lambda: pids() == before, "the same processes are found")
    assert restarts() == 0
    for name in names:
        assert cli("exec", f"on-{name}", "--", "echo", "there") == "there\n"
    cli("delete", "pods", "--all")


def check_dockerd_goes() -> None:
    run("systemctl", "stop", "docker.service", "docker.socket", "containerd.service")


def check_crun_keeps_the_contract() -> None:
    """And what its members may do is what they may on setns."""
    if is_pure():
        _tests("crun or Crun", "test_runc.py", "test_runc_pod.py")


def check_docker_with_groups_of_systemds_keeps_the_contract() -> None:
    """But for cancelling each verb at each of its awaits, which takes as long as all the rest."""
    if is_pure():
        _tests("BySystemd and not cancelled", "test_docker.py")


def _tests(which: str, *files: str) -> None:
    paths = [TESTS / "source/tests/drivers" / name for name in files]
    words = ("-q", "-rs", "-k", which, "-o", "timeout=600", "-p", "no:cacheprovider")
    said = run(TESTS / "bin/python", "-m", "pytest", *words, *paths, limit_s=3600)
    print(said[-2000:], flush=True)
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|skipped)", said.splitlines()[-1])}
    assert counts["passed"] > counts.get("skipped", 0), "a tool that is missing skips them all"


def _usable(name: str) -> bool:
    return bool(_driver(name)["usable"])


def _shares_uts(driver: str) -> bool:
    return bool(_driver(driver)["capabilities"].get("shared_uts"))


def _driver(name: str) -> dict[str, Any]:
    (found,) = [one for one in json.loads(cli("drivers", "-o", "json")) if one["name"] == name]
    return dict(found)


def _a_life_on(name: str, *, image: str, parent: str = PODS) -> None:
    before = look(parent)
    limits = {"resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}
    counts = {"name": "counts", "image": image, "command": ["sh", "-c", COUNT], **limits}
    other = {"name": "other", "image": image, "command": ["sleep", "1000000"], **limits}
    apply("life", counts, other, runtimeClassName=name, terminationGracePeriodSeconds=1)
    _is_as_planned(name, parent)
    assert cli("exec", "life", "-c", "other", "--", "echo", "there") == "there\n"
    cli("exec", "life", "-c", "other", "--", "sh", "-c", "exit 7", status=7)
    until(lambda: len(cli("logs", "life", "-c", "counts").split()) > 5, "it has counted")
    lines = cli("logs", "life", "-c", "counts").split()
    assert lines == [str(n) for n in range(1, len(lines) + 1)]
    assert "counts" in cli("stats", "life")
    cli("pause", "life")
    cli("resume", "life")
    cli("stop", "life")
    assert containers("life")["other"]["state"]["terminated"]["exitCode"] == 137
    cli("delete", "pod", "life")
    audit.assert_clean(before, look(parent), ignoring=OWN)


def _is_as_planned(driver: str, parent: str) -> None:
    first, second = pids("life").values()
    for kind in ("net", "ipc", "uts") if _shares_uts(driver) else ("net", "ipc"):
        assert os.readlink(f"/proc/{first}/ns/{kind}") == os.readlink(f"/proc/{second}/ns/{kind}"), kind
    assert os.readlink(f"/proc/{first}/ns/pid") != os.readlink(f"/proc/{second}/ns/pid")
    if is_pure():
        assert unified() / parent in group_of(first).parents, group_of(first)
        assert (group_of(first) / "memory.max").read_text() == f"{64 * MIB}\n"
        assert (group_of(first) / "cpu.max").read_text() == "50000 100000\n"
    filters = [line for line in Path(f"/proc/{first}/status").read_text().splitlines() if line.startswith("Seccomp:")]
    assert filters == ["Seccomp:\t2"]


def _busybox() -> bytes:
    """An image: busybox and the names it goes by."""
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for name in ("sh", "sleep", "echo"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return archive.getvalue()
