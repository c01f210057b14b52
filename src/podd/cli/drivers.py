"""podd-cli drivers: what can run pods here, what not, and why not."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from podd.cli import output
from podd.cli.connect import connect
from podd.cli.status import Json
from podd.cli.text import Table


def arguments(parser: ArgumentParser) -> None:
    output.add_format_option(parser, "wide")


def run(options: Namespace) -> int:
    with connect(options) as podd:
        drivers = podd.call("Drivers")["drivers"]
    if options.output in output.FORMATS:
        output.show(drivers, options.output)
        return 0
    columns = ["NAME", "DEFAULT", "USABLE", "VERSION"]
    if options.output == "wide":
        columns.append("CAN")
    table = Table((*columns, "NOTES"), wrap=True, colour=_colour)
    for driver in drivers:
        can = [name for name, has in driver["capabilities"].items() if has]
        cells = [driver["name"], _yes(driver["is_default"]), _yes(driver["usable"]), driver["version"] or "<none>"]
        if options.output == "wide":
            cells.append(",".join(can) or "<none>")
        table.add(*cells, _notes(driver))
    print("\n".join(table.lines()))
    return 0


def _notes(driver: Json) -> str:
    """Why not, and what to do; then what works with less."""
    why = "; ".join(filter(None, (driver["reason"], driver["remedy"])))
    return ". ".join(filter(None, (why, *driver["notes"]))) or "<none>"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _colour(header: str, value: str) -> str:
    return "red" if header == "USABLE" and value == "no" else ""
