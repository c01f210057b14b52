"""podd-cli recreate: make pods anew by another driver. It is their own manifest, applied with that one difference."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from functools import partial

from podd.cli import orders
from podd.cli.apply import Apply
from podd.cli.connect import connect
from podd.cli.manifests import Manifest
from podd.cli.status import Json
from podd.cli.words import add_namespace_options, pod_name


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pods", nargs="*", metavar="POD", help="NAME, pod/NAME, or the beginning of a uid")
    orders.add_selection(parser)
    add_namespace_options(parser)
    parser.add_argument("--driver", required=True, metavar="D", help="the driver or runtime class, as 'drivers' shows")
    orders.add_wait_option(parser)
    parser.set_defaults(strict="error", dry_run=False, timeout=None)


def run(options: Namespace) -> int:
    names = [pod_name(each) for each in options.pods]
    orders.check_selection(options, names)
    given: list[Manifest] = []
    with connect(options) as podd:
        targets = orders.chosen(podd, options, names)
        status = orders.each(podd, "Get", targets, {}, partial(_moved, given, options.driver))
    return max(status, Apply(options).run(given) if given else 0)


def _moved(given: list[Manifest], driver: str, pod: Json) -> int:
    meta = {name: value for name, value in pod["metadata"].items() if name not in ("uid", "creationTimestamp")}
    kind = {"apiVersion": "v1", "kind": "Pod", "metadata": meta}
    text = json.dumps({**kind, "spec": {**pod["spec"], "runtimeClassName": driver}})
    given.append(Manifest(source=f"pod/{meta['name']}", text=text))
    return 0
