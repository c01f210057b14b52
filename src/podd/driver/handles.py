"""Handles as values of a driver's own: written when something is made, read again after podd was restarted."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from podd.driver.contract import Handle
from podd.errors import Invalid, Unsupported
from podd.model.ids import INSTANCE_ID
from podd.model.value import Value

S = TypeVar("S", bound=Value)


def make(driver: str, of: str, version: int, state: Value) -> Handle:
    """version: of what the driver writes; it may read others."""
    return Handle(id=of, driver=driver, version=version, state=msgspec.to_builtins(state))


def read(handle: Handle, version: int, kind: type[S]) -> S:
    """Raises Unsupported: another version wrote it; Invalid: it is no handle of this kind."""
    if handle.version != version:
        raise Unsupported(
            f"handle {handle.id}: has version {handle.version}; this driver knows {version}",
            remedy="use the version of podd that made it, or delete the pod",
        )
    check_id(handle.id)
    try:
        return msgspec.convert(handle.state, kind)
    except msgspec.ValidationError as exc:
        raise Invalid(f"handle {handle.id}: {exc}") from exc


def check_id(of: str) -> str:
    """Ids become parts of paths and of names. Raises Invalid: it could lead elsewhere."""
    if not INSTANCE_ID.fullmatch(of):
        raise Invalid(f"id {of!r}: not 16 lower-case hexadecimal digits")
    return of
