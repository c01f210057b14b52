"""podd-cli logs: what containers wrote."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from podd.cli.connect import batches, connect
from podd.cli.durations import duration, parse_time
from podd.cli.status import Json, container_names
from podd.cli.text import paint
from podd.cli.words import pod_name, whole_number

COLOURS = ("cyan", "green", "yellow", "bold")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pod", metavar="POD", help="NAME, pod/NAME, or the beginning of a uid")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-c", "--container", metavar="C", help="which one, in a pod of several")
    which.add_argument("--all-containers", action="store_true", help="all of the pod")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as they write")
    parser.add_argument("--tail", type=line_count, metavar="N", help="begin with the last N lines")
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


def run(options: Namespace) -> int:
    name = pod_name(options.pod)
    asked = {
        "name": name,
        "namespace": options.namespace,
        "container": options.container,
        "follow": options.follow,
        "tail": options.tail,
        "since": options.since,
        "previous": options.previous,
    }
    with connect(options) as podd:
        if options.all_containers:
            pod = podd.call("Get", {"name": name, "namespace": options.namespace})["pod"]
            members = container_names(pod)
            name = pod["metadata"]["name"]
            replies = _of_all(options, {**asked, "name": pod["metadata"]["uid"], "namespace": None}, members)
        else:
            replies = batches(podd, "Logs", asked, "lines")
        printer = Printer(options, name)
        for lines in replies:
            for line in lines:
                printer.show(line)
            sys.stdout.flush()
    return 0


class Printer:
    """Lines on stdout. One that was cut because it was long is put together again."""

    def __init__(self, options: Namespace, pod: str) -> None:
        self._options = options
        self._pod = pod
        self._open: tuple[str, str] | None = None  # container and stream of a line that goes on
        self._colours: dict[str, str] = {}

    def show(self, line: Json) -> None:
        origin = (line["container"], line["stream"])
        out = sys.stdout
        if self._open != origin:
            out.write(("\n" if self._open else "") + self._head(line))
        out.write(line["text"])
        self._open = origin if line["partial"] else None
        if not self._open:
            out.write("\n")

    def _head(self, line: Json) -> str:
        head = ""
        if self._options.prefix:
            colour = self._colours.setdefault(line["container"], COLOURS[len(self._colours) % len(COLOURS)])
            head = paint(f"[pod/{self._pod}/{line['container']}]", colour) + " "
        return head + (f"{line['time']} " if self._options.timestamps else "")


# ---- all containers of a pod -----------------------------------------------------------------------------------------


def _of_all(options: Namespace, asked: dict[str, Any], members: Sequence[str]) -> Iterator[list[Json]]:
    if options.follow:
        yield from _interleaved(options, asked, members)
        return
    for member in members:
        with connect(options) as podd:
            yield from batches(podd, "Logs", {**asked, "container": member}, "lines")


def _interleaved(options: Namespace, asked: dict[str, Any], members: Sequence[str]) -> Iterator[list[Json]]:
    """Lines of all as they come: each container is followed on a connection, by a thread, of its own.

    Threads are not waited for: what ends this command ends them. Raises what one of them met.
    """
    import queue
    import threading

    came: queue.Queue[list[Json] | BaseException | None] = queue.Queue(maxsize=len(members))

    def follow(member: str) -> None:
        try:
            with connect(options) as podd:
                for lines in batches(podd, "Logs", {**asked, "container": member}, "lines"):
                    came.put(lines)
            came.put(None)
        except Exception as exc:  # noqa: BLE001  # raised again by who reads the queue
            came.put(exc)

    for member in members:
        threading.Thread(target=follow, args=(member,), daemon=True).start()
    running = len(members)
    while running:
        item = came.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            running -= 1
        else:
            yield item
