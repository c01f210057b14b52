"""What it costs to probe many pods each second."""

from __future__ import annotations

import time
from typing import Any

import processes
from effort import Effort
from figures import Row
from measures import apply
from subject import WEB_PORT, Podd
from wire import Wire

EACH = {"http": 0.1, "tcp": 0.1, "exec": None}
"""Per cent of a core for each pod, at most. What an exec costs is mostly the command's own process."""

HANDLERS: dict[str, dict[str, Any]] = {
    "http": {"httpGet": {"port": WEB_PORT, "path": "/"}},
    "tcp": {"tcpSocket": {"port": WEB_PORT}},
    "exec": {"exec": {"command": ["true"]}},
}


def probes(podd: Podd, effort: Effort) -> list[Row]:
    """One kind after the other, each on as many pods of one container."""
    rows = []
    for kind in HANDLERS:
        used = _used(podd, kind, effort)
        if used is not None:
            rows.append(Row(f"{kind} probe each second, of {effort.pods} pods", "% core", [used], most=EACH[kind]))
    return rows


def _used(podd: Podd, kind: str, effort: Effort) -> float | None:
    """For each pod. Of what is asked over the network podd's processes count, else the command's and the shims', too.

    None: this host cannot tell.
    """
    names = [f"{kind}-{number}" for number in range(effort.pods)]
    with Wire(podd.socket) as wire:
        for name in names:
            apply(wire, podd.probed(name, {**HANDLERS[kind], "periodSeconds": 1}))
        _until_ready(wire, len(names))
        time.sleep(effort.settle_s)
        began, before = time.perf_counter(), _cpu_s(podd, kind)
        time.sleep(effort.idle_s)
        after, took_s = _cpu_s(podd, kind), time.perf_counter() - began
        _until_ready(wire, len(names))
        for name in names:
            wire.call("Delete", name=name, now=True)
    if before is None or after is None:
        return None
    return (after - before) / took_s / len(names) * 100


def _cpu_s(podd: Podd, kind: str) -> float | None:
    if kind == "exec":
        used = podd.cpu_ms()
        return None if used is None else used / 1e3
    used = processes.cpu_s([podd.pid, *podd.zygotes(processes.parents())])
    return sum(exact for exact, _ in used.values())


def _until_ready(wire: Wire, number: int) -> None:
    """Raises RuntimeError: a pod fails its probe."""
    until = time.monotonic() + 30
    while True:
        pods = wire.call("List")["pods"]
        ready = [pod for pod in pods if all(one["ready"] for one in pod["status"]["containerStatuses"])]
        if len(ready) == number:
            return
        if time.monotonic() > until:
            raise RuntimeError(f"{number - len(ready)} of {number} pods do not get ready")
        time.sleep(0.2)
