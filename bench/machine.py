"""Where it was measured."""

from __future__ import annotations

import os
import platform
from typing import Any

from podd.linux.cgroup import Layout


def describe(directory: str) -> dict[str, Any]:
    """directory: where podd and the others keep their files."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "cgroups": Layout.detect().kind,
        "python": platform.python_version(),
        "filesystem": _filesystem(directory),
        "load": load(),
    }


def load() -> str:
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _filesystem(directory: str) -> str:
    """Of the mount with the longest path above it."""
    best, kind = "", "unknown"
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _, point, fstype, *_ = line.split()
            if (directory + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, kind = point, fstype
    return kind
