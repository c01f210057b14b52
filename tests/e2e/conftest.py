"""The real daemon, podd-cli and kernel. Every test ends with the leak audit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real import CONFIG, Podd
from running import running, running_on

from dockerd import Dockerd, a_dockerd

dockerd = pytest.fixture(scope="session")(a_dockerd)


@pytest.fixture
def podd() -> Iterator[Podd]:
    """A running podd on directories and a cgroup of its own; afterwards there must be nothing left of any pod."""
    yield from running(CONFIG)


@pytest.fixture
def on_docker(dockerd: Dockerd) -> Iterator[Podd]:
    """As podd, with pods on a dockerd, whose list must be empty afterwards, too."""
    yield from running_on(dockerd)
