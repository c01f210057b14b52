"""A pod whose members are made by runc: as one without a runtime, and runc's own view of it is true."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from podd.driver.contract import Driver, Handle, Limits, Security
from podd.driver.hookspecs import DriverPaths, NetworkPlaces
from podd.errors import Invalid, PoddError
from podd.linux.cgroup import Layout
from podd.model.ids import ContainerId
from podd.testing.contract import DriverContract
from podd.testing.lab import SHARED, Act, Lab, exits
from podd_runc.runtime import find
from podd_setns.driver import SetnsDriver

pytestmark = [pytest.mark.root, pytest.mark.anyio]

MakeDriver = Callable[[], Driver]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def lab_of(make: MakeDriver, folder: Path) -> Lab:
    folder.mkdir()
    return Lab(make, DriverContract().arrange, folder)


@pytest.fixture(params=["runc", "crun"])
def runtime(request: pytest.FixtureRequest) -> str:
    try:
        find("runc", request.param, Layout.detect())
    except PoddError as exc:
        pytest.skip(exc.message)
    return str(request.param)


def listed(runtime: str, paths: DriverPaths, sandbox: Handle) -> dict[str, str]:
    """What a runtime says of a sandbox's containers."""
    root = f"{paths.run_dir}/runc/pods/{sandbox.id}/runtime"
    done = subprocess.run([runtime, "--root", root, "list", "-f", "json"], capture_output=True, text=True, check=True)
    return {one["id"]: one["status"] for one in json.loads(done.stdout) or []}


def mounted(part: str) -> bool:
    return part in Path("/proc/self/mountinfo").read_text()


async def test_the_runtimes_list_tells_the_truth(
    make_runc: Callable[[str], MakeDriver], paths: DriverPaths, tmp_path: Path, runtime: str
) -> None:
    lab = lab_of(make_runc(runtime), tmp_path / "shared")
    await lab.enter()
    box = (await lab.sandbox()).handle
    held, runs = (await lab.created(box)).handle, await lab.started(box)
    ended = await lab.started(box, exits(3))
    await lab.driver.wait_container(ended)
    assert listed(runtime, paths, box) == {held.id: "created", runs.id: "running", ended.id: "stopped"}
    assert not mounted(f"{box.id}/bundles"), "the host's mount table is as before"
    for one in (held, runs, ended):
        await lab.driver.destroy_container(box, ContainerId(one.id))
    assert listed(runtime, paths, box) == {}
    await lab.close()


LOOKS = f"""
exec > {SHARED}/seen.new
grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status
cat /proc/kcore | wc -c
for file in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_seqnum; do
    (: >> $file) 2>/dev/null && echo "$file can be written"
done
ls /sys/firmware | wc -l
awk '$5 == "{SHARED}" {{ print $5, $6 }}' /proc/self/mountinfo
ls /proc/self/fd | wc -l
ulimit -a
umask
ls /dev | grep -v -e console -e core
(: < /dev/null) && (: > /dev/full) && echo devices
env | sort | grep -v -e PWD -e SHLVL -e ^_=
mv {SHARED}/seen.new {SHARED}/seen
"""


@pytest.mark.parametrize(
    "security",
    [
        Security(),
        Security(uid=1234, gid=7, supplemental_groups=(8, 9), no_new_privileges=True),
        Security(read_only_rootfs=True, capabilities_drop=("ALL",), capabilities_add=("NET_ADMIN",)),
        Security(seccomp="unconfined", unmasked_proc=True),
    ],
    ids=["default", "user", "least", "open"],
)
async def test_what_a_member_may_do_is_what_it_may_without_a_runtime(
    make_runc: Callable[[str], MakeDriver], cgroup_parent: str, tmp_path: Path, runtime: str, security: Security
) -> None:
    places = {f"{kind}_dir": f"{tmp_path}/own/{kind}" for kind in ("run", "state", "log")}
    own = DriverPaths(**places, network=NetworkPlaces(conf_dir=f"{tmp_path}/cni.d"))
    (tmp_path / "own" / "state").mkdir(parents=True)
    seen = []
    setns: MakeDriver = lambda: SetnsDriver("setns", {"cgroup_parent": cgroup_parent}, own)  # noqa: E731
    for name, make in (("setns", setns), ("runtime", make_runc(runtime))):
        folder = tmp_path / name
        lab = lab_of(make, folder)
        folder.chmod(0o777)
        await lab.enter()
        member = await lab.started((await lab.sandbox()).handle, Act(LOOKS), security=security)
        assert (await lab.driver.wait_container(member)).code == 0
        seen.append((folder / "seen").read_text())
        await lab.close()
    assert seen[0] == seen[1]
    assert ("Seccomp:\t0" if security.seccomp == "unconfined" else "Seccomp:\t2") in seen[1]


@pytest.mark.parametrize("limits", [Limits(pids=1), Limits(memory_bytes=16 << 20)], ids=["pids", "memory"])
async def test_a_tight_limit_is_the_members_and_not_the_runtimes(
    make_runc: Callable[[str], MakeDriver], tmp_path: Path, runtime: str, limits: Limits
) -> None:
    lab = lab_of(make_runc(runtime), tmp_path / "shared")
    await lab.enter()
    made = await lab.sandbox(limits=limits)
    created = await lab.created(made.handle, limits=limits)
    (started,) = await lab.driver.start_containers([created.handle])
    assert not started.error
    assert (created.observed.limits.pids, created.observed.limits.memory_bytes) == (limits.pids, limits.memory_bytes)
    pod = (await lab.driver.sandbox_status(made.handle)).observed
    assert (pod.limits.pids, pod.limits.memory_bytes) == (limits.pids, limits.memory_bytes)
    await lab.close()


async def test_too_little_memory_for_the_runtime_is_told_of(
    make_runc: Callable[[str], MakeDriver], tmp_path: Path
) -> None:
    lab = lab_of(make_runc("runc"), tmp_path / "shared")
    await lab.enter()
    box = (await lab.sandbox()).handle
    with pytest.raises(Invalid, match="runc needs more memory to make it than its limit allows"):
        await lab.created(box, limits=Limits(memory_bytes=1 << 20))
    await lab.close()


KILLED = """#!/bin/sh
case " $* " in
*" create "*) runc "$@" & sleep {after}; kill -9 $!; wait; exit 1;;
*) exec runc "$@";;
esac
"""


@pytest.mark.parametrize("after", ["0", "0.01", "0.03", "0.2"])
async def test_a_runtime_that_is_killed_half_way_leaves_nothing(
    make_runc: Callable[[str], MakeDriver], tmp_path: Path, after: str
) -> None:
    runtime = tmp_path / "runtime"
    runtime.write_text(KILLED.format(after=after))
    runtime.chmod(0o755)
    lab = lab_of(make_runc(str(runtime)), tmp_path / "shared")
    await lab.enter()
    box = (await lab.sandbox()).handle
    with pytest.raises(PoddError):
        await lab.created(box)
    (mine,) = await lab.driver.owned()
    assert not mine.containers
    assert (await lab.driver.sandbox_status(box)).state == "ready"
    await lab.close()
