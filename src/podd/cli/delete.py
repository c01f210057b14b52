"""podd-cli delete: stop pods and forget them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from podd.cli import manifests, objects, orders
from podd.cli.connect import connect
from podd.cli.status import Json
from podd.cli.words import Usage, add_namespace_options, object_names, pod_names
from podd.control.client import Client


def arguments(parser: ArgumentParser) -> None:
    chosen = "pod NAME ... | pod/NAME ... | pods --all | pods -l SELECTOR | configmap NAME ... | secret NAME ..."
    parser.usage = f"{parser.prog} {chosen} | -f FILE [options]"
    parser.add_argument("words", nargs="*", metavar="pods", help="those that are named")
    manifests.add_file_option(parser, required=False)
    orders.add_selection(parser)
    add_namespace_options(parser)
    parser.add_argument("--ignore-not-found", action="store_true", help="a pod that is not there is no failure")
    orders.add_grace_options(parser)
    orders.add_wait_option(parser)


def run(options: Namespace) -> int:
    if about := object_names(options.words):
        if options.selector:
            raise Usage("--selector: chooses pods")
        return objects.delete(options, *about)
    if bool(options.words) == bool(options.filename):
        raise Usage("name pods, or give their manifests with -f")
    if options.filename and (options.all or options.selector):
        raise Usage("-f says which pods: it goes with neither --all nor --selector")
    names = pod_names(options.words) if options.words else []
    if options.words:
        orders.check_selection(options, names)
    how = {**orders.stopping(options), "wait": options.wait}
    with connect(options) as podd:
        named = _named_in_manifests(podd, options)
        pods = [(one["name"], one["namespace"]) for one in named if one.get("kind", "Pod") == "Pod"]
        targets = pods if options.filename else orders.chosen(podd, options, names)
        order = orders.together if options.wait and len(targets) > 1 else orders.each
        done = _done if options.wait else _ordered
        status = order(podd, "Delete", targets, how, done, ignore_not_found=options.ignore_not_found)
        rest = [one for one in named if one.get("kind", "Pod") != "Pod"]  # after the pods that use them
        return max([status, *(objects.forget(podd, options, o["kind"], o["name"], o["namespace"]) for o in rest)])


def _named_in_manifests(podd: Client, options: Namespace) -> list[Json]:
    """The daemon reads manifests, not we: it tells of which objects they are. What it would refuse is no obstacle."""
    named: list[Json] = []
    for manifest in manifests.read(options.filename):
        asked = {"manifest": manifest.text, "source": manifest.source, "namespace": options.namespace}
        named += podd.call("Apply", {**asked, "dry_run": True, "strict": False})["results"]
    return named


def _done(pod: Json) -> int:
    print(f"pod/{pod['metadata']['name']} deleted", flush=True)
    return 0


def _ordered(pod: Json) -> int:
    print(f"pod/{pod['metadata']['name']} deleting", flush=True)
    return 0
