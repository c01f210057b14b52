"""Which runtime this is, and whether it can work on this host. Blocks: for worker threads."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess

from podd.errors import Unavailable, Unsupported
from podd.linux.capabilities import mask_of
from podd.linux.cgroup import Layout
from podd.linux.syscalls import capget
from podd.model.value import Value

OLDEST_SPEC = (1, 0)
FIRST_CRUN_WITH_LITTLE_MEMORY_LOCKED = (1, 14)
"""Older ones fail where they may not lift RLIMIT_MEMLOCK, which kernels since 5.11 do not count eBPF programs by."""

LIMIT_S = 10.0
"""How long a runtime may take to say its version; it takes milliseconds."""


class Runtime(Value):
    """path: absolute. name: as it calls itself. spec: the version of the OCI runtime specification that it follows."""

    path: str
    name: str
    version: str
    spec: str


def find(driver: str, wanted: str, layout: Layout) -> Runtime:
    """Raises Unavailable: it is missing or does not run; Unsupported: it is too old, or refuses this host's cgroups."""
    path = shutil.which(wanted) if "/" not in wanted else wanted
    if path is None or not os.path.isabs(path) or not os.access(path, os.X_OK):
        raise Unavailable(
            f"{driver}: {wanted}: there is no such program",
            remedy=f"install it (Debian: apt install {os.path.basename(wanted)}), or name another by "
            f"drivers.{driver}.runtime in podd.toml",
        )
    runtime = described(driver, path, _version(driver, path))
    _check_spec(driver, runtime)
    _check_cgroups(driver, runtime, layout)
    return runtime


def described(driver: str, path: str, text: str) -> Runtime:
    """text: what it answers to --version. Raises Unsupported: no OCI runtime talks like that."""
    first = re.match(r"(\S+)(?: version)? (\S+)", text)
    spec = re.search(r"^spec: ?(\S+)", text, re.MULTILINE)
    if first is None or spec is None:
        raise Unsupported(
            f"{driver}: {path}: does not answer --version as an OCI runtime does",
            remedy=f"set drivers.{driver}.runtime in podd.toml to runc or crun",
        )
    return Runtime(path=path, name=first[1], version=first[2], spec=spec[1])


def _version(driver: str, path: str) -> str:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Unavailable(f"{driver}: {path}: does not run: {exc}", remedy="install it again") from exc
    if done.returncode != 0:
        raise Unavailable(
            f"{driver}: {path} --version: ended with status {done.returncode}: {done.stderr.strip()[:200]}",
            remedy="install it again",
        )
    return done.stdout


def _check_spec(driver: str, runtime: Runtime) -> None:
    if _numbers(runtime.spec) < OLDEST_SPEC:
        raise Unsupported(
            f"{driver}: {runtime.path}: {runtime.name} {runtime.version} follows version {runtime.spec} of the OCI "
            f"runtime specification: {'.'.join(map(str, OLDEST_SPEC))} is needed",
            remedy=f"install a newer {runtime.name}",
        )


def _numbers(version: str) -> tuple[int, int]:
    major, minor, *_ = (int(part) if part.isdigit() else 0 for part in f"{version}.0".split(".")[:2])
    return major, minor


def _check_cgroups(driver: str, runtime: Runtime, layout: Layout) -> None:
    if runtime.name != "crun":
        return
    if layout.kind == "hybrid":
        raise Unsupported(
            f"{driver}: {runtime.path}: crun refuses this host's cgroups, which are in hybrid mode (v1 and v2)",
            remedy=f'set drivers.{driver}.runtime to "runc", or boot the host with systemd.unified_cgroup_hierarchy=1',
        )
    if _numbers(runtime.version) < FIRST_CRUN_WITH_LITTLE_MEMORY_LOCKED and not _may_lock_memory():
        raise Unsupported(
            f"{driver}: {runtime.path}: crun {runtime.version} must lift its limit on locked memory, and may not",
            remedy="give podd CAP_SYS_RESOURCE, or LimitMEMLOCK=infinity in its unit, or install crun "
            f"{'.'.join(map(str, FIRST_CRUN_WITH_LITTLE_MEMORY_LOCKED))} or later",
        )


def _may_lock_memory() -> bool:
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    return hard == resource.RLIM_INFINITY or bool(capget().effective & mask_of(["SYS_RESOURCE"]))
