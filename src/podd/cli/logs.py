"""podd-cli logs: what containers wrote."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from podd.cli.connect import batches, connect
from podd.cli.durations import duration, parse_time
from podd.cli.status import Json, container_names
from podd.cli.text import note, paint
from podd.cli.words import Usage, add_namespace_options, listed_namespace, pod_name, whole_number
from podd.control.client import Client

COLOURS = ("cyan", "green", "yellow", "bold")
SELECTED_TAIL = 10
UNSAID = -1
"""No count of lines."""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pod", nargs="?", metavar="POD", help="NAME, pod/NAME, or the beginning of a uid")
    parser.add_argument("-l", "--selector", default="", help="of pods with such labels, as in app=web,tier!=test")
    add_namespace_options(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-c", "--container", metavar="C", help="which one, in a pod of several")
    which.add_argument("--all-containers", action="store_true", help="all of the pod")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as they write")
    parser.add_argument(
        "--tail", type=line_count, default=UNSAID, metavar="N", help="begin with the last N lines; 10 with --selector"
    )
    parser.add_argument(
        "--since", type=moment, metavar="T", help="begin so long ago (90s, 1h30m), or at an RFC 3339 time"
    )
    parser.add_argument("--timestamps", action="store_true", help="when podd read each line")
    parser.add_argument("-p", "--previous", action="store_true", help="of the instance before the last restart")
    parser.add_argument("--prefix", action="store_true", help="which container wrote each line")


def line_count(text: str) -> int | None:
    """kubectl's -1 means all."""
    return None if text == "-1" else whole_number(text)


def moment(text: str) -> str:
    """As the daemon takes it: an RFC 3339 time as it is, a span in seconds."""
    return text if "T" in text and parse_time(text) else f"{duration(text):g}s"


class Source(NamedTuple):
    """A container whose lines are wanted. pod: its pod's name."""

    pod: str
    uid: str
    container: str


def run(options: Namespace) -> int:
    if (options.pod is None) != bool(options.selector):
        raise Usage("name a pod, or choose pods by --selector")
    asked = {"follow": options.follow, "tail": options.tail, "since": options.since, "previous": options.previous}
    printer = Printer(options)
    for pod, lines in _wanted(options, asked):
        for line in lines:
            printer.show(pod, line)
        sys.stdout.flush()
    return 0


def _wanted(options: Namespace, asked: dict[str, Any]) -> Iterator[tuple[str, list[Json]]]:
    """Lines, with the name of the pod that they are of."""
    if options.selector:
        with connect(options) as podd:
            found = podd.call("List", {"namespace": listed_namespace(options), "selector": options.selector})["pods"]
        wanted = [source for pod in found for source in _sources(pod, options.container)]
        if not wanted:
            note(f"no container {options.container} in {len(found)} pods" if found else "no pods")
        tail = SELECTED_TAIL if options.tail is UNSAID else options.tail
        yield from _of_all(options, {**asked, "tail": tail}, wanted)
        return
    name, place = pod_name(options.pod), {"namespace": options.namespace}
    asked = {**asked, "tail": None if options.tail is UNSAID else options.tail}
    with connect(options) as podd:
        if not options.all_containers:
            one = {"name": name, **place, "container": options.container, **asked}
            yield from ((name, lines) for lines in batches(podd, "Logs", one, "lines"))
            return
        pod = podd.call("Get", {"name": name, **place})["pod"]
    yield from _of_all(options, asked, _sources(pod))


def _sources(pod: Json, container: str | None = None) -> list[Source]:
    """All containers of a pod, or the one of that name, if it has it."""
    meta = pod["metadata"]
    return [Source(meta["name"], meta["uid"], c) for c in container_names(pod) if container in (None, c)]


class Printer:
    """Lines on stdout. One that was cut because it was long is put together again."""

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self._open: tuple[str, str, str] | None = None  # pod, container and stream of a line that goes on
        self._colours: dict[str, str] = {}

    def show(self, pod: str, line: Json) -> None:
        origin = (pod, line["container"], line["stream"])
        out = sys.stdout
        if self._open != origin:
            out.write(("\n" if self._open else "") + self._head(pod, line))
        out.write(line["text"])
        self._open = origin if line["partial"] else None
        if not self._open:
            out.write("\n")

    def _head(self, pod: str, line: Json) -> str:
        head = ""
        if self._options.prefix:
            origin = f"[pod/{pod}/{line['container']}]"
            head = paint(origin, self._colours.setdefault(origin, COLOURS[len(self._colours) % len(COLOURS)])) + " "
        return head + (f"{line['time']} " if self._options.timestamps else "")


# ---- several containers ----------------------------------------------------------------------------------------------


def _of_all(options: Namespace, asked: dict[str, Any], wanted: Sequence[Source]) -> Iterator[tuple[str, list[Json]]]:
    if options.follow:
        yield from _interleaved(options, asked, wanted)
        return
    for source in wanted:
        with connect(options) as podd:
            yield from ((source.pod, lines) for lines in _lines(podd, asked, source))


def _lines(podd: Client, asked: dict[str, Any], source: Source) -> Iterator[list[Json]]:
    return batches(podd, "Logs", {"name": source.uid, "container": source.container, **asked}, "lines")


def _interleaved(
    options: Namespace, asked: dict[str, Any], wanted: Sequence[Source]
) -> Iterator[tuple[str, list[Json]]]:
    """Lines of all as they come: each container is followed on a connection, by a thread, of its own.

    Threads are not waited for: what ends this command ends them. Raises what one of them met.
    """
    import queue
    import threading

    came: queue.Queue[tuple[str, list[Json]] | BaseException | None] = queue.Queue(maxsize=max(len(wanted), 1))

    def follow(source: Source) -> None:
        try:
            with connect(options) as podd:
                for lines in _lines(podd, asked, source):
                    came.put((source.pod, lines))
            came.put(None)
        except Exception as exc:  # noqa: BLE001  # raised again by who reads the queue
            came.put(exc)

    for source in wanted:
        threading.Thread(target=follow, args=(source,), daemon=True).start()
    running = len(wanted)
    while running:
        item = came.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            running -= 1
        else:
            yield item
