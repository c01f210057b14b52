"""The docker driver keeps the contract on a real dockerd."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from blockbuster import blockbuster_ctx

from dockerd import IMAGE
from podd.driver.contract import Driver, Handle
from podd.testing.contract import DriverContract, until_gone
from podd.testing.lab import Lab


@pytest.mark.root
@pytest.mark.slow
class TestDocker(DriverContract):
    image = IMAGE

    @pytest.fixture(autouse=True)
    def nothing_blocks_the_event_loop(self) -> Iterator[None]:
        with blockbuster_ctx("podd_docker"):
            yield

    @pytest.fixture
    def make_driver(self, make_docker: Callable[[], Driver]) -> Callable[[], Driver]:
        return make_docker

    async def lose(self, sandbox: Handle) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(sandbox.state["pid"], signal.SIGKILL)
        await until_gone(sandbox.state["pid"])


@pytest.mark.root
@pytest.mark.slow
class TestDockerWithRuntime(TestDocker):
    """With podd's OCI runtime below dockerd: members are held, and share uts."""

    @pytest.fixture
    def make_driver(self, make_docker_with_runtime: Callable[[], Driver]) -> Callable[[], Driver]:
        return make_docker_with_runtime

    async def test_members_have_one_uts_namespace(self, lab: Lab) -> None:
        made = await lab.sandbox(hostname="shared")
        held = [(await lab.created(made.handle)).observed for _ in range(2)]
        assert {one.namespaces["uts"] for one in held if one} == {made.observed.namespaces["uts"]}
