"""Processes: names that a reused pid cannot take, and what /proc says about them."""

from __future__ import annotations

import errno
import os
import signal
from functools import cache
from typing import NamedTuple

from podd.linux.namespaces import FLAGS


class PidIdentity(NamedTuple):
    """One process of one boot of this machine. As JSON: an object of the same three keys."""

    pid: int
    starttime_ticks: int
    boot_id: str


@cache
def boot_id() -> str:
    """A UUID that is new at every boot. Source: proc(5), /proc/sys/kernel/random/boot_id."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _read(path: str) -> bytes:
    """A file of /proc/PID. Raises ProcessLookupError: no such process, whichever way the kernel says it."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError as exc:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), path) from exc


def starttime_ticks(pid: int) -> int:
    """When it started, in ticks of 1/SC_CLK_TCK s since boot.

    Source: proc_pid_stat(5), field 22; counted after the last ")", for comm may hold spaces and ")".
    Raises ProcessLookupError: no such process.
    """
    return int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19])


def identity(pid: int) -> PidIdentity:
    """pid: in podd's own pid namespace, > 0. Raises ProcessLookupError: no such process."""
    return PidIdentity(pid, starttime_ticks(pid), boot_id())


_NO_PROCESS = (errno.EINVAL, errno.ENOENT)
"""From pidfd_open(2): of a thread, and before Linux 6.15 of a process that was just reaped."""


def pidfd_of(pid: int) -> int:
    """A pidfd of the process with that number, which the caller owns. Raises ProcessLookupError: there is none."""
    try:
        return os.pidfd_open(pid)
    except OSError as exc:
        if exc.errno not in _NO_PROCESS:
            raise
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"pid {pid}") from exc


def open_pidfd(process: PidIdentity) -> int:
    """A pidfd of exactly that process, which the caller owns. Raises ProcessLookupError: it is gone."""
    gone = ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"pid {process.pid}")
    if process.boot_id != boot_id():
        raise gone
    fd = pidfd_of(process.pid)
    try:
        if starttime_ticks(process.pid) != process.starttime_ticks:
            raise gone
        signal.pidfd_send_signal(fd, 0)  # still the one whose start was read
    except BaseException:
        os.close(fd)
        raise
    return fd


def namespaces(pid: int) -> dict[str, int]:
    """Inode numbers by the names of `namespaces.FLAGS`. Raises ProcessLookupError: it is gone."""
    try:
        return _namespaces(str(pid))
    except (FileNotFoundError, PermissionError) as exc:
        # Of one that is reaped between finding the link and following it, the kernel says that access is denied.
        if isinstance(exc, PermissionError) and os.path.exists(f"/proc/{pid}"):
            raise
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"/proc/{pid}/ns") from exc


def own_namespaces() -> dict[str, int]:
    """Of the calling thread: the process's first may be on a visit, see `podd.linux.namespaces.open_socket`."""
    return _namespaces("thread-self")


def _namespaces(process: str) -> dict[str, int]:
    return {name: os.stat(f"/proc/{process}/ns/{name}").st_ino for name in FLAGS}


def cgroups(pid: int) -> dict[str, str]:
    """Its cgroup by controllers: "" is v2; v1 names are as in /proc/PID/cgroup ("cpu,cpuacct", "name=systemd")."""
    lines = os.fsdecode(_read(f"/proc/{pid}/cgroup")).splitlines()
    return {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}


def command_line(pid: int) -> str:
    """Its arguments, separated by spaces, for people; the name in brackets where there are none. "" once gone."""
    try:
        arguments = _read(f"/proc/{pid}/cmdline").rstrip(b"\0")
        if arguments:
            return arguments.replace(b"\0", b" ").decode(errors="replace")
        return f"[{_read(f'/proc/{pid}/comm').decode(errors='replace').strip()}]"
    except ProcessLookupError:
        return ""


def status(pid: int) -> dict[str, str]:
    """The lines of /proc/PID/status. Raises ProcessLookupError: it is gone."""
    lines = _read(f"/proc/{pid}/status").decode(errors="replace").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
