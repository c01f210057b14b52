"""podd-cli get: pods as a table, or for programs; ConfigMaps and Secrets likewise."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from podd.cli import durations, output
from podd.cli.connect import connect
from podd.cli.status import Json, addresses, colour, podd_status, ready, restarts, status
from podd.cli.text import Table, complain, note
from podd.cli.words import Usage, add_namespace_options, listed_namespace, object_names, pod_names
from podd.control.client import Client
from podd.errors import PoddError

COLUMNS = ("NAME", "READY", "STATUS", "RESTARTS", "AGE")
WIDE = ("DRIVER", "IP", "SANDBOX")


def arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} pods | pod NAME ... | pod/NAME ... | configmaps | secrets [NAME ...] [options]"
    parser.add_argument("words", nargs="+", metavar="pods", help="all of a namespace, or those that are named")
    output.add_format_option(parser, "wide", "name")
    add_namespace_options(parser)
    parser.add_argument("-l", "--selector", default="", help="label selector, as in app=web,tier!=test")
    parser.add_argument("-w", "--watch", action="store_true", help="go on, and show pods as they change")


def run(options: Namespace) -> int:
    if about := object_names(options.words):
        from podd.cli import objects

        return objects.get(options, *about)
    names = pod_names(options.words)
    if names and (options.selector or options.all_namespaces):
        raise Usage("a pod's name goes with neither --selector nor --all-namespaces")
    with connect(options) as podd:
        if options.watch:
            return _watch(podd, options, names)
        pods, failed = _fetch(podd, options, names)
    if options.output in (None, "wide"):
        _print_table(pods, options, say_none=not failed)
    elif pods or not failed:
        output.pods(pods, options.output, one=len(names) == 1)
    return 1 if failed else 0


def _fetch(podd: Client, options: Namespace, names: Sequence[str]) -> tuple[list[Json], bool]:
    """The pods, and whether one that was named could not be had; which was said then."""
    if not names:
        wanted = {"namespace": listed_namespace(options), "selector": options.selector}
        return podd.call("List", wanted)["pods"], False
    pods: list[Json] = []
    failed = False
    for name in names:
        try:
            pods.append(podd.call("Get", {"name": name, "namespace": options.namespace})["pod"])
        except PoddError as refusal:
            failed = True
            complain(str(refusal))
    return pods, failed


def _print_table(pods: Sequence[Json], options: Namespace, *, say_none: bool) -> None:
    if pods:
        print("\n".join(_table(pods, options).lines()))
    elif say_none:
        where = "" if options.all_namespaces else f" in namespace {listed_namespace(options)}"
        note(f"no pods{where}")


def _table(pods: Sequence[Json], options: Namespace) -> Table:
    columns = (*(["NAMESPACE"] if options.all_namespaces else []), *COLUMNS)
    table = Table((*columns, *(WIDE if options.output == "wide" else [])), colour=colour)
    now = datetime.now(UTC)
    for pod in pods:
        table.add(*_row(pod, options, now))
    return table


def _row(pod: Json, options: Namespace, now: datetime) -> Iterator[str]:
    meta = pod["metadata"]
    if options.all_namespaces:
        yield meta.get("namespace", "default")
    yield meta["name"]
    yield from (ready(pod), status(pod), restarts(pod, now), durations.age(meta.get("creationTimestamp"), now))
    if options.output == "wide":
        ours = podd_status(pod)
        cells = (ours.get("driver"), ", ".join(addresses(pod)), ours.get("sandboxId"))
        yield from (cell or "<none>" for cell in cells)


# ---- watching --------------------------------------------------------------------------------------------------------


def _watch(podd: Client, options: Namespace, names: Sequence[str]) -> int:
    """The pods as they are, then a line (or document) for each that has changed, until interrupted."""
    namespace = options.namespace if names else listed_namespace(options)
    wanted = {"namespace": namespace, "selector": options.selector}
    there: list[Json] = []
    synced = False
    shown = _Shown(options)
    for change, _ in podd.call_more("Watch", wanted):
        if change["type"] == "SYNCED":
            synced = True
            shown.first(there)
        elif not names or _is_named(change["pod"], names):
            if synced:
                shown.change(change["pod"], gone=change["type"] == "DELETED")
            else:
                there.append(change["pod"])
    return 0


def _is_named(pod: Json, names: Sequence[str]) -> bool:
    meta = pod["metadata"]
    return any(meta["name"] == name or (len(name) >= 4 and meta.get("uid", "").startswith(name)) for name in names)


class _Shown:
    """What a watcher has been shown, so that a line comes only when a cell other than an age differs."""

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self._table = _table([], options)
        self._last: dict[str, list[str]] = {}

    def first(self, pods: Sequence[Json]) -> None:
        if self._options.output not in (None, "wide"):
            for pod in pods:
                self._document(pod)
            return
        self._table = _table(pods, self._options)
        for pod in pods:
            self._last[pod["metadata"].get("uid", "")] = self._stable(pod)
        print("\n".join(self._table.lines()), flush=True)

    def change(self, pod: Json, *, gone: bool) -> None:
        if self._options.output not in (None, "wide"):
            self._document(pod)
            return
        cells = list(_row(pod, self._options, datetime.now(UTC)))
        if gone:
            cells[self._table.headers.index("STATUS")] = "Deleted"
        stable = [] if gone else self._stable(pod)
        if self._last.get(uid := pod["metadata"].get("uid", "")) == stable:
            return
        self._last[uid] = stable
        print("\n".join(self._table.append(*cells)), flush=True)

    def _stable(self, pod: Json) -> list[str]:
        cells = list(_row(pod, self._options, datetime.fromtimestamp(0, UTC)))
        cells.pop(self._table.headers.index("AGE"))
        return cells

    def _document(self, pod: Json) -> None:
        if self._options.output == "yaml":
            print("---")
        output.pods([pod], self._options.output, one=True)
        sys.stdout.flush()
