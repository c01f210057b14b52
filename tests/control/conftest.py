"""Servers for tests, on both event loops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from control.fakes import FakeEngine
from control.harness import Running, Start, running
from podd.control.server import Limits


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(tmp_path: Path, backend: str) -> Iterator[Start]:
    """start(*pod names, limits=…): a server with these pods."""
    with ExitStack() as stack:

        def begin(*names: str, limits: Limits | None = None) -> Running:
            return stack.enter_context(running(FakeEngine(*names), str(tmp_path / "podd.sock"), backend, limits))

        yield begin


@pytest.fixture
def podd(start: Start) -> Running:
    return start("web", "db")
