"""The entry point: find the command word, load that command alone, and turn every end into a line and a status."""

from __future__ import annotations

import os
import sys
from argparse import REMAINDER, SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn, Protocol, cast

from podd.cli.text import complain, discard_output, terminal_columns
from podd.cli.words import EXIT_INTERRUPTED, EXIT_PIPE, Usage
from podd.control.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from podd.errors import PoddError

COMMANDS = {  # word: its module in podd.cli, and what it does
    "apply": ("apply", "make pods as manifests say, or change them"),
    "diff": ("diff", "show what applying manifests would change"),
    "create": ("create", "make a ConfigMap or a Secret"),
    "get": ("get", "list pods, ConfigMaps or Secrets"),
    "describe": ("describe", "tell all about a pod"),
    "delete": ("delete", "stop pods and forget them"),
    "stop": ("lifecycle", "stop pods and keep them"),
    "start": ("lifecycle", "run stopped pods again"),
    "restart": ("lifecycle", "stop pods, then start them"),
    "recreate": ("recreate", "make pods anew by another driver"),
    "pause": ("lifecycle", "freeze every process of pods"),
    "resume": ("lifecycle", "let paused pods go on"),
    "resize": ("resize", "change what a container may use, while it runs"),
    "logs": ("logs", "show what containers wrote"),
    "exec": ("exec", "run a command in a container"),
    "attach": ("attach", "connect to a container's main process"),
    "port-forward": ("forward", "reach ports of a pod from this host"),
    "debug": ("debug", "add a container to a running pod, to look into it"),
    "events": ("events", "show what happened"),
    "stats": ("stats", "show what pods use"),
    "ns": ("ns", "show a pod's namespaces, who shares and who keeps them"),
    "tree": ("tree", "show a pod's cgroups, limits and processes"),
    "image": ("image", "bring, show and remove images"),
    "label": ("label", "set labels of pods that are there"),
    "annotate": ("label", "set annotations of pods that are there"),
    "drivers": ("drivers", "show the drivers and what they can do"),
    "docker": ("docker", "print what dockerd is to be told for pods on it"),
    "info": ("info", "show where the daemon keeps things, and its problems"),
    "reload": ("reload", "have the daemon read its configuration and its static pods again"),
    "version": ("info", "show the versions of podd-cli and the daemon"),
    "completion": ("completion", "print a completion script for bash, zsh or fish"),
}
HIDDEN = {"__complete": "complete"}
DEFAULT_COLUMNS = 80  # where stdout is no terminal
TAKES_PROGRAM = ("exec", "debug", *HIDDEN)


class Command(Protocol):
    """What a command's module offers."""

    def arguments(self, parser: ArgumentParser) -> None: ...

    def run(self, options: Namespace) -> int:
        """The exit status. options.command is the word, for modules that serve several."""
        ...


class Formatter(RawDescriptionHelpFormatter):
    """Told its width, argparse does not import shutil, and all that is behind it, to find out."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=(terminal_columns() or DEFAULT_COLUMNS) - 2)


class Parser(ArgumentParser):
    """Says what is wrong in one line, and where to read more."""

    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message}; see '{self.prog} --help'")


def main(argv: Sequence[str] | None = None) -> int:
    """The command `podd-cli`. Returns its exit status, and never raises."""
    _open_standard_streams()
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BaseException as exc:  # noqa: BLE001  # every end is told here
        status = _end(exc)
        discard_output()
    return status


def _run(argv: Sequence[str]) -> int:
    own, program = _split(list(argv))
    options = global_parser().parse_args(own)
    if not options.command:
        raise Usage("a command is missing; see 'podd-cli --help'")
    command = load(options.command)
    parser = command_parser(options.command, command)
    parser.parse_intermixed_args(options.rest, options)  # as in "label pods -l app=web tier=front"
    options.program = program
    if program is not None and options.command not in TAKES_PROGRAM:
        raise Usage(f"'--': {options.command} runs no program; see '{parser.prog} --help'")
    return command.run(options)


def _split(argv: list[str]) -> tuple[list[str], list[str] | None]:
    """Our own words, and those after "--", which are a program's, options and all; None where there is no "--"."""
    if "--" not in argv:
        return argv, None
    end = argv.index("--")
    return argv[:end], argv[end + 1 :]


def global_parser() -> Parser:
    commands = "\n".join(f"  {word:<14}{summary}" for word, (_, summary) in COMMANDS.items())
    parser = Parser(
        prog="podd-cli",
        description="Run pods on this host.",
        epilog=f"commands:\n{commands}\n\n'podd-cli COMMAND --help' tells more.",
        formatter_class=Formatter,
        usage="podd-cli [options] COMMAND ...",
        allow_abbrev=False,
    )
    _add_global_options(parser)
    parser.add_argument("command", nargs="?", help=SUPPRESS)
    parser.add_argument("rest", nargs=REMAINDER, help=SUPPRESS)
    parser.set_defaults(namespace=None, socket=None)
    return parser


def command_parser(word: str, command: Command) -> Parser:
    _, summary = COMMANDS.get(word, ("", ""))
    parser = Parser(
        prog=f"podd-cli {word}",
        description=f"{summary[:1].upper()}{summary[1:]}.",
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=word)
    command.arguments(parser)
    _add_global_options(parser)
    return parser


def _add_global_options(parser: ArgumentParser) -> None:
    """Accepted before and after the command word; after it they have no default, so as not to undo one before it."""
    group = parser.add_argument_group("everywhere")
    group.add_argument("-n", "--namespace", default=SUPPRESS, metavar="NS", help='the pods\' namespace ("default")')
    group.add_argument("--socket", default=SUPPRESS, metavar="PATH", help="the daemon's socket (PODD_SOCKET)")


def load(word: str) -> Command:
    """Raises Usage: there is no such command."""
    module = HIDDEN.get(word) or COMMANDS.get(word, ("", ""))[0]
    if not module:
        from difflib import get_close_matches

        close = get_close_matches(word, COMMANDS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "see 'podd-cli --help'"
        raise Usage(f"'{word}': no such command; {hint}")
    return cast(Command, import_module(f"podd.cli.{module}"))


# ---- ends ------------------------------------------------------------------------------------------------------------


def _end(exc: BaseException) -> int:
    """One line for whatever ended the command, and its exit status."""
    match exc:
        case SystemExit():  # --help, or a signal while a terminal was raw
            return exc.code if isinstance(exc.code, int) else EXIT_FAILED if exc.code else EXIT_DONE
        case KeyboardInterrupt():
            return EXIT_INTERRUPTED
        case BrokenPipeError():  # the reader of our output has enough
            return EXIT_PIPE
        case Usage():
            return complain(str(exc), EXIT_USAGE)
        case PoddError() | OSError():
            status = complain(str(exc) if isinstance(exc, PoddError) else _system_error(exc))
        case _:
            hint = "" if os.environ.get("PODD_DEBUG") else "; set PODD_DEBUG=1 to see where"
            status = complain(f"unexpected {type(exc).__name__}: {exc}: this is a bug in podd-cli{hint}")
    if os.environ.get("PODD_DEBUG"):
        import traceback

        traceback.print_exception(exc)
    return status


def _system_error(exc: OSError) -> str:
    where = f"{exc.filename}: " if exc.filename else ""
    return f"{where}{exc.strerror or exc}"


def _open_standard_streams() -> None:
    """A descriptor 0, 1 or 2 that is closed would be given to the next file opened, and text would go there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:  # as Python leaves it
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115  # for as long as we run
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale without the character must not end a command
