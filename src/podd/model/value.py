"""The base of every value that podd passes around: immutable, compared by content, JSON by msgspec."""

from __future__ import annotations

from typing import dataclass_transform

import msgspec


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Subclasses are frozen and keyword-only without saying so; the decorator tells the type checker."""
