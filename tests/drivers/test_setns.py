"""The setns driver keeps the contract on the real kernel."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from blockbuster import blockbuster_ctx

from podd.driver.contract import Driver, Handle
from podd.testing.contract import DriverContract, until_gone


@pytest.mark.root
class TestSetns(DriverContract):
    @pytest.fixture(autouse=True)
    def nothing_blocks_the_event_loop(self) -> Iterator[None]:
        with blockbuster_ctx(["podd_setns", "podd.supervision"]):
            yield

    @pytest.fixture
    def make_driver(self, make_setns: Callable[[], Driver]) -> Callable[[], Driver]:
        return make_setns

    async def lose(self, sandbox: Handle) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(sandbox.state["pid"], signal.SIGKILL)
        await until_gone(sandbox.state["pid"])
