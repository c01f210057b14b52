"""docs/podd-cli.md tells of everything that can be typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from podd.cli.main import COMMANDS, command_parser, load

TEXT = (Path(__file__).parents[2] / "docs" / "podd-cli.md").read_text()


@pytest.mark.parametrize("word", COMMANDS)
def test_command_and_its_options_are_documented(word: str) -> None:
    options = re.findall(r"(?<!\S)\[?(--[a-z-]+)", command_parser(word, load(word)).format_help())
    assert re.search(rf"`(podd-cli )?{word}\b|podd-cli {word}\b", TEXT)
    assert [option for option in options if not re.search(rf"`[^`]*{option}\b", TEXT)] == []
