"""What an address costs: pods on a bridge beside pods with loopback alone, made by one podd, in turn."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from effort import Effort
from figures import Row
from measures import apply
from peers import Skipped
from subject import CONFIG, Podd
from wire import Wire

SHIPPED = Path(__file__).parent.parent / "config" / "cni" / "10-podd.conflist"
PLUGINS = "/usr/lib/cni"
KINDS = ("loopback", "bridge")
MOST = 2.5


def network(folder: str, rootfs: str, effort: Effort) -> list[Row]:
    """Raises Skipped: there are no plugins here."""
    if not os.path.exists(f"{PLUGINS}/bridge"):
        raise Skipped(f"{PLUGINS}/bridge: install containernetworking-plugins")
    with Podd(folder, rootfs, config=CONFIG.replace("info", "debug"), own_network=True) as podd:
        started, deleted = _in_turn(podd, Path(folder) / "cni.d", effort)
        took = _plugins_ms(Path(folder) / "podd.log")
    ratios = [one / other for one, other in zip(started["bridge"], started["loopback"], strict=True)]
    rows = [Row(f"{kind}: start", "ms", started[kind]) for kind in started]
    rows.append(Row("bridge: start, as many times loopback", "x", ratios, most=MOST))
    rows += [Row(f"{kind}: delete, grace 0", "ms", deleted[kind]) for kind in deleted]
    return rows + [Row(f"bridge: plugin {name}", "ms", values) for name, values in took.items()]


def _in_turn(podd: Podd, conf: Path, effort: Effort) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The configuration counts as soon as it is there, and no longer when it is not."""
    started: dict[str, list[float]] = {kind: [] for kind in KINDS}
    deleted: dict[str, list[float]] = {kind: [] for kind in KINDS}
    conf.mkdir()
    with Wire(podd.socket) as wire:
        for number in range(effort.warm_up + effort.rounds):
            for kind in KINDS:
                file = conf / "10-podd.conflist"
                file.unlink(missing_ok=True)
                if kind == "bridge":
                    file.write_text(_configuration(conf.parent))
                name = f"{kind}-{number}"
                began = time.perf_counter()
                apply(wire, podd.manifest(name))
                up = time.perf_counter()
                wire.call("Delete", name=name, now=True)
                started[kind].append((up - began) * 1e3)
                deleted[kind].append((time.perf_counter() - up) * 1e3)
    for samples in (*started.values(), *deleted.values()):
        del samples[: effort.warm_up]
    return started, deleted


def _configuration(folder: Path) -> str:
    document = json.loads(SHIPPED.read_text())
    document["plugins"][0]["ipam"]["dataDir"] = f"{folder}/leases"
    return json.dumps(document)


def _plugins_ms(log: Path) -> dict[str, list[float]]:
    """By plugin and command, from what podd says of each call."""
    found: dict[str, list[float]] = {}
    for line in log.read_text().splitlines():
        told = json.loads(line) if line.startswith("{") else {}
        if told.get("event") == "plugin.called":
            found.setdefault(f"{told['plugin']} {told['command']}", []).append(told["took_ms"])
    return found
