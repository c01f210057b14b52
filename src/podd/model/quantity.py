"""Kubernetes quantities ("250m", "1.5Gi", "2e3") read exactly.

Source: the grammar and the rounding rules of apimachinery's resource.Quantity. A quantity is a decimal number with a
binary suffix (Ki Mi Gi Ti Pi Ei), a decimal one (n u m k M G T P E) or an exponent (e3, E-2). What is finer than a
billionth is rounded away from zero; what is larger than 2**63-1 is cut to that.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

MAX = 2**63 - 1

_FORM = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]*))?"
    r"(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE](?P<exponent>[+-]?[0-9]+))?",
    re.ASCII,
)
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_MAX_LENGTH = 128
_NANO = 10**9


@lru_cache(maxsize=1024)  # a pod has the same few, and is asked for them with each change
def parse(text: str) -> Fraction:
    """The exact amount, a whole number of billionths. Raises ValueError: `text` is not a quantity."""
    text = text.strip()
    match = _FORM.fullmatch(text)
    if match is None or not (match["whole"] or match["part"]):
        raise ValueError(f'"{text[:40]}" is not a quantity like 500m, 2, 1.5Gi or 1e3')
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"a quantity has at most {_MAX_LENGTH} characters")
    part = match["part"] or ""
    amount = Fraction(int(match["whole"] + part or "0"), 10 ** len(part)) * _scale(match["suffix"], match["exponent"])
    rounded = min(Fraction(_ceil(amount * _NANO), _NANO), Fraction(MAX))
    return -rounded if match["sign"] == "-" else rounded


def _scale(suffix: str | None, exponent: str | None) -> Fraction:
    if suffix is None:
        return Fraction(1)
    if exponent is not None:
        # Beyond these every amount of at most _MAX_LENGTH digits is rounded or cut the same; 10**n stays small.
        bounded = max(-2 * _MAX_LENGTH, min(2 * _MAX_LENGTH, int(exponent)))
        return Fraction(10) ** bounded
    if suffix in _BINARY:
        return Fraction(1024 ** _BINARY[suffix])
    return Fraction(10) ** _DECIMAL[suffix]


def whole(text: str) -> int:
    """In whole units, rounded away from zero: bytes where `text` is an amount of memory."""
    amount = parse(text)
    return _ceil(amount) if amount >= 0 else -_ceil(-amount)


def _ceil(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)
