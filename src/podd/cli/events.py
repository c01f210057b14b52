"""podd-cli events: what happened to pods."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import UTC, datetime

from podd.cli import durations, output
from podd.cli.connect import batches, connect
from podd.cli.logs import moment
from podd.cli.status import Json
from podd.cli.text import Table
from podd.cli.words import add_namespace_options, listed_namespace, pod_name
from podd.control.client import Client

COLUMNS = ("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pod", nargs="?", metavar="POD", help="of one pod only")
    parser.add_argument("-f", "--follow", "-w", "--watch", action="store_true", help="go on as things happen")
    parser.add_argument(
        "--since", type=moment, metavar="T", help="begin so long ago (90s, 1h30m), or at an RFC 3339 time"
    )
    add_namespace_options(parser)
    output.add_format_option(parser)


def run(options: Namespace) -> int:
    asked = {
        "name": pod_name(options.pod) if options.pod else None,
        "namespace": options.namespace if options.pod else listed_namespace(options),
        "since": options.since,
        "follow": options.follow,
    }
    with connect(options) as podd:
        if options.follow:
            _follow(podd, asked, options)
        elif options.output:
            output.show(list(batches(podd, "Events", asked, "events")), options.output)
        else:
            table = _table(options)
            for event in batches(podd, "Events", asked, "events"):
                table.add(*_row(event, options))
            print("\n".join(table.lines()))
    return 0


def _table(options: Namespace) -> Table:
    columns = ("NAMESPACE", *COLUMNS) if options.all_namespaces else COLUMNS
    return Table(columns, wrap=True, colour=lambda _header, value: "yellow" if value == "Warning" else "")


def _row(event: Json, options: Namespace) -> Iterator[str]:
    if options.all_namespaces:
        yield event["namespace"]
    count = event.get("count", 1)
    yield durations.age(event["time"], datetime.now(UTC)) + (f" (x{count})" if count > 1 else "")
    yield from (event["type"], event["reason"])
    yield f"pod/{event['pod']}" + (f"/{event['container']}" if event.get("container") else "")
    yield event["message"]


def _follow(podd: Client, asked: Json, options: Namespace) -> None:
    """What is remembered, then each as it comes; for programs one document each (JSON: one line each)."""
    table = _table(options)
    first = True
    for reply, _ in podd.call_more("Events", asked):
        for event in reply["events"] if options.output else ():
            print(json.dumps(event) if options.output == "json" else "---", flush=True)
            if options.output == "yaml":
                output.show(event, "yaml")
        if not options.output:
            rows = [tuple(_row(event, options)) for event in reply["events"]]
            for row in rows if first else ():
                table.add(*row)
            lines = table.lines() if first else [line for row in rows for line in table.append(*row)]
            first = False
            if lines:
                print("\n".join(lines), flush=True)
