"""Orders to pods, and the options that they share."""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from podd.cli.status import Json
from podd.cli.text import complain
from podd.cli.words import whole_number
from podd.control.client import Client
from podd.errors import NotFound, PoddError

Target = tuple[str, str | None]
"""A pod's name or uid as it was given, and its namespace or None."""

Done = Callable[[Json], int]
"""Says what became of a pod that the daemon answered with. Returns the exit status."""


def add_wait_option(parser: ArgumentParser) -> None:
    parser.add_argument("--wait", action=BooleanOptionalAction, default=True, help="until it is done (the default)")


def add_grace_options(parser: ArgumentParser) -> None:
    grace = parser.add_mutually_exclusive_group()
    grace.add_argument("--now", action="store_true", help="kill at once")
    grace.add_argument("--grace-period", type=whole_number, metavar="S", help="seconds from stop signal to kill")


def stopping(options: Namespace) -> dict[str, Any]:
    """The parameters of Stop, Restart and Delete that say how."""
    return {"grace_period_s": options.grace_period, "now": options.now or None}


def each(podd: Client, method: str, targets: Iterable[Target], how: Mapping[str, Any], done: Done) -> int:
    """Ask `method` of one pod after the other. A pod that refuses is told, and does not keep the others from it.

    Returns 0, or 1 when one refused or failed.
    """
    result = 0
    for name, namespace in targets:
        try:
            result = done(podd.call(method, {"name": name, "namespace": namespace, **how})["pod"]) or result
        except PoddError as refusal:
            result = complain(str(refusal))
    return result


def together(podd: Client, method: str, targets: Iterable[Target], how: Mapping[str, Any], done: Done) -> int:
    """As `each`, but every pod has its order before one is waited for.

    For orders that bear repeating: what was ordered is ordered still, and now the answer comes when it is done.
    """
    ordered: dict[str, Json] = {}

    def remember(pod: Json) -> int:
        ordered[pod["metadata"]["uid"]] = pod
        return 0

    result = each(podd, method, targets, {**how, "wait": False}, remember)
    for uid, pod in ordered.items():
        try:
            pod = podd.call(method, {"name": uid, **how, "wait": True})["pod"]  # noqa: PLW2901  # as it is now
        except PoddError as refusal:
            if not (method == "Delete" and isinstance(refusal, NotFound)):  # else it went in the meantime: done
                result = complain(str(refusal))
                continue
        result = done(pod) or result
    return result
