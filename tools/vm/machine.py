"""The machine as a check sees it: its processes, groups and units, and podd-cli."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from podd.testing import audit

T = TypeVar("T")

EXAMPLES = Path("/usr/share/podd/pods")
RESTLESS = ("depends-on", "probes")
"""Examples that end by themselves after a minute, or that are restarted when a slow machine does not answer in time."""

HURRIED = (*RESTLESS, "setup")
"""Those, and one whose probe wants an answer within a second: too soon for an OCI runtime on an emulated machine."""

CONFIG = Path("/etc/podd/podd.toml")
UNIT = "system.slice/podd-pods.service"
PODS = f"{UNIT}/pods"
ROOTS = ("/run/podd", "/var/lib/podd")
KEPT = (
    r"^process: .* \((/opt/podd/bin/python3 /usr/local/bin/podd|podd-zygote|sleep infinity)\)",
    r"^namespace: mnt:\[\d+\] <- pid \d+ \(podd-zygote\)",
    r"^file: .*/podd\.db",
    r"^file: /var/lib/podd/(containers|volumes|seccomp)/$",
)
LIMIT_S = 120

_CGROUPS = Path("/sys/fs/cgroup")


def run(*words: object, status: int | None = 0, stdin: str | bytes = "", limit_s: int = 300) -> str:
    """stdout and stderr. status None: any."""
    done = subprocess.run(
        [str(w) for w in words],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit_s,
        check=False,
    )
    said = done.stdout.decode()
    if status is not None and done.returncode != status:
        raise AssertionError(f"{' '.join(map(str, words))}: exit status {done.returncode}:\n{said}")
    return said


def cli(*words: object, **more: Any) -> str:
    return run("podd-cli", *words, **more)


def until(is_so: Callable[[], T], what: str) -> T:
    end = time.monotonic() + LIMIT_S
    while not (found := is_so()):
        assert time.monotonic() < end, f"waited {LIMIT_S} s in vain until {what}"
        time.sleep(0.1)
    return found


def systemd(name: str, unit: str = "podd.service") -> str:
    return run("systemctl", "show", "--value", "-p", name, unit).strip()


def main_pid() -> int:
    return int(systemd("MainPID"))


def journal() -> str:
    return run("journalctl", "--sync") + run("journalctl", "-b", "-o", "cat", "-u", "podd.service")


def look(parent: str = PODS) -> audit.Snapshot:
    return audit.snapshot(ROOTS, cgroup_parent=parent)


# ---- pods ------------------------------------------------------------------------------------------------------------


def apply(name: str, *containers: dict[str, Any], **spec: Any) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"image": "rootfs:/", **c} for c in containers], **spec},
    }
    cli("apply", "-f", "-", "--wait", stdin=json.dumps(pod))


def pods() -> dict[str, dict[str, Any]]:
    return {pod["metadata"]["name"]: pod for pod in json.loads(cli("get", "pods", "-o", "json"))["items"]}


def containers(pod: str) -> dict[str, dict[str, Any]]:
    return {c["name"]: c for c in pods()[pod]["status"]["containerStatuses"]}


def pids(pod: str = "") -> dict[str, int]:
    """Of the first process of each member, by "POD/MEMBER"."""
    return {
        f"{name}/{c['name']}": c["pid"]
        for name, each in pods().items()
        for c in each["status"]["containerStatuses"]
        if c.get("pid") and pod in ("", name)
    }


def restarts() -> int:
    return sum(c["restartCount"] for pod in pods().values() for c in pod["status"]["containerStatuses"])


# ---- processes and groups --------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0


def shims() -> list[int]:
    """The keepers. An attendant, which works for its keeper now and then and has its name, is a child of it."""
    named = [int(pid) for pid in run("pgrep", "-f", "^podd-shim", status=None).split()]
    return sorted(pid for pid in named if (parent := parent_of(pid)) and parent not in named)  # 0: it has ended


def group_of(pid: int, controller: str = "") -> Path:
    """The directory of its v2 group, or of its group in the v1 hierarchy of a controller."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, names, path = line.split(":", 2)
        if controller in names.split(",") and (controller or number == "0"):
            mount = (_CGROUPS / controller) if controller else unified()
            return mount / path.lstrip("/")
    raise AssertionError(f"process {pid} has no group of {controller or 'v2'}")


def unified() -> Path:
    return _CGROUPS if (_CGROUPS / "cgroup.controllers").exists() else _CGROUPS / "unified"


def is_pure() -> bool:
    return unified() == _CGROUPS


def members_of(directory: Path) -> list[int]:
    return sorted(int(pid) for file in directory.rglob("cgroup.procs") for pid in file.read_text().split())
