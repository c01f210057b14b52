"""The host is restarted: processes, mounts, cgroups and the run directory are gone, the state directory is left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from real import Podd, alive, manifest, sh, sleeper, until

pytestmark = pytest.mark.root


def reboot(podd: Podd) -> None:
    """All that a restart of the host takes, taken by hand; and the new podd."""
    shims = {podd.shim(pod["metadata"]["name"]) for pod in podd.pods() if podd.pids(pod["metadata"]["name"])}
    podd.kill()
    for shim in shims:
        os.kill(shim, signal.SIGKILL)
    groups = [Path(at) / podd.folder.name for at, names, _ in os.walk("/sys/fs/cgroup") if podd.folder.name in names]
    while pids := {pid for group in groups for file in group.rglob("cgroup.procs") for pid in _read(file)}:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda pids=pids: not any(map(alive, pids)), "all processes have ended")  # type: ignore[misc]
        until(lambda: not any(_read(file) for group in groups for file in group.rglob("cgroup.procs")), "none is left")
    for mount in reversed(_mounts_below(podd.folder)):
        subprocess.run(["umount", "--lazy", mount], check=True)
    shutil.rmtree(podd.folder / "run")
    for group in groups:
        for below in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            below.rmdir()
        group.rmdir()
    podd.start()


def _read(file: Path) -> set[int]:
    try:
        return {int(pid) for pid in file.read_text().split()}
    except OSError:
        return set()


def _mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [point for line in lines if (point := line.split()[4]).startswith(f"{folder}/")]


def test_pods_come_back_after_a_reboot(podd: Podd) -> None:
    mounts = [{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"}]
    volumes = [{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}]
    script = "echo x >> /disk/runs; echo x >> /memory/runs; sleep infinity & wait"
    podd.apply(manifest("p", sh("main", script, volumeMounts=mounts), sleeper("other"), volumes=volumes))
    podd.apply(manifest("stopped", sleeper("main")))
    podd.cli("stop", "stopped")
    before = podd.pids("p")
    reboot(podd)
    until(lambda: podd.status("p")["phase"] == "Running" and len(podd.pids("p")) == 2, "the pod runs again")
    assert not set(before.values()) & set(podd.pids("p").values())
    assert [c["restartCount"] for c in podd.status("p")["containerStatuses"]] == [1, 1]
    runs = podd.cli("exec", "p", "-c", "main", "--", "cat", "/disk/runs", "/memory/runs").split()
    assert len(runs) == 3, "what is on disk stays, what is in memory does not"
    assert "tmpfs" in podd.cli("exec", "p", "-c", "main", "--", "stat", "-f", "-c", "%T", "/memory")
    assert podd.status("stopped")["reason"] == "Stopped"


def test_the_init_containers_of_a_pod_run_again_after_a_reboot(podd: Podd) -> None:
    mount = {"volumeMounts": [{"name": "memory", "mountPath": "/memory"}]}
    init = [{"image": "rootfs:/", **sh("make", "echo made > /memory/file", **mount)}]
    main = sh("main", "cat /memory/file; sleep infinity & wait", **mount)
    memory = [{"name": "memory", "emptyDir": {"medium": "Memory"}}]
    podd.apply(manifest("p", main, initContainers=init, volumes=memory))
    reboot(podd)
    until(lambda: podd.status("p")["phase"] == "Running", "the pod runs again")
    until(lambda: "made" in podd.cli("logs", "p"), "it found its file")


def test_secrets_are_in_memory_alone_and_there_again_after_a_reboot(podd: Podd) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"word": "1"}}
    volumes = [{"name": "sec", "secret": {"secretName": "s"}}]
    pod = manifest("p", sleeper("main", volumeMounts=[{"name": "sec", "mountPath": "/sec"}]), volumes=volumes)
    podd.apply(f"{json.dumps(secret)}\n---\n{pod}")
    place = podd.folder / "state" / "volumes" / podd.pod("p")["metadata"]["uid"] / "sec"
    podd.cli("stop", "p")
    assert (place / "word").read_text() == "1"
    reboot(podd)
    assert list(place.iterdir()) == [], "it was in memory"
    podd.apply(json.dumps({**secret, "stringData": {"word": "2"}}))
    assert list(place.iterdir()) == [], "nothing is written where no tmpfs is"
    podd.cli("start", "p")
    assert podd.cli("exec", "p", "--", "cat", "/sec/word") == "2"
