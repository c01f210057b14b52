"""Amounts as people read them: bytes, cores, and what a limit adds."""

from __future__ import annotations

_STEPS = ("Ki", "Mi", "Gi", "Ti", "Pi")
UNKNOWN = "-"  # the kernel does not tell, or there is no limit


def size(count: int | None) -> str:
    """Bytes in the largest binary unit that leaves at least one: "512", "3.1Mi", "64Mi"."""
    if count is None:
        return UNKNOWN
    if count < 1024:
        return str(count)
    amount = float(count)
    for unit in _STEPS:
        amount /= 1024
        if amount < 1023.95 or unit == _STEPS[-1]:
            break
    return f"{amount:.1f}".removesuffix(".0") + unit


def cores(amount: float | None) -> str:
    """CPUs: "250m" below one, "1.5" above; as Kubernetes writes them."""
    if amount is None:
        return UNKNOWN
    if amount < 1:
        return f"{amount * 1000:.0f}m"
    return f"{amount:.2f}".rstrip("0").rstrip(".")


def count(number: int | None) -> str:
    return UNKNOWN if number is None else str(number)


def of(used: str, limit: str) -> str:
    """ "3.1Mi/64Mi", or what is used alone where there is no limit."""
    return used if limit == UNKNOWN else f"{used}/{limit}"
