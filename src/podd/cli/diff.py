"""podd-cli diff: what applying manifests would change.

Exit status as kubectl's: 0 nothing, 1 something, more than 1 an error.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from podd.cli import changes, manifests
from podd.cli.connect import connect
from podd.cli.manifests import Manifest
from podd.cli.status import Json
from podd.cli.text import complain, note
from podd.control.client import Client
from podd.errors import PoddError

SAME, DIFFERENT, FAILED = 0, 1, 2


def arguments(parser: ArgumentParser) -> None:
    manifests.add_file_option(parser, required=True)
    manifests.add_strict_option(parser)


def run(options: Namespace) -> int:
    status = SAME
    try:
        with connect(options) as podd:
            for manifest in manifests.read(options.filename):
                status = max(status, _diff(podd, manifest, options))
    except (PoddError, OSError) as exc:
        return complain(f"{exc.filename}: {exc.strerror}" if isinstance(exc, OSError) else str(exc), FAILED)
    return status


def _diff(podd: Client, manifest: Manifest, options: Namespace) -> int:
    """A manifest that is wrong is told, and does not keep the others from being compared."""
    try:
        results = podd.call("Apply", manifests.asked(manifest, options, dry_run=True))["results"]
    except PoddError as refusal:
        return complain(str(refusal), FAILED)
    return max((_show(result, manifest.source) for result in results), default=SAME)


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
