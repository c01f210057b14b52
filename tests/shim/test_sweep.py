"""The sweep: of any state it leaves nothing, of anything else it leaves everything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from podd.errors import Invalid
from podd.linux.cgroup import Layout
from podd.linux.process import identity
from podd.shim import sweep
from podd.shim.plan import SweepPlan
from podd.testing.shim import sandbox_plan, sweep_plan

from .conftest import CGROUP, TestPod

Pods = Callable[..., TestPod]
ID = f"test-{os.getpid()}"


def places(base: Path, **changes: str) -> SweepPlan:
    plan = sweep_plan(sandbox_plan(str(base), ID, cgroup=f"{CGROUP}/{ID}"))
    return {**plan, **changes}  # type: ignore[typeddict-item]


REFUSED = {
    "an id that leads elsewhere": {"id": "../etc"},
    "an empty id": {"id": ""},
    "a run directory of somebody else": {"run_dir": "/run/podd/pods/other"},
    "a run directory that leads elsewhere": {"run_dir": f"/run/podd/../{ID}"},
    "a relative run directory": {"run_dir": f"pods/{ID}"},
    "the cgroup of all pods": {"cgroup": "podd/pods"},
    "a relative containers directory": {"containers_dir": "containers"},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_plan_that_does_not_name_its_own_places_is_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        sweep.sweep(places(tmp_path, **changes))


@pytest.mark.root
def test_nothing_is_swept_quietly(tmp_path: Path) -> None:
    for _ in range(2):
        sweep.sweep(places(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.root
@pytest.mark.parametrize("pid", ["container", "pod", "node"])
def test_live_pod_is_swept_with_its_shim(pods: Pods, pid: str) -> None:
    pod = pods(pid=pid).ready()
    plan = pod.sh("a", "trap '' TERM; (setsid sleep 987670 &) ; sleep 987671; exit 1")
    pod.run(plan)
    pod.create(pod.sh("b", "exit 0"))
    pod.zygote.sweep(pod.plan)
    assert pod.shim_ended(0)
    assert not pod.group.exists()
    assert not os.path.exists(pod.run_dir)
    assert os.path.exists(plan["log_path"])


@pytest.mark.root
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_pod_whose_shim_was_killed_or_hangs_is_swept(pods: Pods, state: str) -> None:
    pod = pods().ready()
    pod.run(pod.sh("a", "sleep 987672; exit 1"))
    os.kill(pod.report["shim_pid"], signal.SIGSTOP if state == "stopped" else signal.SIGKILL)
    pod.zygote.sweep(pod.plan, keep_logs=False)
    assert pod.shim_ended()
    assert not os.path.exists(pod.plan["log_directory"])


@pytest.mark.root
@pytest.mark.parametrize("kept", ["run_dir", "containers_dir", "cgroup"])
def test_remains_of_any_shape_are_swept(tmp_path: Path, kept: str) -> None:
    plan = places(tmp_path)
    group = Layout.detect().group(plan["cgroup"])
    if kept == "run_dir":
        os.makedirs(f"{plan['run_dir']}/ns")
        Path(f"{plan['run_dir']}/ns/net").touch()
        subprocess.run(["mount", "--bind", "/proc/self/ns/net", f"{plan['run_dir']}/ns/net"], check=True)
        os.mkdir(f"{plan['run_dir']}/shm")
        for _ in range(2):
            subprocess.run(["mount", "-t", "tmpfs", "test", f"{plan['run_dir']}/shm"], check=True)
        Path(f"{plan['run_dir']}/shim.json").write_text("{ damaged")
    elif kept == "containers_dir":
        os.makedirs(f"{plan['containers_dir']}/{plan['id']}/c/upper/deep/er")
    else:
        group.child("c").create()
    sweep.sweep(plan)
    sweep.sweep(plan)
    assert not os.path.exists(plan["run_dir"])
    assert os.listdir(plan["containers_dir"]) == [] if kept == "containers_dir" else True
    assert not group.exists()
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        assert str(tmp_path) not in file.read()


@pytest.mark.root
def test_symbolic_links_in_place_of_directories_lead_nowhere(tmp_path: Path) -> None:
    plan = places(tmp_path)
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "precious").write_text("x")
    os.makedirs(os.path.dirname(plan["run_dir"]))
    os.makedirs(plan["containers_dir"])
    os.symlink(outside, plan["run_dir"])
    os.symlink(outside, f"{plan['containers_dir']}/{plan['id']}")
    subprocess.run(["mount", "-t", "tmpfs", "test", outside / "sub"], check=True)
    try:
        sweep.sweep(plan)
        assert os.path.ismount(outside / "sub")
    finally:
        subprocess.run(["umount", outside / "sub"], check=True)
    assert (outside / "precious").read_text() == "x"
    assert not os.path.lexists(plan["run_dir"])


@pytest.mark.root
@pytest.mark.parametrize("difference", ["starttime_ticks", "boot_id"])
def test_number_of_a_shim_that_somebody_else_has_now_is_not_killed(tmp_path: Path, difference: str) -> None:
    plan = places(tmp_path)
    os.makedirs(plan["run_dir"])
    with subprocess.Popen(["sleep", "987673"]) as innocent:
        shim: dict[str, Any] = identity(innocent.pid)._asdict()
        shim[difference] = 1 if difference == "starttime_ticks" else "another boot"
        Path(f"{plan['run_dir']}/shim.json").write_text(json.dumps({"shim": shim}))
        sweep.sweep(plan)
        assert innocent.poll() is None
        innocent.kill()


@pytest.mark.root
def test_sweeps_run_side_by_side(pods: Pods) -> None:
    made = [pods() for _ in range(4)]
    for pod in made:
        pod.ready()
        pod.run(pod.sh("a", "sleep 987674"))
    client = made[0].zygote.client
    requests = [client.ask("sweep", sandbox=sweep_plan(pod.plan)) for pod in made]
    for request in requests:
        client.answer(request)
    assert not any(os.path.exists(pod.run_dir) for pod in made)
