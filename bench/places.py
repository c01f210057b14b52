"""The directory and the cgroup that one engine has to itself, and their end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

CGROUPS = "/sys/fs/cgroup"
SHARED = ("/run/containerd", "/run/docker", "/run/runc", "/dev/shm/libpod_lock")
"""What engines use besides the directories that they are told to use."""


def cgroup(folder: str) -> str:
    """The name of the group, in every hierarchy, that belongs to a directory: /var/tmp/a/b has a-b."""
    return "-".join(folder.split("/")[-2:])


def cpu_ms(*groups: str) -> float | None:
    """What the processes of these groups, and of those below them, have used so far; None: the host has no cgroup v2.

    The kernel counts it in every group of that hierarchy, whichever controllers are on. Source: cgroup-v2, cpu.stat.
    """
    top = unified()
    if top is None:
        return None
    used = 0.0
    for group in groups:
        with open(f"{top}/{group}/cpu.stat", encoding="ascii") as file:
            used += next(int(line.split()[1]) for line in file if line.startswith("usage_usec")) / 1e3
    return used


def unified() -> str | None:
    """Where cgroup v2 is mounted."""
    return next((top for top in (CGROUPS, f"{CGROUPS}/unified") if os.path.exists(f"{top}/cgroup.controllers")), None)


def make(folder: str) -> None:
    """With a file system in memory at run, as hosts have it at /run: where engines keep what ends with the machine."""
    os.makedirs(f"{folder}/run")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "podd-benchmark", f"{folder}/run"], check=True)


def wipe(folder: str, *groups: str) -> None:
    """Unmount what is below a directory, remove it, and these cgroups. Raises OSError: there are processes in one."""
    for point in reversed(_mounts_below(folder)):
        subprocess.run(["umount", "--lazy", point], check=True)
    shutil.rmtree(folder)
    for hierarchy in ("", *os.listdir(CGROUPS)):
        for group in groups:
            for path, _, _ in os.walk(os.path.join(CGROUPS, hierarchy, group), topdown=False):
                os.rmdir(path)


@contextmanager
def shared_as_before() -> Iterator[None]:
    """Remove afterwards what there is of SHARED and was not there before."""
    ours = [path for path in SHARED if not os.path.lexists(path)]
    try:
        yield
    finally:
        for path in ours:
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.lexists(path):
                os.unlink(path)


def _mounts_below(folder: str) -> list[str]:
    with open("/proc/self/mounts", encoding="utf-8") as file:
        points = [line.split()[1] for line in file]
    return [point for point in points if point.startswith(f"{folder}/")]
