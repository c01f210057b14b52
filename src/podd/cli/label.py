"""podd-cli label and annotate: KEY=VALUE sets, KEY- removes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial

from podd.cli import orders
from podd.cli.connect import connect
from podd.cli.status import Json
from podd.cli.words import Usage, add_namespace_options, pod_names

FIELDS = {"label": "labels", "annotate": "annotations"}
DONE = {"label": "labeled", "annotate": "annotated"}


def arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} pod NAME ... | pod/NAME ... | pods --all | pods -l SELECTOR KEY=VALUE|KEY- ..."
    parser.add_argument("words", nargs="+", metavar="words", help="pods, then KEY=VALUE to set and KEY- to remove")
    orders.add_selection(parser)
    add_namespace_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="also where there is another value")


def run(options: Namespace) -> int:
    first = next((n for n, word in enumerate(options.words) if _is_change(word)), len(options.words))
    if first == len(options.words):
        raise Usage(f"{options.command}: KEY=VALUE or KEY- is missing")
    names = pod_names(options.words[:first])
    orders.check_selection(options, names)
    how = {FIELDS[options.command]: _changes(options.words[first:]), "overwrite": options.overwrite}
    with connect(options) as podd:
        targets = orders.chosen(podd, options, names)
        return orders.each(podd, "Amend", targets, how, partial(_done, DONE[options.command]))


def _is_change(word: str) -> bool:
    return "=" in word or word.endswith("-")


def _changes(words: Sequence[str]) -> dict[str, str | None]:
    changes: dict[str, str | None] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not _is_change(word) or not key.removesuffix("-"):
            raise Usage(f"'{word}': neither KEY=VALUE nor KEY-")
        changes[key if equals else key.removesuffix("-")] = value if equals else None
    return changes


def _done(verb: str, pod: Json) -> int:
    print(f"pod/{pod['metadata']['name']} {verb}", flush=True)
    return 0
