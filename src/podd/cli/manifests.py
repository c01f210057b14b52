"""Manifests from files, folders and standard input."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from podd.errors import Invalid

SUFFIXES = (".yaml", ".yml", ".json")


class Manifest(NamedTuple):
    """source: what messages call it."""

    source: str
    text: str


def add_file_option(parser: ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        default=[],
        required=required,
        metavar="FILE",
        help="a manifest (YAML or JSON), a folder of them, or - for standard input; may be repeated",
    )


def add_strict_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--strict",
        choices=("error", "warn"),
        default="error",
        help="fields that podd does not honour: an error (the default), or left out with a warning",
    )


def asked(given: Sequence[Manifest], options: Namespace, **more: Any) -> dict[str, Any]:
    """The parameters of Apply. given: at least one."""
    first, *others = ({"manifest": one.text, "source": one.source} for one in given)
    how = {"strict": options.strict == "error", "namespace": options.namespace, **more}
    return {**first, "others": others or None, **how}


def read(paths: Sequence[str]) -> Iterator[Manifest]:
    """What the paths hold, a folder's files by name. Raises Invalid, OSError: one of them cannot be read."""
    for path in paths:
        if path == "-":
            yield _decoded("stdin", sys.stdin.buffer.read())
        else:
            for file in _files(path):
                with open(file, "rb") as stream:
                    yield _decoded(file, stream.read())


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    found = sorted(os.path.join(path, name) for name in os.listdir(path) if name.endswith(SUFFIXES))
    if not found:
        raise Invalid(f"{path}: no manifests in it: their names end in {', '.join(SUFFIXES)}")
    return found


def _decoded(source: str, data: bytes) -> Manifest:
    try:
        return Manifest(source, data.decode())
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise Invalid(f"{source}:{line}: not UTF-8 text", remedy="is this a manifest?") from None
