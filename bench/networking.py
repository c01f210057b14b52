"""What an address costs: pods on a bridge beside pods with loopback alone, made by one podd, in turn."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import layout
from effort import Effort
from figures import Row
from measures import apply
from peers import Skipped
from subject import CONFIG, Podd
from wire import Wire

SHIPPED = Path(__file__).parent.parent / "config" / "cni"
DEFAULT = "10-podd.conflist"
PLUGINS = "/usr/lib/cni"
LAYERS = 10
MOST = 2.5


class Kind(NamedTuple):
    """Of pods. shipped: the configuration of their network, below config/cni; "" for none. image: "" for a rootfs."""

    shipped: str = ""
    image: str = ""


ALONE, BRIDGED, LAYERED, BOTH = "loopback", "bridge", f"bridge, {LAYERS} layers", "both families"


def network(folder: str, rootfs: str, effort: Effort) -> list[Row]:
    """Raises Skipped: there are no plugins here, or no skopeo."""
    if not os.path.exists(f"{PLUGINS}/bridge"):
        raise Skipped(f"{PLUGINS}/bridge: install containernetworking-plugins")
    if shutil.which("skopeo") is None:
        raise Skipped("skopeo: not installed")
    image = _write_image(f"{folder}-image", rootfs)
    kinds = {
        ALONE: Kind(),
        BRIDGED: Kind(DEFAULT),
        LAYERED: Kind(DEFAULT, image),
        BOTH: Kind("full/10-podd.conflist"),
    }
    with Podd(folder, rootfs, config=CONFIG.replace("info", "debug"), own_network=True) as podd:
        podd.cli("image", "pull", image)
        started, deleted = _in_turn(podd, Path(folder), kinds, effort)
        took = _plugins_ms(Path(folder) / "podd.log")
    rows = [Row(f"{kind}: start", "ms", started[kind]) for kind in kinds]
    for kind in (BRIDGED, LAYERED, BOTH):
        ratios = [one / other for one, other in zip(started[kind], started[ALONE], strict=True)]
        rows.append(Row(f"{kind}: start, as many times {ALONE}", "x", ratios, most=MOST if kind == LAYERED else None))
    rows += [Row(f"{kind}: delete, grace 0", "ms", deleted[kind]) for kind in kinds]
    return rows + [Row(f"{BRIDGED}: plugin {name}", "ms", values) for name, values in took.items()]


def _in_turn(
    podd: Podd, folder: Path, kinds: Mapping[str, Kind], effort: Effort
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """A configuration counts as soon as it is there, and no longer when it is not."""
    started: dict[str, list[float]] = {kind: [] for kind in kinds}
    deleted: dict[str, list[float]] = {kind: [] for kind in kinds}
    (folder / "cni.d").mkdir()
    with Wire(podd.socket) as wire:
        for number in range(effort.warm_up + effort.rounds):
            for order, (name, kind) in enumerate(kinds.items()):
                _configure(folder, kind)
                pod = f"net-{order}-{number}"
                began = time.perf_counter()
                apply(wire, podd.manifest(pod, kind.image))
                up = time.perf_counter()
                wire.call("Delete", name=pod, now=True)
                started[name].append((up - began) * 1e3)
                deleted[name].append((time.perf_counter() - up) * 1e3)
    for samples in (*started.values(), *deleted.values()):
        del samples[: effort.warm_up]
    return started, deleted


def _configure(folder: Path, kind: Kind) -> None:
    file = folder / "cni.d" / "10-podd.conflist"
    file.unlink(missing_ok=True)
    if kind.shipped:
        document = json.loads((SHIPPED / kind.shipped).read_text())
        document["name"] = "podd" if kind.shipped == DEFAULT else "more"  # by which its plugins' calls are told apart
        document["plugins"][0]["ipam"]["dataDir"] = f"{folder}/leases"
        file.write_text(json.dumps(document))


def _write_image(folder: str, rootfs: str) -> str:
    """The same files as those of the other pods, below layers with a file each."""
    layers = [_layer(Path(rootfs)), *(_layer(number=number) for number in range(1, LAYERS))]
    layout.write(folder, layers)
    return f"oci:{folder}"


def _layer(tree: Path | None = None, number: int = 0) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        if tree is not None:
            archive.add(tree, arcname=".")
        else:
            member = tarfile.TarInfo(f"etc/layer-{number}")
            archive.addfile(member)
    return buffer.getvalue()


def _plugins_ms(log: Path) -> dict[str, list[float]]:
    """By plugin and command, in the network that comes first, from what podd says of each call."""
    found: dict[str, list[float]] = {}
    for line in log.read_text().splitlines():
        told = json.loads(line) if line.startswith("{") else {}
        if told.get("event") == "plugin.called" and told["network"] == "podd":
            found.setdefault(f"{told['plugin']} {told['command']}", []).append(told["took_ms"])
    return found
