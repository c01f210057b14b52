"""The runc driver keeps the contract on the real kernel, with each runtime that works here."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from blockbuster import blockbuster_ctx

from podd.driver.contract import Driver, Handle
from podd.errors import PoddError
from podd.linux.cgroup import Layout
from podd.testing.contract import DriverContract, until_gone
from podd_runc.runtime import find


class RuntimeContract(DriverContract):
    runtime = ""

    @pytest.fixture(autouse=True)
    def nothing_blocks_the_event_loop(self) -> Iterator[None]:
        with blockbuster_ctx(["podd_runc", "podd.supervision"]):
            yield

    @pytest.fixture
    def make_driver(self, make_runc: Callable[[str], Callable[[], Driver]]) -> Callable[[], Driver]:
        try:
            find("runc", self.runtime, Layout.detect())
        except PoddError as exc:
            pytest.skip(exc.message)
        return make_runc(self.runtime)

    async def lose(self, sandbox: Handle) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(sandbox.state["pid"], signal.SIGKILL)
        await until_gone(sandbox.state["pid"])


@pytest.mark.root
class TestRunc(RuntimeContract):
    runtime = "runc"

    @pytest.fixture
    def remote(self, remote_image: str) -> str:
        return remote_image


@pytest.mark.root
class TestCrun(RuntimeContract):
    runtime = "crun"
