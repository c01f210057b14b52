"""podd-cli tree: the cgroups of pods, with limits, usage and processes, drawn as systemd-cgls draws them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from podd.cli import amounts, output
from podd.cli.connect import connect
from podd.cli.status import Json
from podd.cli.text import box_characters, clean, cut, note, paint, terminal_columns
from podd.cli.words import add_pod_choice, chosen

BOX = ("├─", "└─", "│ ", "  ")
ASCII = ("|-", "`-", "| ", "  ")


class Branch(NamedTuple):
    """A line and what hangs below it."""

    name: str
    facts: str
    below: list[Branch]


def arguments(parser: ArgumentParser) -> None:
    add_pod_choice(parser)
    output.add_format_option(parser)


def run(options: Namespace) -> int:
    with connect(options) as podd:
        nodes = podd.call("Tree", chosen(options))["nodes"]
    if options.output:
        output.show(nodes, options.output)
        return 0
    if not nodes:
        note("no running pods")
    for root in grown(nodes):
        print("\n".join(_drawn(root)))
    return 0


def grown(nodes: Sequence[Json]) -> list[Branch]:
    """Trees from a flat list in which each node comes before its children, one level deeper."""
    roots: list[Branch] = []
    path: list[Branch] = []
    for node in nodes:
        depth = node["depth"]
        name = node["name"] if depth else f"pod/{node['pod']} ({node['namespace']}) {node['path']}"
        branch = Branch(clean(name), facts(node), [])
        branch.below.extend(Branch(f"{p['pid']} {clean(p['command'])}", "", []) for p in node["processes"])
        (path[depth - 1].below if depth else roots).append(branch)
        path[depth:] = [branch]
    return roots


def facts(node: Json) -> str:
    """What a cgroup uses, and may use at most: "cpu 1.2s (limit 500m), memory 3.1Mi (limit 64Mi), pids 2"."""
    limits, usage = node["limits"], node["usage"]
    quota_us, cpu_ns = limits["cpu_quota_us"], usage["cpu_usage_ns"]
    most = amounts.cores(quota_us / limits["cpu_period_us"]) if quota_us else amounts.UNKNOWN
    known = (
        ("cpu", amounts.UNKNOWN if cpu_ns is None else f"{cpu_ns / 1e9:.2f}s", most),
        ("memory", amounts.size(usage["memory_usage_bytes"]), amounts.size(limits["memory_bytes"])),
        ("pids", amounts.count(usage["pids"]), amounts.count(limits["pids"])),
    )
    return ", ".join(
        f"{what} {used}" + ("" if limit == amounts.UNKNOWN else f" (limit {limit})")
        for what, used, limit in known
        if (used, limit) != (amounts.UNKNOWN, amounts.UNKNOWN)
    )


def _drawn(root: Branch) -> Iterator[str]:
    """Lines cut to the terminal, where stdout is one."""
    columns = terminal_columns()
    marks = BOX if box_characters() else ASCII

    def lines(branch: Branch, lead: str, lead_below: str) -> Iterator[str]:
        name, facts = branch.name, f"  [{branch.facts}]" if branch.facts else ""
        if columns is not None:
            name = cut(name, max(columns - len(lead), 1))
            facts = cut(facts, max(columns - len(lead) - len(name), 0))
        yield lead + paint(name, "bold" if branch.facts else "") + paint(facts, "dim" if facts else "")
        for number, child in enumerate(branch.below, start=1):
            fork, bar = (marks[0], marks[2]) if number < len(branch.below) else (marks[1], marks[3])
            yield from lines(child, lead_below + fork, lead_below + bar)

    return lines(root, "", "")
