"""A network of scripted plugins for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted import Scripted


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def net(tmp_path: Path) -> Scripted:
    return Scripted(tmp_path)
