"""podd-cli drivers: what can run pods here, what not, and why not."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

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
    table = Table(("NAME", "DRIVER", "DEFAULT", "USABLE", "NETWORK", "VERSION", "NOTES"), wrap=True, colour=_colour)
    for driver in drivers:
        version = driver["version"] or "<none>"
        words = (driver["name"], driver["driver"], _yes(driver["is_default"]), _yes(driver["usable"]))
        table.add(*words, _network(driver), version, _notes(driver))
    print("\n".join(table.lines()))
    able = [driver for driver in drivers if driver["capabilities"]]
    if options.output == "wide" and able:
        print("\n".join(["", *_matrix(able).lines()]))
    return 0


def _matrix(drivers: Sequence[Json]) -> Table:
    """What each declares: a row for each capability."""
    table = Table(("CAPABILITY", *(driver["name"].upper() for driver in drivers)), colour=_colour)
    for name in dict.fromkeys(name for driver in drivers for name in driver["capabilities"]):
        table.add(name.replace("_", "-"), *(_yes(driver["capabilities"].get(name, False)) for driver in drivers))
    return table


def _notes(driver: Json) -> str:
    """Why not, and what to do; then what works with less."""
    why = "; ".join(filter(None, (driver["reason"], driver["remedy"])))
    return ". ".join(filter(None, (why, *driver["notes"], no_network(driver.get("network"))))) or "<none>"


def _network(driver: Json) -> str:
    status = driver.get("network")
    return "none" if status is None else "not ready" if not status["ready"] else status["name"] or "ready"


def no_network(status: Json | None) -> str:
    """Why there is none, and what to do; "" where there is one, or the driver gives none."""
    if status is None or status["ready"]:
        return ""
    why = "; ".join(filter(None, (status["reason"], status["remedy"])))
    return f"the network is not ready{': ' if why else ''}{why}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _colour(header: str, value: str) -> str:
    if (header, value) == ("NETWORK", "not ready"):
        return "yellow"
    return "red" if header == "USABLE" and value == "no" else ""
