"""podd-cli image: bring, show and remove the images that pods are made from."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from podd.cli import durations, output
from podd.cli.amounts import size
from podd.cli.connect import connect
from podd.cli.progress import Progress
from podd.cli.status import Json
from podd.cli.text import Table, complain
from podd.cli.words import Usage
from podd.control.client import Client
from podd.errors import PoddError

SHOWN_DIGITS = 12
TRANSPORTS = ("oci:", "oci-archive:", "docker-archive:", "dir:")


def arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} pull IMAGE | list | inspect IMAGE | rm IMAGE | prune | import FILE [NAME] | usage"
    parser.add_argument("verb", choices=VERBS, metavar="pull|list|inspect|rm|prune|import|usage", help="what to do")
    parser.add_argument("names", nargs="*", metavar="IMAGE", help="a name, a digest, an id or the first digits of one")
    parser.add_argument("--driver", metavar="NAME", help="whose images (those of the default driver)")
    parser.add_argument("--all", action="store_true", help="prune: also those that have a name")
    output.add_format_option(parser, "name", "wide")


def run(options: Namespace) -> int:
    if options.all and options.verb != "prune":
        raise Usage("--all: only with prune")
    return VERBS[options.verb](options)


def _asked(options: Namespace, **more: Any) -> Json:
    return {"driver": options.driver, **more}


# ---- bring -----------------------------------------------------------------------------------------------------------


def _pull(options: Namespace) -> int:
    names = _some(options)
    status = 0
    pulled: list[Json] = []
    with connect(options) as podd:
        for name in names:
            try:
                pulled.append(_follow(options, podd, "PullImage", _asked(options, reference=name), name)["image"])
            except PoddError as refusal:
                status = complain(str(refusal))
    _tell(options, pulled)
    return status


def _import(options: Namespace) -> int:
    if not 1 <= len(options.names) <= 2:
        raise Usage("import: a file, and perhaps a name, are wanted")
    file, *name = options.names
    source = file if file.startswith(TRANSPORTS) else os.path.abspath(file)
    with connect(options) as podd:
        asked = _asked(options, source=source, name=name[0] if name else None)
        _tell(options, _follow(options, podd, "ImportImage", asked, file)["images"])
    return 0


def _follow(options: Namespace, podd: Client, method: str, asked: Json, what: str) -> Json:
    """The last answer; until then whoever waits is told how far it is."""
    line = Progress(what, options.output)
    try:
        for reply, _ in podd.call_more(method, asked):
            if reply.get("progress") is None:
                return reply
            line.show(reply["progress"])
    finally:
        line.clear()
    raise AssertionError("a call ends with an answer")


def _tell(options: Namespace, images: Sequence[Json]) -> None:
    """What has come, by its id, or as is asked for."""
    if options.output in output.FORMATS:
        output.show(list(images), options.output)
        return
    for image in images:
        name = next(iter((*image["names"], *image["digests"])), image["id"])
        print(f"image/{name}" if options.output == "name" else f"{name}: {image['id']}")


# ---- show ------------------------------------------------------------------------------------------------------------


def _list(options: Namespace) -> int:
    if options.names:
        raise Usage("list: shows all; 'image inspect' shows one")
    with connect(options) as podd:
        images = podd.call("Images", _asked(options))["images"]
    if options.output in output.FORMATS:
        output.show(images, options.output)
    elif options.output == "name":
        for image in images:
            for name in image["names"] or [image["id"]]:
                print(f"image/{name}")
    else:
        print("\n".join(_table(images, wide=options.output == "wide").lines()))
    return 0


def _table(images: Sequence[Json], *, wide: bool) -> Table:
    table = Table(("NAME", "ID", "SIZE", "CREATED", "PODS", *(["DIGEST"] if wide else [])))
    now = datetime.now(UTC)
    for image in images:
        digits = image["id"].removeprefix("sha256:")
        digest = [next((one.partition("@")[2] for one in image["digests"]), "<none>")] if wide else []
        for name in image["names"] or ["<none>"]:
            age = durations.age(image["created_at"], now)
            shown = digits if wide else digits[:SHOWN_DIGITS]
            table.add(name, shown, size(image["size_bytes"]), age, str(len(image["pods"])), *digest)
    return table


def _inspect(options: Namespace) -> int:
    status = 0
    found: list[Json] = []
    with connect(options) as podd:
        for name in _some(options):
            try:
                found.append(podd.call("InspectImage", _asked(options, reference=name))["image"])
            except PoddError as refusal:
                status = complain(str(refusal))
    if options.output in ("name", "wide"):
        raise Usage("inspect: -o json or yaml")
    if found:
        output.show(found[0] if len(found) == len(options.names) == 1 else found, options.output or "yaml")
    return status


def _usage(options: Namespace) -> int:
    if options.names:
        raise Usage("usage: of all images together")
    with connect(options) as podd:
        used = podd.call("ImageUsage", _asked(options))
    if options.output in output.FORMATS:
        output.show(used, options.output)
        return 0
    table = Table(("STORE", "IMAGES", "UNUSED", "SIZE"))
    table.add(used["service"], str(used["images"]), str(used["unused"]), size(used["size_bytes"]))
    print("\n".join(table.lines()))
    return 0


# ---- remove ----------------------------------------------------------------------------------------------------------


def _remove(options: Namespace) -> int:
    status = 0
    with connect(options) as podd:
        for name in _some(options):
            try:
                for gone in podd.call("RemoveImage", _asked(options, reference=name))["removed"]:
                    print(f"image/{gone} removed", flush=True)
            except PoddError as refusal:
                status = complain(str(refusal))
    return status


def _prune(options: Namespace) -> int:
    if options.names:
        raise Usage("prune: removes what no pod uses; 'image rm' takes names")
    with connect(options) as podd:
        done = podd.call("PruneImages", _asked(options, all=options.all))
    if options.output in output.FORMATS:
        output.show(done, options.output)
        return 0
    for gone in done["removed"]:
        print(f"image/{gone} removed")
    if options.output != "name":
        print(f"{size(done['freed_bytes'])} freed")
    return 0


def _some(options: Namespace) -> Sequence[str]:
    if not options.names:
        raise Usage(f"{options.verb}: an image is missing")
    names: Sequence[str] = [name.removeprefix("image/") for name in options.names]
    return names


VERBS: dict[str, Callable[[Namespace], int]] = {
    "pull": _pull,
    "list": _list,
    "ls": _list,
    "inspect": _inspect,
    "rm": _remove,
    "prune": _prune,
    "import": _import,
    "usage": _usage,
}
