"""Write the matrix of capabilities in docs/drivers.md from what our drivers declare. A test checks that it was done."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

from podd.driver.contract import Capabilities
from podd.driver.hookspecs import DriverPaths
from podd.driver.plugins import discover

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "drivers.md"
BEGIN, END = "<!-- capabilities: begin -->", "<!-- capabilities: end -->"

MEANINGS = {
    "held_start": "members wait before their first instruction until all are made, and go at one moment",
    "shared_uts": "members share one host name in the kernel; else each has one of its own, which says the same",
    "pid_pod": "`shareProcessNamespace`",
    "pid_node": "`hostPID`",
    "isolation": "namespaces, root, mounts and rights of a container; else it is a program of the host, and a pod must "
    "say so: `hostNetwork`, `hostIPC`, `hostPID`, `privileged`",
    "user_namespaces": "`hostUsers: false`",
    "exec": "`podd-cli exec`, and probes and hooks with `exec`",
    "attach": "`podd-cli attach`, `stdin`, `tty`",
    "pause": "`podd-cli pause`",
    "stats": "`podd-cli stats`",
    "resize": "limits change while containers run; else applying others makes the pod anew",
    "connect": "probes and hooks with `httpGet`, `tcpSocket`, `grpc`",
    "pid_target": "`podd-cli debug --target`",
    "images": "`image: NAME`",
    "rootfs_directory": "`image: rootfs:/directory`",
    "network": "pods have addresses that others can reach; `hostPort`",
    "publish": "`hostPort` changes while the pod runs; else applying another makes the pod anew",
    "outlives_podd": "pods run on while podd is away",
}


def declared() -> dict[str, Capabilities]:
    """By name, of the drivers in plugins/, installed or not."""
    points = []
    for project in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        sys.path.append(str(project.parent))
        given = tomllib.loads(project.read_text())["project"]["entry-points"]["podd"]
        points += [EntryPoint(name=name, value=value, group="podd") for name, value in given.items()]
    found = discover(points)
    if found.broken:
        raise SystemExit("\n".join(f"{one.plugin}: {one.reason}" for one in found.broken))
    paths = DriverPaths(run_dir="/run/podd", state_dir="/var/lib/podd", log_dir="/var/log/podd")
    drivers = {name: found.make(name, {}, paths).capabilities for name in found.drivers}
    return dict(sorted(drivers.items(), key=lambda one: one[0] != "setns"))


def table() -> str:
    drivers = declared()
    lines = [f"| capability | {' | '.join(drivers)} | |", f"| --- |{' --- |' * len(drivers)} --- |"]
    for name in Capabilities.__struct_fields__:
        has = ("yes" if getattr(capabilities, name) else "no" for capabilities in drivers.values())
        lines.append(f"| `{name.replace('_', '-')}` | {' | '.join(has)} | {MEANINGS[name]} |")
    return "\n".join(lines)


def page() -> str:
    """The page as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
