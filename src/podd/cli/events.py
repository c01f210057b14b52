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
from podd.cli.text import Table, note
from podd.cli.words import Usage, add_pod_choice, chosen

COLUMNS = ("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE")


def arguments(parser: ArgumentParser) -> None:
    add_pod_choice(parser)
    parser.add_argument("-l", "--selector", default="", help="of pods that are there and have such labels")
    parser.add_argument("-f", "--follow", "-w", "--watch", action="store_true", help="go on as things happen")
    parser.add_argument(
        "--since", type=moment, metavar="T", help="begin so long ago (90s, 1h30m), or at an RFC 3339 time"
    )
    output.add_format_option(parser)


def run(options: Namespace) -> int:
    if options.pod and options.selector:
        raise Usage("a pod's name does not go with --selector")
    asked = {**chosen(options), "selector": options.selector or None, "since": options.since, "follow": options.follow}
    with connect(options) as podd:
        replies = batches(podd, "Events", asked, "events")
        if options.follow:
            _follow(replies, options)
            return 0
        events = [event for batch in replies for event in batch]
    if options.output:
        output.show(events, options.output)
    elif events:
        table = _table(options)
        for event in events:
            table.add(*_row(event, options))
        print("\n".join(table.lines()))
    else:
        note("no events")
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


def _follow(replies: Iterator[list[Json]], options: Namespace) -> None:
    """What is remembered, then each as it comes; for programs one document each (JSON: one line each)."""
    table = _table(options)
    first = True
    for events in replies:
        if options.output:
            for event in events:
                _document(event, options.output)
            continue
        rows = [tuple(_row(event, options)) for event in events]
        for row in rows if first else ():
            table.add(*row)
        lines = table.lines() if first else [line for row in rows for line in table.append(*row)]
        first = False
        if lines:
            print("\n".join(lines), flush=True)


def _document(event: Json, format_name: str) -> None:
    print(json.dumps(event) if format_name == "json" else "---", flush=True)
    if format_name == "yaml":
        output.show(event, format_name)
