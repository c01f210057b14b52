"""The setns driver keeps the contract on the real kernel."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podd.driver.contract import Driver, Handle
from podd.driver.hookspecs import DriverPaths
from podd.linux.cgroup import Layout
from podd.testing.contract import DriverContract, until_gone
from podd_setns.driver import SetnsDriver

pytestmark = pytest.mark.root


@pytest.fixture
def cgroup_parent() -> Iterator[str]:
    """A parent of this test's own, which must be empty at its end."""
    parent = f"podd-test-{secrets.token_hex(4)}"
    yield parent
    group = Layout.detect().group(parent)
    left = [child.name for child in group.children()]
    for child in group.children():
        child.kill_all()
    group.remove()
    assert not left, f"cgroups left below {parent}: {left}"


@pytest.fixture
def paths(tmp_path: Path) -> DriverPaths:
    return DriverPaths(run_dir=f"{tmp_path}/run", state_dir=f"{tmp_path}/state", log_dir=f"{tmp_path}/log")


class TestSetns(DriverContract):
    @pytest.fixture
    def make_driver(self, paths: DriverPaths, cgroup_parent: str) -> Callable[[], Driver]:
        return lambda: SetnsDriver("setns", {"cgroup_parent": cgroup_parent}, paths)

    async def lose(self, sandbox: Handle) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(sandbox.state["pid"], signal.SIGKILL)
        await until_gone(sandbox.state["pid"])
