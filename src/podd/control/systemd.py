"""What systemd and a service tell each other: inherited sockets, readiness, the watchdog.

Source: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

import anyio

_FIRST_FD = 3


class Inherited(NamedTuple):
    """name: FileDescriptorName= of the socket unit, or "unknown"."""

    name: str
    sock: socket.socket


def inherited_sockets() -> list[Inherited]:
    """The sockets that were passed to this very process; none without socket activation.

    The caller owns them. Asked again, and in children of this process, there are none: the variables are removed.
    Raises ValueError: what was passed is not a socket, or the variables are not numbers.
    """
    pid, count, names = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count:
        return []
    fds = range(_FIRST_FD, _FIRST_FD + int(count))
    named = [*names.split(":"), *[""] * len(fds)]
    for fd in fds:
        os.set_inheritable(fd, False)
    try:
        return [Inherited(name or "unknown", socket.socket(fileno=fd)) for fd, name in zip(fds, named, strict=False)]
    except OSError as exc:
        raise ValueError(f"LISTEN_FDS: not all of {count} descriptors are sockets: {exc.strerror}") from exc


def notify(*assignments: str) -> bool:
    """Tell the service manager: "READY=1", "STOPPING=1", "STATUS=…". False: there is none, or it did not take it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)  # a manager that does not listen must not stop its service
        try:
            sock.sendto("\n".join(assignments).encode(), address)
        except OSError:
            return False
    return True


def watchdog_s() -> float | None:
    """How long the service manager waits for a WATCHDOG=1 before it kills; None: it does not watch this process."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or not usec.isdecimal() or int(usec) == 0:
        return None
    return int(usec) / 1_000_000


async def feed_watchdog() -> None:
    """Show, twice within the watchdog's time, that this event loop turns. Returns at once where nobody watches."""
    interval_s = watchdog_s()
    while interval_s is not None:
        notify("WATCHDOG=1")
        await anyio.sleep(interval_s / 2)
