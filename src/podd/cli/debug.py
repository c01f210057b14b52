"""podd-cli debug: add a container to a running pod, to look into it."""

from __future__ import annotations

import os
from argparse import SUPPRESS, ArgumentParser, Namespace

from podd.cli import attach
from podd.cli.connect import connect
from podd.cli.text import note
from podd.cli.words import Usage, pod_name

IMAGE = "rootfs:/"
SHELL = ["/bin/sh"]


def arguments(parser: ArgumentParser) -> None:
    parser.usage = (
        f"{parser.prog} POD [-i] [-t] [--target C] [--image I] [--name N] [-n NS] [-- COMMAND [ARGUMENT ...]]"
    )
    parser.epilog = (
        "Its name is printed. It is never restarted, and goes when the pod gets a new sandbox.\n"
        "Without a command it is a shell, and -it attaches to it; ctrl-p ctrl-q detaches."
    )
    parser.add_argument("pod", metavar="POD", help="NAME, pod/NAME, or the beginning of a uid")
    parser.add_argument("extra", nargs="*", help=SUPPRESS)
    parser.add_argument("-i", "--stdin", action="store_true", help="pass our standard input on")
    parser.add_argument("-t", "--tty", action="store_true", help="give the command a terminal")
    parser.add_argument("--target", metavar="C", help="the container whose processes it sees, and with whom it ends")
    parser.add_argument("--image", default=IMAGE, metavar="I", help="what it runs in (rootfs:/, the host's own root)")
    parser.add_argument("--name", metavar="N", dest="added", help="of the new container; one is made up")


def run(options: Namespace) -> int:
    if options.extra:
        raise Usage(f"'{options.extra[0]}': write -- before the command: podd-cli debug POD -- COMMAND")
    if not options.program and not options.stdin:
        raise Usage("a shell without input ends at once: give -it, or a command after --")
    asked = {
        "name": pod_name(options.pod),
        "namespace": options.namespace,
        "target": options.target,
        "container": options.added,
        "image": options.image,
        "command": options.program or SHELL,
        "env": {"TERM": os.environ.get("TERM") or "xterm"} if options.tty else {},
        "stdin": options.stdin,
        "tty": options.tty,
    }
    with connect(options) as podd:
        made = podd.call("Debug", asked)
    if not (options.stdin or options.tty):
        print(made["container"])
        return 0
    hint = " If there is no prompt, press enter." if options.tty else ""
    note(f"container {made['container']}.{hint}")
    at = Namespace(pod=made["pod"]["metadata"]["uid"], container=made["container"], stdin=options.stdin)
    return attach.run(Namespace(**{**vars(options), **vars(at)}))
