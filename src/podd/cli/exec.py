"""podd-cli exec: run a command in a container, connected to our own standard streams.

The command never gets a descriptor of ours. A terminal, file or directory in a container's hands could be read, typed
into or climbed out of; so the command has pipes of its own, or a terminal made inside the container, and bytes are
copied here. They do not pass through the daemon.
"""

from __future__ import annotations

import os
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from podd.cli import streams, terminal
from podd.cli.connect import connect
from podd.cli.streams import Inlet
from podd.cli.text import note
from podd.cli.words import Usage, pod_name
from podd.control.client import Client, Reply


def arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} [-i] [-t] [-c C] [-n NS] POD -- COMMAND [ARGUMENT ...]"
    parser.add_argument("pod", metavar="POD", help="NAME, pod/NAME, or the beginning of a uid")
    parser.add_argument("extra", nargs="*", help=SUPPRESS)
    parser.add_argument("-c", "--container", metavar="C", help="which one, in a pod of several")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass our standard input on")
    parser.add_argument("-t", "--tty", action="store_true", help="give the command a terminal")


def run(options: Namespace) -> int:
    if options.extra:
        raise Usage(f"'{options.extra[0]}': write -- before the command: podd-cli exec POD -- COMMAND")
    if not options.program:
        raise Usage("a command is missing: podd-cli exec POD -- COMMAND")
    tty = options.tty
    if tty and not os.isatty(0):
        note("podd-cli: warning: standard input is not a terminal: going on without -t")
        tty = False
    asked = {
        "name": pod_name(options.pod),
        "namespace": options.namespace,
        "container": options.container,
        "argv": options.program,
        "tty": tty,
    }
    with connect(options) as podd, ExitStack() as undo:
        way = _with_terminal if tty else _with_pipes
        return way(podd, asked, undo, stdin=options.stdin)


def _with_terminal(podd: Client, asked: dict[str, Any], undo: ExitStack, *, stdin: bool) -> int:
    """The command has a terminal of its own; ours is raw, so that keys like ctrl-c go there."""
    columns, rows = os.get_terminal_size(0)
    environment = {"TERM": os.environ.get("TERM") or "xterm"}
    replies = podd.call_more("Exec", {**asked, "env": environment, "rows": rows, "columns": columns})
    started = next(replies)
    master = started.fds[started.parameters["master_fd"]]
    undo.callback(os.close, master)
    os.set_blocking(master, False)
    undo.enter_context(terminal.resized(lambda: terminal.copy_size(0, master)))
    output = streams.copy(master, 1)
    if not stdin:
        return _copied(podd, replies, [output], [])
    undo.enter_context(terminal.raw(0))
    return _copied(podd, replies, [output], [streams.copy(0, master)])


def _with_pipes(podd: Client, asked: dict[str, Any], undo: ExitStack, *, stdin: bool) -> int:
    """The command has three pipes. Without stdin, its input is at its end from the start."""
    (their_in, our_in), (our_out, their_out), (our_err, their_err) = (os.pipe() for _ in range(3))
    theirs = (their_in, their_out, their_err)
    outputs = [streams.copy(our_out, 1, own_source=True), streams.copy(our_err, 2, own_source=True)]
    inputs = [streams.copy(0, our_in, own_sink=True)]
    undo.callback(streams.close, outputs + inputs)
    try:
        for descriptor in (our_in, our_out, our_err):
            os.set_blocking(descriptor, False)
        if not stdin:
            streams.close(inputs)
        replies = podd.call_more("Exec", {**asked, "stdin_fd": 0, "stdout_fd": 1, "stderr_fd": 2}, theirs)
        next(replies)
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    return _copied(podd, replies, outputs, inputs if stdin else [])


def _copied(podd: Client, replies: Iterator[Reply], outputs: list[Inlet], inputs: list[Inlet]) -> int:
    """Copy until the daemon tells the end of the command: then all that it wrote is there to be read."""
    while not streams.turn(outputs + inputs, until=podd.fileno()):
        pass
    streams.drain(outputs)
    code: int = next(replies).parameters["exit_code"]
    return code
