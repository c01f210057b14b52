"""The real daemon, podd-cli and kernel. Every test ends with the leak audit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from real import Podd

from podd.linux.cgroup import Layout


@pytest.fixture
def podd() -> Iterator[Podd]:
    """A running podd on directories and a cgroup of its own; afterwards there must be nothing left of any pod."""
    folder = Path(tempfile.mkdtemp(prefix="podd-e2e-", dir="/var/tmp"))
    one = Podd(folder)
    try:
        one.start()
        before = one.snapshot()
        yield one
        one.ensure_running()
        for pod in one.pods():
            one.cli("delete", "pod", pod["metadata"]["name"], "-n", pod["metadata"]["namespace"], "--now")
        one.assert_clean(before)
        one.stop()
        one.assert_clean(one.before, daemon=False)
    finally:
        one.stop()
        Layout.detect().group(folder.name).remove()
        shutil.rmtree(folder)
