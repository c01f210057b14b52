"""Names of signals."""

from __future__ import annotations

import signal

import pytest

from podd.model import signals

COMMON = [one.name for one in signal.Signals if not one.name.startswith("SIGRT")]


@pytest.mark.parametrize("name", COMMON)
def test_names_mean_what_they_mean_to_the_kernel(name: str) -> None:
    assert signals.number(name) == signal.Signals[name]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGRTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("SIGRTMIN+15", 49),
        ("SIGRTMAX-14", 50),
        ("SIGRTMAX-1", 63),
        ("SIGRTMAX", 64),
    ],
)
def test_real_time_signals_are_counted_from_either_end(name: str, number: int) -> None:
    assert signals.number(name) == number


@pytest.mark.parametrize(
    "name", ["", "TERM", "sigterm", "15", "SIGRTMIN+0", "SIGRTMIN+16", "SIGRTMAX-15", "SIGRTMIN-1"]
)
def test_what_is_no_name(name: str) -> None:
    assert not signals.is_name(name)
    with pytest.raises(KeyError):
        signals.number(name)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("term", "SIGTERM"), ("SIGTERM", "SIGTERM"), ("sigrtmin+3", "SIGRTMIN+3"), ("15", ""), ("stop now", "")],
)
def test_what_was_meant(text: str, meant: str) -> None:
    assert signals.nearest(text) == meant


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGQUIT", 3),
        ("quit", 3),
        ("SigTerm", 15),
        ("RTMIN+3", 37),
        ("9", 9),
        ("64", 64),
        *((text, None) for text in ("", "0", "65", "-1", "3.0", "٣", "999999999999", "SIGNONSENSE", "SIGSIGQUIT")),
    ],
)
def test_as_images_write_it(text: str, number: int | None) -> None:
    assert signals.parse(text) == number
