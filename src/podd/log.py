"""What podd says of itself: events with facts, for people, for programs, or for systemd's journal.

A call is `log.info("pod.accepted", pod=name)`: what happened, as noun.past_participle, and the facts as keys. Nothing
that may hold a secret is said: of facts only plain values are, never whole records such as a pod with its environment,
and none whose name speaks of a secret. Text of others cannot forge lines or drive a terminal: control characters are
escaped. Logging never raises, and never waits for the journal.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from podd.errors import Kind, PoddError

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["console", "json", "journal"]

JOURNAL = "/run/systemd/journal/socket"
MAX_TEXT = 16 * 1024
"""Longer values are cut. A datagram to the journal must not exceed about 200 KiB."""

MAX_ITEMS = 100

_NUMBERS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog(3)
_SECRET = re.compile(r"secret|password|token|credential|environ|^env$|^record$|^manifest$")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_PLAIN = re.compile(r"""[^\s"'=\\]+""")
_DIM, _YELLOW, _RED, _RESET = "\x1b[2m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
_PAINT = {"debug": _DIM, "info": "", "warning": _YELLOW}

_processors: list[Processor] = []
"""Loggers that were bound earlier hold this very list, so that a change of the level reaches them."""


def configure(level: Level, format: Format, *, stream: TextIO | None = None, journal: str = JOURNAL) -> None:
    """Say what is at least as important as level. May be called again.

    stream: instead of standard error. journal: the journal's socket; where it cannot be reached, the stream gets it.
    """
    to = stream or sys.stderr
    colour = not to.closed and to.isatty()
    say: dict[Format, Callable[[EventDict], None]] = {
        "console": lambda event: _write(to, as_line(event, colour=colour)),
        "json": lambda event: _write(to, as_json(event)),
        "journal": _Journal(journal, to),
    }
    _processors[:] = [_Prepare(level), _Say(say[format])]
    structlog.configure(
        processors=_processors,
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)


class _Prepare:
    """Leaves out what is not important enough; brings the rest into its final form: `time`, `level`, `event`, facts."""

    def __init__(self, level: Level) -> None:
        self._least = _NUMBERS[level]
        self._with_tracebacks = level == "debug"

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        level = "error" if method == "exception" else method
        if _NUMBERS.get(level, 40) < self._least:
            raise structlog.DropEvent
        ready: EventDict = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level,
            "event": _sayable(str(event.pop("event", ""))),
        }
        error = _exception(event.pop("exc_info", None)) or event.get("error")
        if isinstance(error, BaseException):
            event.update(self._told(error))
        ready.update([(f"{key}_" if key in ready else key, _fact(key, value)) for key, value in event.items()])
        return ready

    def _told(self, error: BaseException) -> dict[str, object]:
        """An error of podd's own tells what it says, others where they come from as well: they are bugs."""
        told: dict[str, object] = {"error": f"{type(error).__name__}: {error}"}
        expected = False
        if isinstance(error, PoddError):
            told = {**error.facts, "error": error.message}
            if error.remedy:
                told["remedy"] = error.remedy
            expected = error.kind is not Kind.INTERNAL
        if self._with_tracebacks or not expected:
            told["traceback"] = "".join(traceback.format_exception(error)).rstrip()
        return told


class _Say:
    """The last processor: what comes out of it goes to a logger that does nothing."""

    def __init__(self, say: Callable[[EventDict], None]) -> None:
        self._say = say

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        self._say(event)
        return ""


class _Libraries(logging.Handler):
    """What libraries say by way of `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        method = next((name for name, number in _NUMBERS.items() if record.levelno <= number), "critical")
        say = getattr(structlog.get_logger(), method)
        say("library.told", library=record.name, message=record.getMessage(), exc_info=record.exc_info)


class _Journal:
    """The journal's native protocol: a datagram of fields. Source: systemd.io/JOURNAL_NATIVE_PROTOCOL."""

    def __init__(self, path: str, otherwise: TextIO) -> None:
        self._path = path
        self._otherwise = otherwise
        self._dropped = 0

    def __call__(self, event: EventDict) -> None:
        fields = as_fields(event)
        if self._dropped:
            fields["PODD_DROPPED_BEFORE"] = str(self._dropped)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto(_datagram(fields), self._path)
            self._dropped = 0
        except BlockingIOError:  # it does not read; podd must not stand still for it
            self._dropped += 1
        except OSError:
            _write(self._otherwise, as_line(event, colour=False))


def as_line(event: Mapping[str, Any], *, colour: bool) -> str:
    """For people: `2026-08-01T12:00:00.123Z warning pod.told  pod=web reason=BackOff`, and the traceback below it."""
    level = f"{event['level']:<7}"
    if colour and (paint := _PAINT.get(event["level"], _RED)):
        level = f"{paint}{level}{_RESET}"
    line = f"{event['time']} {level} {_escaped(event['event'])}  {_pairs(event)}".rstrip()
    return "\n".join([line, *map(_escaped, event.get("traceback", "").splitlines())])


def as_json(event: Mapping[str, Any]) -> str:
    """For programs: one object a line."""
    return msgspec.json.encode(event).decode()


def as_fields(event: Mapping[str, Any]) -> dict[str, str]:
    """For the journal: MESSAGE as a person reads it, PRIORITY, and each fact as PODD_<KEY>."""
    fields = {
        "MESSAGE": f"{event['event']} {_pairs(event)}".rstrip(),
        "PRIORITY": str(_PRIORITIES.get(event["level"], _PRIORITIES["error"])),
        "SYSLOG_IDENTIFIER": "podd",
        "PODD_EVENT": event["event"],
    }
    for key, value in event.items():
        if key not in ("time", "level", "event"):
            name = "PODD_" + re.sub(r"[^A-Z0-9_]", "_", key.upper())[:50]
            fields[name] = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return fields


def _datagram(fields: Mapping[str, str]) -> bytes:
    parts = []
    for key, text in fields.items():
        value = text.encode()
        if b"\n" in value:
            parts.append(key.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
        else:
            parts.append(key.encode() + b"=" + value + b"\n")
    return b"".join(parts)


def _write(stream: TextIO, line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except (OSError, ValueError):  # gone or closed: there is nobody left to tell
        return


# ---- facts -----------------------------------------------------------------------------------------------------------


def _exception(given: object) -> BaseException | None:
    """What a caller may give as exc_info."""
    if isinstance(given, tuple):
        given = given[1]
    return given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None


def _fact(key: str, value: object) -> object:
    """A value that may be said, of a type that every format has."""
    if _SECRET.search(key.lower()):
        return "(not said)"
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in list(value)[:MAX_ITEMS]]
    return _plain(value)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else str(int(value))
    if isinstance(value, str | BaseException | os.PathLike):
        return _sayable(str(value))
    return f"({type(value).__name__})"


def _sayable(text: str) -> str:
    """Valid UTF-8 of bounded length."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]} (and {len(text) - MAX_TEXT} characters more)"
    return text.encode("utf-8", "backslashreplace").decode()


def _pairs(event: Mapping[str, Any]) -> str:
    kept = ((key, value) for key, value in event.items() if key not in ("time", "level", "event", "traceback"))
    return " ".join(f"{key}={_shown(value)}" for key, value in kept)


def _shown(value: object) -> str:
    """As it stands where that can be told apart from what is around it, else as JSON has it."""
    text = value if isinstance(value, str) and _PLAIN.fullmatch(value) else msgspec.json.encode(value).decode()
    return _escaped(text)


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
