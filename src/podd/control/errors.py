"""The one table between podd's kinds of error, their names on the wire, and a command's exit status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podd.errors import BY_KIND, Denied, Internal, Invalid, Kind, PoddError, Unsupported

EXIT_DONE = 0
EXIT_FAILED = 1  # refused or failed, whatever the kind: the message tells
EXIT_USAGE = 2  # the command line itself is wrong; nothing was asked of podd

INTERFACE = "io.podd"

BY_NAME: dict[str, Kind] = {f"{INTERFACE}.{kind}": kind for kind in Kind}
NAMES: dict[Kind, str] = {kind: name for name, kind in BY_NAME.items()}

SERVICE = "org.varlink.service"

_SERVICE_ERRORS: dict[str, tuple[type[PoddError], str]] = {
    f"{SERVICE}.InterfaceNotFound": (Unsupported, "interface {interface}: not served here"),
    f"{SERVICE}.MethodNotFound": (Unsupported, "method {method}: not known to this podd"),
    f"{SERVICE}.MethodNotImplemented": (Unsupported, "method {method}: not implemented by this podd"),
    f"{SERVICE}.InvalidParameter": (Invalid, "parameter {parameter}: refused by this podd"),
    f"{SERVICE}.PermissionDenied": (Denied, "podd: permission denied"),
    f"{SERVICE}.ExpectedMore": (Invalid, "method: answers only to calls with more"),
}


def parameters_of(error: PoddError) -> dict[str, Any]:
    """What an io.podd error carries on the wire. Facts that are not JSON are written as text."""
    return {"message": readable(error.message), "remedy": readable(error.remedy), "facts": _plain(error.facts)}


def from_wire(name: str, parameters: Mapping[str, Any]) -> PoddError:
    """The error that a reply stands for. Never raises; what it cannot read is Internal and shows the name."""
    if name in _SERVICE_ERRORS:
        cls, template = _SERVICE_ERRORS[name]
        subject = {key: str(parameters.get(key, "?")) for key in ("interface", "method", "parameter")}
        return cls(template.format(**subject), remedy="run podd-cli and podd of the same version")
    kind = BY_NAME.get(name)
    if kind is None:
        return Internal(f"podd: unknown error {name}", remedy="run podd-cli and podd of the same version")
    error = BY_KIND[kind](str(parameters.get("message", name)), remedy=str(parameters.get("remedy") or ""))
    facts = parameters.get("facts")
    error.facts = dict(facts) if isinstance(facts, dict) else {}
    return error


def readable(text: str) -> str:
    """Text as JSON can carry it: bytes that Python keeps as surrogates (of a file's name, say) shown as escapes."""
    return text.encode(errors="backslashreplace").decode()


def _plain(fact: object) -> object:
    if fact is None or isinstance(fact, (bool, int, float)):
        return fact
    if isinstance(fact, dict):
        return {readable(str(key)): _plain(value) for key, value in fact.items()}
    if isinstance(fact, (list, tuple)):
        return [_plain(item) for item in fact]
    return readable(str(fact))
