"""Label selectors, as kubectl takes them."""

from __future__ import annotations

import pytest

from podd.engine.select import parse
from podd.errors import Invalid

PODS = {
    "web": {"app": "web", "tier": "front", "env": "prod"},
    "db": {"app": "db", "tier": "back", "example.com/owner": "ann"},
    "debug": {"app": "web", "debug": ""},
    "bare": {},
}

SELECTED = {
    "": "web db debug bare",
    "  ": "web db debug bare",
    "app=web": "web debug",
    "app==web": "web debug",
    " app = web ": "web debug",
    "app!=web": "db bare",
    "app=web,tier=front": "web",
    "app=web, tier!=front": "debug",
    "tier in (front, back)": "web db",
    "tier in (front)": "web",
    "tier notin (front, back)": "debug bare",
    "tier in (front,back),app!=db": "web",
    "tier in(front)": "web",
    "tier": "web db",
    "!tier": "debug bare",
    "! tier": "debug bare",
    "debug=": "debug",
    "debug!=": "web db bare",
    "debug in ()": "debug",
    "example.com/owner=ann": "db",
    "!example.com/owner,app": "web debug",
}


@pytest.mark.parametrize(("text", "names"), SELECTED.items(), ids=SELECTED)
def test_what_is_selected(text: str, names: str) -> None:
    wanted = parse(text)
    assert [name for name, labels in PODS.items() if wanted(labels)] == names.split()


@pytest.mark.parametrize(
    "text", ["app=web,", ",", "app in front", "app in (a", "app=(a)", "=web", "app=a=b", "!app=web", "in (a)", "a b"]
)
def test_what_is_no_selector_is_named(text: str) -> None:
    with pytest.raises(Invalid, match="is no requirement"):
        parse(text)
