"""Handlers talk over real sockets, which a virtual clock does not wait for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from handling import Local

from podd.testing.lab import open_descriptors


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def local() -> Iterator[Local]:
    """When a test is over, no socket is left open."""
    before = open_descriptors()
    yield Local()
    more = {fd: what for fd, what in open_descriptors().items() if before.get(fd) != what}
    assert not more
