"""The driver keeps podd's contract."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from podd_process.driver import ProcessDriver

from podd.driver.contract import Driver
from podd.driver.hookspecs import DriverPaths
from podd.linux.cgroup import Layout
from podd.testing.contract import DriverContract


class TestProcess(DriverContract):
    @pytest.fixture
    def make_driver(self, tmp_path: Path) -> Iterator[Callable[[], Driver]]:
        paths = DriverPaths(run_dir=f"{tmp_path}/run", state_dir=f"{tmp_path}/state", log_dir=f"{tmp_path}/log")
        os.makedirs(paths.run_dir)
        parent = f"podd-test-{secrets.token_hex(4)}"
        yield lambda: ProcessDriver("process", {"cgroup_parent": parent}, paths)
        Layout.detect().group(parent).remove()
