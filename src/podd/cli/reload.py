"""podd-cli reload: have the daemon read its configuration and its static pods again."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from podd.cli import output
from podd.cli.connect import connect


def arguments(parser: ArgumentParser) -> None:
    output.add_format_option(parser)


def run(options: Namespace) -> int:
    with connect(options) as podd:
        report = podd.call("Reload")
    if options.output:
        output.show(report, options.output)
        return 0
    for key in report["changed"]:
        print(f"{key} changed")
    for key in report["needs_restart"]:
        print(f"{key} changes when podd is restarted")
    if not report["changed"] and not report["needs_restart"]:
        print("no key changed")
    return 0
