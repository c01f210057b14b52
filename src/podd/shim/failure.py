"""From what the kernel refused to what a person is told."""

from __future__ import annotations

import errno
from types import TracebackType

from podd.errors import Denied, Internal, PoddError, Unavailable

_DENIED = (errno.EPERM, errno.EACCES)


class doing:  # noqa: N801 reads as a word: with doing("volume /data")
    """Name what is being done, so that an OSError inside becomes an error that says so.

    kind: what it is when it is not a matter of privilege.
    """

    def __init__(self, subject: str, kind: type[PoddError] = Unavailable) -> None:
        self.subject = subject
        self.kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(exc, OSError):
            error = Denied if exc.errno in _DENIED else self.kind
            path = f" ({exc.filename})" if exc.filename else ""
            hints = (note for note in getattr(exc, "__notes__", ()) if not note.startswith("see "))
            raise error(f"{self.subject}: {reason(exc)}{path}", remedy="; ".join(hints)) from exc


def reason(exc: OSError) -> str:
    """The kernel's words, in lower case as podd's own: "move_mount: invalid argument"."""
    call, colon, words = (exc.strerror or str(exc)).rpartition(": ")
    return f"{call}{colon}{words[:1].lower()}{words[1:]}"


def as_message(exc: BaseException) -> dict[str, str]:
    """What a child tells its parent: {"error", "kind", "remedy"}."""
    if isinstance(exc, PoddError):
        return {"error": exc.message, "kind": exc.kind.value, "remedy": exc.remedy}
    return {"error": f"shim: {type(exc).__name__}: {exc}", "kind": Internal.kind.value, "remedy": ""}
