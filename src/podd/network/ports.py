"""Which ports of the host lead to pods, and which cannot lead to one more. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from podd.driver.contract import PortMapping

_EVERYWHERE = ("", "0.0.0.0", "::")


def clash(wanted: Sequence[PortMapping], taken: Sequence[Mapping[str, Any]]) -> PortMapping | None:
    """The first that is taken already. taken: as plugins are told."""
    return next((port for port in wanted if any(_same(port, other) for other in taken)), None)


def shown(port: PortMapping) -> str:
    """ "127.0.0.1:8080/TCP"."""
    host = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    return f"{host}:{port.host_port}/{port.protocol}" if host else f"{port.host_port}/{port.protocol}"


def _same(port: PortMapping, other: Mapping[str, Any]) -> bool:
    if port.host_port != other.get("hostPort") or port.protocol.lower() != other.get("protocol"):
        return False
    return _overlap(port.host_ip, str(other.get("hostIP", "")))


def _overlap(one: str, other: str) -> bool:
    """Whether some address is both. "" is all; 0.0.0.0 and :: are all of their family."""
    if one == other or "" in (one, other):
        return True
    same_family = (":" in one) == (":" in other)
    return same_family and (one in _EVERYWHERE or other in _EVERYWHERE)
