"""The same pod on podd and on the other engines that this host has."""

from __future__ import annotations

import time
from collections.abc import Callable

import processes
from effort import Effort
from figures import Row
from peers import PEERS, Engine, OurOwnOnSetns, Skipped
from places import shared_as_before

US = "podd-cli"


def compare(folder: str, rootfs: str, effort: Effort) -> tuple[list[Row], dict[str, str]]:
    """Returns the rows, called "ENGINE: QUANTITY", and for each engine that was left out the reason."""
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    engines: dict[str, Callable[[str, str], Engine]] = {US: OurOwnOnSetns, **PEERS}
    for name, make in engines.items():
        try:
            with shared_as_before(), make(f"{folder}/{name}", rootfs) as engine:
                rows += _rows(name, engine, effort)
        except Skipped as why:
            skipped[name] = str(why)
    return rows, skipped


def _rows(name: str, engine: Engine, effort: Effort) -> list[Row]:
    started, deleted = [], []
    for number in range(effort.warm_up + effort.rounds):
        began = time.perf_counter()
        engine.start(f"pod-{number}")
        running = time.perf_counter()
        engine.delete(f"pod-{number}")
        started.append((running - began) * 1e3)
        deleted.append((time.perf_counter() - running) * 1e3)
    pods = [f"many-{number}" for number in range(effort.compared)]
    for pod in pods:
        engine.start(pod)
    time.sleep(effort.settle_s)
    supervisors = sum(map(processes.pss_kib, engine.supervisors())) / 1024 / len(pods)
    daemons = engine.daemons()
    rows = [
        Row(f"{name}: start", "ms", started[effort.warm_up :]),
        Row(f"{name}: delete", "ms", deleted[effort.warm_up :]),
        Row(f"{name}: PSS of a pod's supervisors, {len(pods)} pods", "MiB", [supervisors]),
    ]
    if daemons:
        memory = sum(map(processes.pss_kib, daemons)) / 1024
        rows.append(Row(f"{name}: PSS of the daemons, {len(pods)} pods", "MiB", [memory]))
    engine.delete(*pods)
    return rows
