"""Fixtures for all tests: event loops, the virtual clock, and what a test that needs root asks of the machine."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import structlog
from hypothesis import settings
from trio.testing import MockClock

from images.layouts import needs_images
from images.library import fill
from podd.driver.hookspecs import ImagePlaces

# A shell that runs its jobs in the background has them ignore SIGINT, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The default shows every local of every frame, which takes minutes where one of them is an engine.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

# The same tree has the same verdict. For other examples than its own: --hypothesis-seed=N.
settings.register_profile("podd", derandomize=True)
settings.load_profile("podd")

Backend = tuple[str, dict[str, Any]]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    """Both event loops; on trio time is virtual: it jumps as soon as every task waits."""
    return ("asyncio", {}) if request.param == "asyncio" else virtual_backend()


@pytest.fixture
def virtual_clock() -> Backend:
    """For modules whose tests wait for hours: define `anyio_backend(virtual_clock)` there that returns it."""
    return virtual_backend()


def virtual_backend() -> Backend:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ImagePlaces:
    """A store with the images of `images.library`."""
    needs_images()
    return fill(tmp_path_factory.mktemp("library"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason=f"needs root: it runs as uid {os.geteuid()}")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)
