"""Output for programs: JSON, YAML, names."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

FORMATS = ("json", "yaml")


def add_format_option(parser: ArgumentParser, *more: str) -> None:
    """-o json|yaml, and what else this command knows."""
    choices = (*more, *FORMATS)
    parser.add_argument("-o", "--output", choices=choices, metavar="FORMAT", help=", ".join(choices))


def show(value: Any, format_name: str) -> None:
    if format_name == "json":
        print(json.dumps(value, indent=4, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))
        return
    import yaml

    yaml.dump(
        value, sys.stdout, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, allow_unicode=True
    )


def pods(items: Sequence[dict[str, Any]], format_name: str, *, one: bool) -> None:
    """Pods as kubectl gives them: one is itself, several are a List. one: a single pod was asked for by name."""
    if format_name == "name":
        for pod in items:
            print(f"pod/{pod['metadata']['name']}")
    elif one and len(items) == 1:
        show(items[0], format_name)
    else:
        show({"apiVersion": "v1", "kind": "List", "items": list(items)}, format_name)
