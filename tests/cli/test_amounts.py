from __future__ import annotations

import pytest

from podd.cli import amounts

KI, MI, GI = 1024, 1024**2, 1024**3


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"), (0, "0"), (1023, "1023"), (KI, "1Ki"), (1536, "1.5Ki"), (MI - 1, "1Mi"), (64 * MI, "64Mi"),
        (int(3.14 * GI), "3.1Gi"), (2**60, "1024Pi"),
    ],
)  # fmt: skip
def test_size(count: int | None, text: str) -> None:
    assert amounts.size(count) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, "-"), (0, "0m"), (0.0004, "0m"), (0.25, "250m"), (1, "1"), (1.5, "1.5"), (10, "10"), (2.04, "2.04")],
)
def test_cores(amount: float | None, text: str) -> None:
    assert amounts.cores(amount) == text


def test_of_a_limit() -> None:
    assert amounts.of("3Mi", "64Mi") == "3Mi/64Mi"
    assert amounts.of("3Mi", amounts.UNKNOWN) == "3Mi"
    assert amounts.count(None) == amounts.UNKNOWN
