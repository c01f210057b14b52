"""podd-cli ns: the kernel namespaces of a pod, who is in each, how far it is shared and what keeps it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from podd.cli import output
from podd.cli.connect import connect
from podd.cli.status import Json
from podd.cli.text import Table
from podd.cli.words import add_namespace_options, listed_namespace, pod_name

COLUMNS = ("NAMESPACE", "INODE", "SCOPE", "MEMBERS", "PINNED BY")
SCOPES = {"node": "node (shared with the host)"}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pod", nargs="?", metavar="POD", help="NAME, pod/NAME, or the beginning of a uid; all without")
    add_namespace_options(parser)
    output.add_format_option(parser)


def run(options: Namespace) -> int:
    asked = {
        "name": pod_name(options.pod) if options.pod else None,
        "namespace": options.namespace if options.pod else listed_namespace(options),
    }
    with connect(options) as podd:
        rows = podd.call("Namespaces", asked)["rows"]
    if options.output:
        output.show(rows, options.output)
    else:
        print("\n".join(_table(rows, options).lines()))
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
