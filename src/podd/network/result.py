"""What a plugin has answered. Pure."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from typing import Any

from podd.errors import PoddError, Unavailable, Unsupported
from podd.network.conflist import VERSIONS

Result = Mapping[str, Any]
"""The answer to ADD as JSON, in the version that its cniVersion names."""

_OURS_TO_MEND = {
    1: "give a cniVersion that this plugin speaks, or install a newer one",
    2: "take out of the configuration what the plugin does not know",
    7: "correct the configuration",
}
"""Codes of the specification that say that a configuration is wrong, and what a person can do."""


def parse_result(text: bytes, version: str, plugin: str) -> Result:
    """version: in which the plugin was asked; the answer is brought to it. Raises Unavailable: it makes no sense."""
    found = _json_object(text)
    if found is None:
        raise Unavailable(f"CNI plugin {plugin}: ADD: it succeeded and printed no result: {shown(text)}")
    said = found.get("cniVersion") or version
    if said not in VERSIONS or not _well_formed(found):
        raise Unavailable(f"CNI plugin {plugin}: ADD: its result makes no sense: {shown(text)}")
    return found if said == version else convert(found, version)


def convert(result: Result, version: str) -> Result:
    """Bring a result to another version: before 1.0.0 each address says of which family it is."""
    converted = {**result, "cniVersion": version}
    if "ips" in result:
        converted["ips"] = [_address_in(one, version) for one in result["ips"]]
    return converted


def _address_in(ip: Mapping[str, Any], version: str) -> dict[str, Any]:
    plain = {key: value for key, value in ip.items() if key != "version"}
    if VERSIONS.index(version) >= VERSIONS.index("1.0.0"):
        return plain
    return {"version": str(ipaddress.ip_interface(ip["address"]).version), **plain}


def interface_addresses(result: Result, interface: str) -> list[str]:
    """With their prefix lengths ("10.88.0.2/16"), those of the pod's own interface, in order.

    An address that names no interface is the pod's; one that names a bridge of the host is not.
    """
    interfaces: Sequence[Mapping[str, Any]] = result.get("interfaces") or ()
    return [ip["address"] for ip in result.get("ips") or () if _is_on(ip.get("interface"), interfaces, interface)]


def _is_on(index: int | None, interfaces: Sequence[Mapping[str, Any]], name: str) -> bool:
    if index is None or not 0 <= index < len(interfaces):
        return True
    return interfaces[index].get("name") == name and bool(interfaces[index].get("sandbox"))


def pod_ips(result: Result, interface: str) -> tuple[str, ...]:
    """The pod's addresses, at most one of each family, as a pod's status has it."""
    first: dict[int, str] = {}
    for address in interface_addresses(result, interface):
        ip = ipaddress.ip_interface(address).ip
        first.setdefault(ip.version, str(ip))
    return tuple(first.values())


def refusal(plugin: str, command: str, text: bytes, stderr: bytes, status: int) -> PoddError:
    """What a plugin that failed has said: {"code", "msg", "details"}, or anything else."""
    found = _json_object(text) or {}
    code, message = found.get("code"), found.get("msg")
    what = f"CNI plugin {plugin}: {command}"
    if not isinstance(code, int) or not isinstance(message, str):
        said = shown(stderr) or shown(text) or "it said nothing"
        return Unavailable(f"{what}: it ended with {_end(status)}: {said}")
    details = found.get("details")
    full = f"{what}: {message}" + (f": {details}" if isinstance(details, str) and details else "")
    if code in _OURS_TO_MEND:
        return Unsupported(full, remedy=_OURS_TO_MEND[code], code=code)
    return Unavailable(full, code=code)


def shown(text: bytes) -> str:
    """The first line that says something, for a message."""
    lines = (line.strip() for line in text.decode(errors="replace").splitlines())
    line = next((line for line in lines if line), "")
    return "".join(c if c.isprintable() else "?" for c in line)[:300]


def _end(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


def _json_object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _well_formed(result: Mapping[str, Any]) -> bool:
    """Those parts that podd itself reads."""
    ips, interfaces = result.get("ips") or [], result.get("interfaces") or []
    if not isinstance(ips, list) or not isinstance(interfaces, list):
        return False
    return all(isinstance(one, dict) for one in interfaces) and all(_is_ip(one) for one in ips)


def _is_ip(ip: object) -> bool:
    if not isinstance(ip, dict) or not isinstance(ip.get("interface", 0), int | None):
        return False
    try:
        ipaddress.ip_interface(ip.get("address", ""))
    except ValueError:
        return False
    return isinstance(ip["address"], str)
