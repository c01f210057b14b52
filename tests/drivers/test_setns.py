"""The setns driver keeps the contract on the real kernel."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from ground import SHIPPED, Ground, must_have, own_network, tell

from podd.driver.contract import Driver, Handle
from podd.driver.hookspecs import DriverPaths
from podd.testing.contract import DriverContract, until_gone
from podd.testing.contract_network import Network


@pytest.mark.root
class TestSetns(DriverContract):
    @pytest.fixture(autouse=True)
    def nothing_blocks_the_event_loop(self) -> Iterator[None]:
        with blockbuster_ctx(["podd_setns", "podd.supervision"]):
            yield

    @pytest.fixture
    def make_driver(self, make_setns: Callable[[], Driver]) -> Callable[[], Driver]:
        return make_setns

    @pytest.fixture
    def remote(self, remote_image: str) -> str:
        return remote_image

    async def lose(self, sandbox: Handle) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(sandbox.state["pid"], signal.SIGKILL)
        await until_gone(sandbox.state["pid"])


@pytest.mark.root
@pytest.mark.anyio
class TestSetnsConnected(Network):
    """By the distribution's plugins, with the configuration that podd ships."""

    real_processes = True

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture(autouse=True)
    def network(self) -> Iterator[None]:
        must_have("bridge", "host-local", "portmap", "firewall")
        with own_network():
            tell("ip", "link", "add", "podd0", "type", "bridge")  # the plugin would make it, and leave it
            yield

    @pytest.fixture
    def paths(self, tmp_path: Path) -> DriverPaths:
        places = {f"{part}_dir": f"{tmp_path}/{part}" for part in ("run", "state", "log")}
        return DriverPaths(**places, network=Ground(tmp_path, shipped=SHIPPED).places)
