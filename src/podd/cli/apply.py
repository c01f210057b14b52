"""podd-cli apply: give the daemon manifests, and say what became of each pod."""

from __future__ import annotations

import math
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from podd.cli import changes, manifests
from podd.cli.connect import connect
from podd.cli.durations import duration
from podd.cli.manifests import Manifest
from podd.cli.status import Json
from podd.cli.text import complain, note
from podd.cli.words import Usage
from podd.control.client import Client
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
    """One run over some manifests. A wrong one refuses its own pods, and not those of the others."""

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self._deadline_s = None if options.timeout is None else time.monotonic() + options.timeout
        self._seen: dict[str, str] = {}
        self._status = 0

    def run(self, given: Sequence[Manifest]) -> int:
        with connect(self._options) as podd:
            if len(given) == 1 or not self._options.wait:
                for manifest in given:
                    self._report(self._apply(podd, manifest, wait=self._options.wait))
            else:
                self._all_then_wait(podd, given)
        return self._status

    def _all_then_wait(self, podd: Client, given: Sequence[Manifest]) -> None:
        """Pods of different files may need each other: all are started before one is waited for."""
        accepted = [(manifest, self._apply(podd, manifest, wait=False)) for manifest in given]
        for manifest, results in accepted:
            if results is None or _refused(results):
                self._report(results)
                continue
            waited = self._apply(podd, manifest, wait=True)
            for result, first in zip(waited or (), results, strict=False):
                if result["action"] == "unchanged":
                    result["action"] = first["action"]
            self._report(waited)

    def _apply(self, podd: Client, manifest: Manifest, *, wait: bool) -> list[Json] | None:
        """One call. None: it was refused or failed as a whole, which was said."""
        timeout_s = self._timeout_s() if wait else None
        dry_run = self._options.dry_run
        asked = manifests.asked(manifest, self._options, wait=wait, dry_run=dry_run, timeout_s=timeout_s)
        try:
            for reply, _ in podd.call_more("Apply", asked):
                if reply.get("results") is not None:
                    results: list[Json] = reply["results"]
                    return results
                self._progress(reply["progress"])
        except PoddError as refusal:
            self._status = complain(str(refusal))
        return None

    def _timeout_s(self) -> int | None:
        return None if self._deadline_s is None else max(0, math.ceil(self._deadline_s - time.monotonic()))

    def _progress(self, step: Json) -> None:
        """A line for a person who waits; nothing for a program."""
        text = ": ".join(filter(None, (step["phase"], step.get("reason"), step.get("message"))))
        if sys.stderr.isatty() and self._seen.get(step["name"]) != text:
            self._seen[step["name"]] = text
            note(f"pod/{step['name']}: {text}")

    # ---- what became of them
    def _report(self, results: Sequence[Json] | None) -> None:
        refused = _refused(results or ())
        for result in results or ():
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


def _refused(results: Sequence[Json]) -> bool:
    return any(result["action"] == "refused" for result in results)
