"""What podd takes: milliseconds, mebibytes, and how that compares with the other engines of this host. Needs root.

    python bench/bench.py [--quick] [--only NAME]... [--directory DIR] [--json FILE]

It starts daemons of its own on private directories and leaves nothing. Figures are medians; how they are taken, and
what they should be, is told in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import NoReturn

import figures
import machine
import measures
import networking
import probing
import pulling
from compare import US, compare
from docker import docker
from effort import FULL, QUICK, Effort
from figures import Row
from peers import Skipped
from places import shared_as_before
from subject import CONFIG, ON_RUNC, Podd, make_rootfs

ALONE: dict[str, Callable[[Podd, Effort], list[Row]]] = {
    "start": measures.start_and_delete,
    "runc": measures.start_on_runc,
    "parallel": measures.parallel,
    "exec": measures.exec_true,
    "density": measures.density,
    "probes": probing.probes,
}
COMPARED = "compare"
ON_DOCKER = "docker"
NETWORK = "network"
PULL = "pull"


def main() -> int:
    args = _arguments()
    if os.geteuid() != 0:
        sys.exit("bench: needs root: pods are made of namespaces, mounts and cgroups")
    signal.signal(signal.SIGTERM, _leave)
    effort = QUICK if args.quick else FULL
    wanted = args.only or [*ALONE, NETWORK, PULL, ON_DOCKER, COMPARED]
    folder = tempfile.mkdtemp(prefix="podd-benchmark-", dir=args.directory)
    os.chmod(folder, 0o755)
    try:
        host = machine.describe(folder)
        print("\n".join(f"{key:>11}: {value}" for key, value in host.items()), flush=True)
        rootfs = make_rootfs(folder)
        rows = _alone(folder, rootfs, wanted, effort)
        compared, skipped = compare(folder, rootfs, effort) if COMPARED in wanted else ([], {})
        if NETWORK in wanted:
            try:
                rows += networking.network(f"{folder}/{NETWORK}", rootfs, effort)
            except Skipped as why:
                skipped[NETWORK] = str(why)
        if PULL in wanted:
            try:
                pulled, left_out = pulling.pulling(folder, rootfs, effort)
                rows, skipped = rows + pulled, skipped | left_out
            except Skipped as why:
                skipped[PULL] = str(why)
        if ON_DOCKER in wanted:
            try:
                with shared_as_before():
                    rows += docker(folder, rootfs, effort)
            except Skipped as why:
                skipped[ON_DOCKER] = str(why)
    except FileNotFoundError as missing:
        sys.exit(f"bench: {missing}")
    finally:
        shutil.rmtree(folder)
    host["load after"] = machine.load()
    _show(rows, compared, skipped)
    print(f"\n load after: {host['load after']}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            records = [row.record() for row in [*rows, *compared]]
            json.dump({"machine": host, "rows": records, "skipped": skipped}, file, indent=1)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few samples of each: it shows that all works, no more")
    parts = [*ALONE, NETWORK, PULL, ON_DOCKER, COMPARED]
    parser.add_argument("--only", action="append", choices=parts, help="this part; may be repeated")
    parser.add_argument("--directory", default="/var/tmp", help="on whose file system state is kept, [%(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    return parser.parse_args()


def _leave(_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _alone(folder: str, rootfs: str, wanted: Sequence[str], effort: Effort) -> list[Row]:
    """Each part on a podd of its own, so that none measures what another has left."""
    rows: list[Row] = []
    for name, measure in ALONE.items():
        if name in wanted and (name != "runc" or shutil.which("runc")):
            with Podd(f"{folder}/{name}", rootfs, config=ON_RUNC if name == "runc" else CONFIG) as podd:
                rows += measure(podd, effort)
    return rows


def _show(rows: Sequence[Row], compared: Sequence[Row], skipped: dict[str, str]) -> None:
    if rows or compared:
        print("\n" + "\n".join(figures.table([*rows, *compared])))
    if compared:
        print("\n" + "\n".join(figures.comparison(compared, US)))
    for name, why in skipped.items():
        print(f"skipped {name}: {why}")


if __name__ == "__main__":
    sys.exit(main())
