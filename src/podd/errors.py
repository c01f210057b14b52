"""The closed set of ways in which podd says no.

An error tells four things: its kind (who can act on it), what failed on what and why, what to do about it,
and the facts as data. `podd.control.errors` is the one table from a kind to a Varlink error and an exit status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Kind(StrEnum):
    """Whose move it is. Closed: a front end has an answer for each, so a new kind is a change of the protocol."""

    INVALID = "Invalid"  # the request itself is wrong; the same request will always be
    NOT_FOUND = "NotFound"  # what it names is not there
    CONFLICT = "Conflict"  # it is there, in a state that forbids this
    UNSUPPORTED = "Unsupported"  # meaningful, and this podd or this driver cannot do it
    UNAVAILABLE = "Unavailable"  # could work later: a backend is away, a deadline passed, a limit is reached
    DENIED = "Denied"  # the peer, or podd itself, lacks the right
    INTERNAL = "Internal"  # a bug in podd or a plugin


class PoddError(Exception):
    """A refusal or failure that a person may read.

    message: "subject: what: why", lower case, no full stop.
    remedy: what the reader can do; empty where there is nothing to do.
    facts: the parts of the message as data, for logs and for programs.
    """

    kind: ClassVar[Kind] = Kind.INTERNAL

    def __init__(self, message: str, *, remedy: str = "", **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class Invalid(PoddError):
    """The request is malformed or impossible. Nothing was changed."""

    kind = Kind.INVALID


class NotFound(PoddError):
    """There is no such thing. Nothing was changed."""

    kind = Kind.NOT_FOUND


class Conflict(PoddError):
    """The thing is in a state that does not allow this, or the name is taken. Nothing was changed."""

    kind = Kind.CONFLICT


class Unsupported(PoddError):
    """This driver, host or version of podd cannot do it. Nothing was changed."""

    kind = Kind.UNSUPPORTED


class Unavailable(PoddError):
    """Something needed is away, too slow or full. What was begun is undone, or journaled to be undone."""

    kind = Kind.UNAVAILABLE


class Denied(PoddError):
    """The caller, or podd itself, lacks a privilege. Nothing was changed."""

    kind = Kind.DENIED


class Internal(PoddError):
    """A bug in podd or in a plugin."""

    kind = Kind.INTERNAL


BY_KIND: dict[Kind, type[PoddError]] = {
    cls.kind: cls for cls in (Invalid, NotFound, Conflict, Unsupported, Unavailable, Denied, Internal)
}
