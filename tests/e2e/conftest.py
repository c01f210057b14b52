"""The real daemon, podd-cli and kernel. Every test ends with the leak audit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from real import CONFIG, Podd
from running import running, running_on, running_on_runc

from dockerd import Dockerd, a_dockerd

dockerd = pytest.fixture(scope="session")(a_dockerd)


@pytest.fixture
def driver() -> str:
    """Of pods that name none. Tests that hold for others, too, are parametrized by it."""
    return "setns"


@pytest.fixture
def podd(driver: str) -> Iterator[Podd]:
    """A running podd on directories and a cgroup of its own; afterwards there must be nothing left of any pod."""
    if driver == "runc" and shutil.which("runc") is None:
        pytest.skip("runc is not installed")
    yield from running_on_runc() if driver == "runc" else running(CONFIG)


@pytest.fixture
def runtime() -> str:
    """Of pods on dockerd: "" for its own. Tests that hold for podd's, too, are parametrized by it."""
    return ""


@pytest.fixture
def on_docker(dockerd: Dockerd, runtime: str) -> Iterator[Podd]:
    """As podd, with pods on a dockerd, whose list must be empty afterwards, too."""
    yield from running_on(dockerd, f'runtime = "{runtime}"')
