"""The way to the daemon."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any

from podd.control.client import Client

DEFAULT_SOCKET = "/run/podd/podd.sock"


def connect(options: Namespace, *, timeout_s: float | None = None) -> Client:
    """timeout_s: for each answer. Raises PoddError that says what is in the way: no daemon, no permission."""
    return Client(options.socket or os.environ.get("PODD_SOCKET") or DEFAULT_SOCKET, timeout_s=timeout_s)


def batches(podd: Client, method: str, parameters: Mapping[str, Any], key: str) -> Iterator[list[dict[str, Any]]]:
    """The lists under that key in the answers of a call with "more", as they come."""
    for reply in podd.call_more(method, parameters):
        yield reply.parameters[key]
