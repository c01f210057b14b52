"""The base of every value that podd passes around: immutable, compared by content, JSON by msgspec."""

from __future__ import annotations

from typing import dataclass_transform

import msgspec


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Subclasses are frozen, and to the type checker keyword-only, without saying so.

    At run time msgspec makes keyword-only just the fields of the class that says kw_only: a subclass that nobody
    checked could be made by position.
    """
