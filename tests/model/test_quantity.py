from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.model import quantity

AMOUNTS = {
    "0": Fraction(0),
    "1": Fraction(1),
    "+1": Fraction(1),
    "-1": Fraction(-1),
    " 2 ": Fraction(2),
    "0.5": Fraction(1, 2),
    ".5": Fraction(1, 2),
    "5.": Fraction(5),
    "100m": Fraction(1, 10),
    "1.5Gi": Fraction(3 * 2**29),
    "1Ki": Fraction(1024),
    "1k": Fraction(1000),
    "1M": Fraction(10**6),
    "1E": Fraction(10**18),
    "1E3": Fraction(1000),
    "1e3": Fraction(1000),
    "12e-1": Fraction(6, 5),
    "1n": Fraction(1, 10**9),
    "0.1n": Fraction(1, 10**9),
    "-0.1n": Fraction(-1, 10**9),
    "1e-99999999999999999999": Fraction(1, 10**9),
    "1e99999999999999999999": Fraction(quantity.MAX),
    "-1e99999999999999999999": Fraction(-quantity.MAX),
    "0e99999999999999999999": Fraction(0),
    "8Ei": Fraction(quantity.MAX),
    "7Ei": Fraction(7 * 2**60),
    "9223372036854775807": Fraction(2**63 - 1),
}


@pytest.mark.parametrize(("text", "amount"), AMOUNTS.items(), ids=list(AMOUNTS))
def test_amount(text: str, amount: Fraction) -> None:
    assert quantity.parse(text) == amount


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "m",
            "1 Gi",
            "1gi",
            "1KI",
            "1K",
            "1mi",
            "1Mb",
            "1.2.3",
            "--1",
            "1_000",
            "0x10",
            "1e",
            "1e+",
            "1e1.5",
        ),
        *("nan", "inf", ".inf", "1mm", "1Gim", "٣", "1\n2", "1" * 129),
    ],
)
def test_not_a_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        quantity.parse(text)


@pytest.mark.parametrize(
    ("text", "whole"), [("1", 1), ("0.1m", 1), ("1.5m", 1), ("2.0005", 3), ("-0.1m", -1), ("64Mi", 2**26)]
)
def test_rounding_is_away_from_zero(text: str, whole: int) -> None:
    assert quantity.whole(text) == whole


NUMBERS = st.decimals(min_value=0, max_value=10**9, places=6, allow_nan=False)


@given(NUMBERS, st.sampled_from(sorted(quantity._BINARY)))
def test_binary_suffix_multiplies(number: object, suffix: str) -> None:
    plain = quantity.parse(f"{number:f}")
    expected = min(plain * 1024 ** quantity._BINARY[suffix], Fraction(quantity.MAX))
    assert quantity.parse(f"{number:f}{suffix}") - expected < Fraction(1, 10**9)


@given(NUMBERS, st.sampled_from(sorted(quantity._DECIMAL)))
def test_decimal_suffix_is_its_exponent(number: object, suffix: str) -> None:
    assert quantity.parse(f"{number:f}{suffix}") == quantity.parse(f"{number:f}e{quantity._DECIMAL[suffix]}")


@given(NUMBERS, NUMBERS)
def test_order_is_kept(one: object, other: object) -> None:
    assert (quantity.parse(f"{one:f}") <= quantity.parse(f"{other:f}")) == (one <= other)  # type: ignore[operator]


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_as_a_value_error(text: str) -> None:
    try:
        amount = quantity.parse(text)
    except ValueError:
        return
    assert abs(amount) <= quantity.MAX
