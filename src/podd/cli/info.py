"""podd-cli info and podd-cli version."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from podd import __version__
from podd.cli import output
from podd.cli.connect import connect
from podd.cli.drivers import no_network
from podd.cli.status import Json
from podd.cli.text import clean, complain, paint
from podd.errors import PoddError

LABELS = {
    "version": "Version",
    "pid": "PID",
    "started_at": "Started",
    "kernel": "Kernel",
    "cgroups": "Cgroups",
    "default_driver": "Default driver",
    "config_file": "Configuration",
    "run_dir": "Run directory",
    "state_dir": "State directory",
    "log_dir": "Log directory",
}


def arguments(parser: ArgumentParser) -> None:
    output.add_format_option(parser)


def run(options: Namespace) -> int:
    return _versions(options) if options.command == "version" else _info(options)


def _info(options: Namespace) -> int:
    with connect(options) as podd:
        info = podd.call("Info")
    if options.output:
        output.show(info, options.output)
        return 0
    for key, label in LABELS.items():
        print(f"{label + ':':<17}{clean(str(info[key])) or '<none>'}")
    print(f"{'Network:':<17}{_network(info.get('network'))}")
    print(f"{'Pods:':<17}{', '.join(f'{count} {phase}' for phase, count in info['pods'].items() if count) or 'none'}")
    print(f"{'Problems:':<17}{'' if info['problems'] else 'none'}".rstrip())
    for problem in info["problems"]:
        print(paint(f"  {clean(problem)}", "yellow"))
    return 0


def _network(status: Json | None) -> str:
    """Of the default driver."""
    if status is None:
        return "none: the default driver gives pods no addresses"
    return clean(no_network(status)) or f"ready{': ' if status['name'] else ''}{clean(status['name'])}"


def _versions(options: Namespace) -> int:
    """Ours can always be told; the daemon's where one answers."""
    versions: Json = {"client": __version__}
    status = 0
    try:
        with connect(options) as podd:
            versions["daemon"] = podd.call("Info")["version"]
    except PoddError as refusal:
        status = complain(str(refusal))
    if options.output:
        output.show(versions, options.output)
    else:
        for name, version in versions.items():
            print(f"{name.capitalize()}: {clean(version)}")
    return status
