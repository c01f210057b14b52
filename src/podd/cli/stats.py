"""podd-cli stats: what pods use now."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping

from podd.cli import amounts, output
from podd.cli.connect import connect
from podd.cli.durations import parse_time
from podd.cli.status import Json
from podd.cli.text import Table, note
from podd.cli.words import Usage, add_pod_choice, chosen
from podd.control.client import Client

COLUMNS = ("POD", "CONTAINER", "CPU", "MEMORY", "DISK", "NET I/O", "PIDS", "OOM KILLS")
SAMPLE_S = 0.5  # the kernel counts CPU time; its rate needs two looks
REFRESH_S = 2.0
CLEAR = "\033[H\033[J"


def arguments(parser: ArgumentParser) -> None:
    add_pod_choice(parser)
    parser.add_argument("-w", "--watch", action="store_true", help=f"again every {REFRESH_S:g} seconds")
    output.add_format_option(parser)


def run(options: Namespace) -> int:
    if options.watch and options.output:
        raise Usage("--watch: only for the table")
    with connect(options) as podd:
        before = _sample(podd, options)
        if options.output:
            output.show(list(before.values()), options.output)
            return 0
        if not before and not options.watch:
            note("no running pods")
            return 0
        time.sleep(SAMPLE_S)
        while True:
            now = _sample(podd, options)
            clear = CLEAR if options.watch and sys.stdout.isatty() else ""
            print(clear + "\n".join(_table(before, now, options).lines()), flush=True)
            if not options.watch:
                return 0
            before = now
            time.sleep(REFRESH_S)


def _sample(podd: Client, options: Namespace) -> dict[str, Json]:
    """By uid."""
    return {pod["uid"]: pod for pod in podd.call("Stats", chosen(options))["pods"]}


def _table(before: Mapping[str, Json], now: Mapping[str, Json], options: Namespace) -> Table:
    table = Table(("NAMESPACE", *COLUMNS) if options.all_namespaces else COLUMNS)
    for uid, pod in now.items():
        for name, used, used_before in _groups(pod, before.get(uid, {})):
            head = (pod["namespace"], pod["name"]) if options.all_namespaces else (pod["name"],)
            memory = used["memory_working_set_bytes"]
            table.add(
                *head,
                name,
                amounts.cores(_cores(used, used_before, _seconds(before.get(uid), pod))),
                amounts.of(
                    amounts.size(used["memory_usage_bytes"] if memory is None else memory),
                    amounts.size(used["memory_limit_bytes"]),
                ),
                amounts.size(_layers(pod, name)),
                _traffic(pod) if name == "(pod)" else amounts.UNKNOWN,
                amounts.of(amounts.count(used["pids"]), amounts.count(used["pids_limit"])),
                amounts.count(used["oom_kills"]),
            )
    return table


def _groups(pod: Json, before: Json) -> Iterator[tuple[str, Json, Json]]:
    """The pod as a whole, its containers, and podd's own process for it: name, usage, usage in the sample before."""
    yield "(pod)", pod["pod"], before.get("pod", {})
    for name, used in pod["containers"].items():
        yield name, used, before.get("containers", {}).get(name, {})
    if pod.get("overhead"):
        yield "(podd)", pod["overhead"], before.get("overhead") or {}


def _layers(pod: Json, name: str) -> int | None:
    """What it has of the disk by its writable layer, or the pod by all of them. None: its driver does not tell."""
    sizes = pod["layers"]
    return sizes.get(name) if name != "(pod)" else sum(sizes.values()) if sizes else None


def _traffic(pod: Json) -> str:
    """What has come to it, and what it has sent."""
    interfaces = pod["interfaces"]
    if not interfaces:
        return amounts.UNKNOWN
    came, went = (sum(each[key] for each in interfaces) for key in ("received_bytes", "sent_bytes"))
    return f"{amounts.size(came)} / {amounts.size(went)}"


def _cores(now: Json, before: Json, seconds: float) -> float | None:
    """Mean number of CPUs used between two samples. None: unknown, or the cgroup is a new one."""
    if now["cpu_usage_ns"] is None or before.get("cpu_usage_ns") is None or seconds <= 0:
        return None
    used_ns = now["cpu_usage_ns"] - before["cpu_usage_ns"]
    return used_ns / 1e9 / seconds if used_ns >= 0 else None


def _seconds(before: Json | None, now: Json) -> float:
    began, ended = (parse_time(sample["time"]) if sample else None for sample in (before, now))
    return (ended - began).total_seconds() if began and ended else 0.0
