"""podd-cli ns: the kernel namespaces of a pod, who is in each, how far it is shared and what keeps it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from podd.cli import output
from podd.cli.connect import connect
from podd.cli.status import Json
from podd.cli.text import Table, note
from podd.cli.words import add_pod_choice, chosen

COLUMNS = ("NAMESPACE", "INODE", "SCOPE", "MEMBERS", "PINNED BY")
SCOPES = {"node": "node (shared with the host)"}


def arguments(parser: ArgumentParser) -> None:
    add_pod_choice(parser)
    output.add_format_option(parser)


def run(options: Namespace) -> int:
    with connect(options) as podd:
        rows = podd.call("Namespaces", chosen(options))["rows"]
    if options.output:
        output.show(rows, options.output)
    else:
        print("\n".join(_table(rows, options).lines())) if rows else note("no running pods")
    return 0


def _table(rows: list[Json], options: Namespace) -> Table:
    head = () if options.pod else ("POD",)
    table = Table((*head, *COLUMNS), colour=lambda _header, value: "yellow" if value in SCOPES.values() else "")
    for row in rows:
        pod = f"{row['namespace']}/{row['pod']}" if options.all_namespaces else row["pod"]
        table.add(*(() if options.pod else (pod,)), *_cells(row))
    return table


def _cells(row: Json) -> tuple[str, ...]:
    members = ",".join(row["members"]) or "<none>"
    scope = str(SCOPES.get(row["scope"], row["scope"]))
    return row["type"], str(row["inode"]), scope, members, row["pinned_by"] or "<none>"
