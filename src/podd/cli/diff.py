"""podd-cli diff: what applying manifests would change.

Exit status as kubectl's: 0 nothing, 1 something, more than 1 an error.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from podd.cli import changes, manifests
from podd.cli.connect import connect
from podd.cli.status import Json
from podd.cli.text import complain, note
from podd.errors import PoddError

SAME, DIFFERENT, FAILED = 0, 1, 2


def arguments(parser: ArgumentParser) -> None:
    manifests.add_file_option(parser, required=True)
    manifests.add_strict_option(parser)


def run(options: Namespace) -> int:
    """Judged as one, as applying them would be."""
    try:
        given = manifests.asked(list(manifests.read(options.filename)), options, dry_run=True)
        with connect(options) as podd:
            results = podd.call("Apply", given)["results"]
    except (PoddError, OSError) as exc:
        return complain(f"{exc.filename}: {exc.strerror}" if isinstance(exc, OSError) else str(exc), FAILED)
    source = ", ".join("stdin" if name == "-" else name for name in options.filename)
    return max((_show(result, source) for result in results), default=SAME)


def _show(result: Json, source: str) -> int:
    name = f"{result.get('kind', 'Pod').lower()}/{result['name']}"
    for warning in result.get("warnings", ()):
        note(f"{name}: {warning}")
    if result["action"] == "refused":
        return complain(f"{name}: {result['reason']}: {result['message']}", FAILED)
    if result["action"] == "unchanged":
        return SAME
    there = "/dev/null" if result["action"] == "created" else f"{name} -n {result['namespace']}"
    print("\n".join([f"--- {there}", f"+++ {source}: {name} {result['action']}", *changes.hunks(result)]), flush=True)
    return DIFFERENT
