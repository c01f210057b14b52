"""podd-cli delete: stop pods and forget them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from podd.cli import manifests, orders
from podd.cli.connect import connect
from podd.cli.status import Json
from podd.cli.text import note
from podd.cli.words import Usage, add_namespace_options, listed_namespace, pod_names
from podd.control.client import Client


def arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} pod NAME ... | pod/NAME ... | pods --all | -f FILE [options]"
    parser.add_argument("words", nargs="*", metavar="pods", help="those that are named")
    manifests.add_file_option(parser, required=False)
    parser.add_argument("--all", action="store_true", help="every pod of the namespace")
    add_namespace_options(parser)
    orders.add_grace_options(parser)
    orders.add_wait_option(parser)


def run(options: Namespace) -> int:
    if bool(options.words) == bool(options.filename):
        raise Usage("name pods, or give their manifests with -f")
    names = pod_names(options.words) if options.words else []
    if options.words and bool(names) == options.all:
        raise Usage("name pods, or all of them with 'pods --all'")
    how = {**orders.stopping(options), "wait": options.wait}
    with connect(options) as podd:
        targets = _named_in_manifests(podd, options) if options.filename else _chosen(podd, options, names)
        if not targets:
            note("no pods")
        order = orders.together if options.wait and len(targets) > 1 else orders.each
        return order(podd, "Delete", targets, how, _done if options.wait else _ordered)


def _chosen(podd: Client, options: Namespace, names: list[str]) -> list[orders.Target]:
    if names:
        return [(name, options.namespace) for name in names]
    pods = podd.call("List", {"namespace": listed_namespace(options)})["pods"]
    return [(pod["metadata"]["uid"], None) for pod in pods]


def _named_in_manifests(podd: Client, options: Namespace) -> list[orders.Target]:
    """The daemon reads manifests, not we: it tells what applying them would do, and to which pods."""
    targets: list[orders.Target] = []
    for manifest in manifests.read(options.filename):
        asked = {"manifest": manifest.text, "source": manifest.source, "namespace": options.namespace, "dry_run": True}
        results = podd.call("Apply", asked)["results"]
        targets += [(result["name"], result["namespace"]) for result in results]
    return targets


def _done(pod: Json) -> int:
    print(f"pod/{pod['metadata']['name']} deleted", flush=True)
    return 0


def _ordered(pod: Json) -> int:
    print(f"pod/{pod['metadata']['name']} deleting", flush=True)
    return 0
