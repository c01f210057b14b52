"""Orders to pods, and the options that they share."""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from podd.cli.connect import connect
from podd.cli.status import Json
from podd.cli.text import complain, note
from podd.cli.words import Usage, listed_namespace, whole_number
from podd.control.client import Client
from podd.errors import NotFound, PoddError

Target = tuple[str, str | None]
"""A pod's name or uid as it was given, and its namespace or None."""

AT_ONCE = 64
"""Connections, of which the daemon allows a user some hundreds."""

Done = Callable[[Json], int]
"""Says what became of a pod that the daemon answered with. Returns the exit status."""


def add_wait_option(parser: ArgumentParser) -> None:
    parser.add_argument("--wait", action=BooleanOptionalAction, default=True, help="until it is done (the default)")


def add_grace_options(parser: ArgumentParser) -> None:
    grace = parser.add_mutually_exclusive_group()
    grace.add_argument("--now", action="store_true", help="kill at once")
    grace.add_argument("--grace-period", type=whole_number, metavar="S", help="seconds from stop signal to kill")


def add_selection(parser: ArgumentParser) -> None:
    """Beside names: all of a namespace, or those that a selector fits."""
    parser.add_argument("--all", action="store_true", help="every pod of the namespace")
    parser.add_argument("-l", "--selector", default="", help="those with such labels, as in app=web,tier!=test")


def check_selection(options: Namespace, names: Sequence[str]) -> None:
    """Raises Usage: it is not one of names, --all and --selector."""
    if sum((bool(names), options.all, bool(options.selector))) != 1:
        raise Usage("name pods, or choose them by --selector, or take all of them with --all")
    if names and options.all_namespaces:
        raise Usage("a pod's name does not go with --all-namespaces")


def chosen(podd: Client, options: Namespace, names: Sequence[str]) -> list[Target]:
    """Those that are named, else those that --all or --selector mean, which may be none: that is told."""
    if names:
        return [(name, options.namespace) for name in names]
    wanted = {"namespace": listed_namespace(options), "selector": options.selector or None}
    targets: list[Target] = [(pod["metadata"]["uid"], None) for pod in podd.call("List", wanted)["pods"]]
    if not targets:
        note("no pods")
    return targets


def stopping(options: Namespace) -> dict[str, Any]:
    """The parameters of Stop, Restart and Delete that say how."""
    return {"grace_period_s": options.grace_period, "now": options.now or None}


def each(
    podd: Client,
    method: str,
    targets: Iterable[Target],
    how: Mapping[str, Any],
    done: Done,
    *,
    ignore_not_found: bool = False,
) -> int:
    """Ask `method` of one pod after the other. A pod that refuses is told, and does not keep the others from it.

    Returns 0, or 1 when one refused or failed.
    """
    result = 0
    for name, namespace in targets:
        try:
            result = done(podd.call(method, {"name": name, "namespace": namespace, **how})["pod"]) or result
        except PoddError as refusal:
            if ignore_not_found and isinstance(refusal, NotFound):
                continue
            result = complain(str(refusal))
    return result


def at_once(options: Namespace, method: str, targets: Sequence[Target], how: Mapping[str, Any], done: Done) -> int:
    """As `each`, on a connection for every pod: for orders that do not bear repeating and are waited for.

    Threads are not waited for: what ends this command ends them.
    """
    import queue
    import threading

    answers: list[queue.SimpleQueue[Json | Exception]] = []
    room = threading.Semaphore(AT_ONCE)

    def ask(target: Target, answer: queue.SimpleQueue[Json | Exception]) -> None:
        name, namespace = target
        try:
            with room, connect(options) as podd:
                answer.put(podd.call(method, {"name": name, "namespace": namespace, **how})["pod"])
        except Exception as exc:  # noqa: BLE001  # raised again by who reads the queue
            answer.put(exc)

    for target in targets:
        answers.append(queue.SimpleQueue())
        threading.Thread(target=ask, args=(target, answers[-1]), daemon=True).start()
    result = 0
    for came in answers:
        pod = came.get()
        if isinstance(pod, PoddError):
            result = complain(str(pod))
        elif isinstance(pod, Exception):
            raise pod
        else:
            result = done(pod) or result
    return result


def together(
    podd: Client,
    method: str,
    targets: Iterable[Target],
    how: Mapping[str, Any],
    done: Done,
    *,
    ignore_not_found: bool = False,
) -> int:
    """As `each`, but every pod has its order before one is waited for.

    For orders that bear repeating: what was ordered is ordered still, and now the answer comes when it is done.
    """
    ordered: dict[str, Json] = {}

    def remember(pod: Json) -> int:
        ordered[pod["metadata"]["uid"]] = pod
        return 0

    result = each(podd, method, targets, {**how, "wait": False}, remember, ignore_not_found=ignore_not_found)
    for uid, pod in ordered.items():
        try:
            pod = podd.call(method, {"name": uid, **how, "wait": True})["pod"]  # noqa: PLW2901  # as it is now
        except PoddError as refusal:
            if not (method == "Delete" and isinstance(refusal, NotFound)):  # else it went in the meantime: done
                result = complain(str(refusal))
                continue
        result = done(pod) or result
    return result
