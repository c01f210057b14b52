"""The table of errors is whole, and what goes out comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.control.dispatch import encode_failure
from podd.control.errors import BY_NAME, NAMES, from_wire
from podd.errors import BY_KIND, Internal, Kind, PoddError


def test_every_kind_has_a_name_of_its_own() -> None:
    assert set(NAMES) == set(Kind) == set(BY_KIND)
    assert {BY_NAME[name] for name in NAMES.values()} == set(Kind)


FACTS: dict[str, tuple[object, object]] = {
    "text": ("x", "x"),
    "a list": (["a", 1, None], ["a", 1, None]),
    "a tuple of paths": ((object,), ["<class 'object'>"]),
    "bytes": (b"x", "b'x'"),
    "a surrogate": ("\udcff", "\\udcff"),
    "not a number": (float("nan"), None),
}


@pytest.mark.parametrize(("fact", "shown"), FACTS.values(), ids=FACTS)
@pytest.mark.parametrize("kind", Kind)
def test_there_and_back(kind: Kind, fact: object, shown: object) -> None:
    name, data = encode_failure(BY_KIND[kind]("pod \udcff: what: why", remedy="do \udcff", fact=fact))
    reply = json.loads(data)
    assert reply["error"] == name == f"io.podd.{kind}"
    back = from_wire(name, reply["parameters"])
    assert type(back) is BY_KIND[kind]
    assert (back.message, back.remedy, back.facts) == ("pod \\udcff: what: why", "do \\udcff", {"fact": shown})


anything: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 1, -1.5, "", "text", [], [[]], {}, {"": {}}, {"message": "m"}]
)


@given(
    st.sampled_from([*BY_NAME, "org.varlink.service.MethodNotFound", "x.y", ""]),
    st.fixed_dictionaries({}, optional=dict.fromkeys(("message", "remedy", "facts", "method"), anything)),
)
def test_no_reply_is_unreadable(name: str, parameters: dict[str, Any]) -> None:
    assert isinstance(from_wire(name, parameters), PoddError)


def test_facts_named_like_arguments_are_kept() -> None:
    error = from_wire(
        "io.podd.Invalid", {"message": "m", "remedy": "r", "facts": {"message": 1, "remedy": 2, "self": 3}}
    )
    assert error.facts == {"message": 1, "remedy": 2, "self": 3}


def test_an_unknown_error_is_named() -> None:
    error = from_wire("io.podd.Sideways", {})
    assert isinstance(error, Internal)
    assert "io.podd.Sideways" in error.message
