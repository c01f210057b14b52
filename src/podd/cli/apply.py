"""podd-cli apply: give the daemon manifests, and say what became of each pod."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from podd.cli import changes, manifests
from podd.cli.connect import connect
from podd.cli.durations import duration
from podd.cli.manifests import Manifest
from podd.cli.status import Json
from podd.cli.text import complain, note
from podd.cli.words import Usage
from podd.errors import PoddError

FAILED = {"refused": "refused", "kept": "kept as it is, because another could not take its place"}
GOOD_PHASES = ("Running", "Succeeded")
AS_BEFORE = {"Infeasible": "limits as before", "NotPublished": "ports of the host as before"}


def arguments(parser: ArgumentParser) -> None:
    manifests.add_file_option(parser, required=True)
    manifests.add_strict_option(parser)
    parser.add_argument("--wait", action="store_true", help="until every pod runs, has ended, or cannot start")
    parser.add_argument("--timeout", type=duration, metavar="D", help="how long to wait, as in 30s or 2m; for ever")
    parser.add_argument("--dry-run", action="store_true", help="check, say what would change, and do nothing")


def run(options: Namespace) -> int:
    if options.timeout is not None and not options.wait:
        raise Usage("--timeout: only with --wait")
    return Apply(options).run(list(manifests.read(options.filename)))


class Apply:
    """One run over some manifests, which are judged as one: where one is wrong, nothing is made."""

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self._seen: dict[str, str] = {}
        self._status = 0

    def run(self, given: Sequence[Manifest]) -> int:
        options = self._options
        timeout_s = None if options.timeout is None else math.ceil(options.timeout)
        how = {"wait": options.wait, "dry_run": options.dry_run, "timeout_s": timeout_s}
        with connect(options) as podd:
            try:
                for reply, _ in podd.call_more("Apply", manifests.asked(given, options, **how)):
                    if reply.get("results") is not None:
                        self._report(reply["results"])
                    else:
                        self._progress(reply["progress"])
            except PoddError as refusal:
                self._status = complain(str(refusal))
        return self._status

    def _progress(self, step: Json) -> None:
        """A line for a person who waits; nothing for a program."""
        text = ": ".join(filter(None, (step["phase"], step.get("reason"), step.get("message"))))
        if sys.stderr.isatty() and self._seen.get(step["name"]) != text:
            self._seen[step["name"]] = text
            note(f"pod/{step['name']}: {text}")

    # ---- what became of them
    def _report(self, results: Sequence[Json]) -> None:
        refused = any(result["action"] == "refused" for result in results)
        for result in results:
            name = f"{result.get('kind', 'Pod').lower()}/{result['name']}"
            for warning in result.get("warnings", ()):
                note(f"{name}: {warning}")  # it says itself whether it is a warning or a note
            if result["action"] in FAILED:
                self._fail(name, result, FAILED[result["action"]])
            elif refused and not self._options.dry_run:
                self._status = complain(f"{name}: not applied: another object of the same manifest is refused")
            else:
                self._accepted(name, result)

    def _accepted(self, name: str, result: Json) -> None:
        verb = result["action"]
        if self._options.dry_run:
            print("\n".join([f"{name} {verb} (dry run)", *changes.lines(result)]), flush=True)
        elif not self._options.wait or not result["phase"]:
            print(f"{name} {verb}", flush=True)
        elif result["phase"] in GOOD_PHASES and result.get("reason") not in AS_BEFORE:
            print(f"{name} {verb}: {result['phase']}", flush=True)
        else:
            print(f"{name} {verb}", flush=True)
            self._fail(name, result, AS_BEFORE.get(result["reason"]) or result["phase"])

    def _fail(self, name: str, result: Json, what: str) -> None:
        why = ": ".join(filter(None, (result.get("reason"), result.get("message"))))
        where = "" if what == "refused" else f"; see 'podd-cli describe {name} -n {result['namespace']}'"
        self._status = complain(f"{name}: {what}{': ' if why else ''}{why}{where}")
