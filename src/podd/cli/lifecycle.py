"""podd-cli stop, start, restart, pause, resume."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from podd.cli import orders
from podd.cli.connect import connect
from podd.cli.status import Json, status
from podd.cli.text import complain
from podd.cli.words import add_namespace_options, pod_name

METHODS = {"stop": "Stop", "start": "Start", "restart": "Restart", "pause": "Pause", "resume": "Resume"}
DONE = {"stop": "stopped", "start": "started", "restart": "restarted", "pause": "paused", "resume": "resumed"}
ORDERED = {"stop": "stopping", "start": "starting", "restart": "restarting"}


def arguments(parser: ArgumentParser) -> None:
    word = parser.get_default("command")
    parser.add_argument("pods", nargs="*", metavar="POD", help="NAME, pod/NAME, or the beginning of a uid")
    orders.add_selection(parser)
    add_namespace_options(parser)
    if word in ORDERED:
        orders.add_wait_option(parser)
    if word in ("stop", "restart"):
        orders.add_grace_options(parser)


def run(options: Namespace) -> int:
    word: str = options.command
    names = [pod_name(each) for each in options.pods]
    orders.check_selection(options, names)
    how = orders.stopping(options) if word in ("stop", "restart") else {}
    waits = word in ORDERED and options.wait
    if word in ORDERED:
        how["wait"] = waits
    with connect(options) as podd:
        targets, done = orders.chosen(podd, options, names), partial(_done, word, waits)
        if not waits or len(targets) < 2:
            return orders.each(podd, METHODS[word], targets, how, done)
        if word == "restart":
            return orders.at_once(options, METHODS[word], targets, how, done)
        return orders.together(podd, METHODS[word], targets, how, done)


def _done(word: str, waited: bool, pod: Json) -> int:
    """The pod as it is now. One that was to start may be one that cannot."""
    name, state = f"pod/{pod['metadata']['name']}", pod.get("status", {})
    if waited and word in ("start", "restart") and state.get("phase") not in ("Running", "Succeeded"):
        why = f": {state['message']}" if state.get("message") else ""
        see = f"see 'podd-cli describe {name} -n {pod['metadata']['namespace']}'"
        return complain(f"{name}: not running: {status(pod)}{why}; {see}")
    print(f"{name} {ORDERED[word] if word in ORDERED and not waited else DONE[word]}", flush=True)
    return 0
