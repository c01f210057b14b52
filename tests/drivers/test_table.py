"""docs/drivers.md shows what our drivers declare."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "tools" / "driver_table.py"


def test_the_page_shows_what_drivers_declare() -> None:
    spec = importlib.util.spec_from_file_location("driver_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run python tools/driver_table.py"
