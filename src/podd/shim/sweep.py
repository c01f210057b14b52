"""Leave nothing of a sandbox, whatever state it is in: with its shim, without one, half made or half removed.

Used by the zygote for sandboxes that have no shim to ask, and by a shim for its own end.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
from typing import Any

from podd.errors import Invalid, Unavailable
from podd.linux.cgroup import Layout
from podd.linux.process import PidIdentity, open_pidfd
from podd.linux.syscalls import UmountFlag, umount2
from podd.shim.files import read_json, remove_tree
from podd.shim.plan import SweepPlan

SHIM_FILE = "shim.json"
"""Goes last, so that whoever looks for remains finds them with their plan."""

KILL_S = 10.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)


def sweep(plan: SweepPlan) -> None:
    """Kill, unmount and remove everything of one sandbox, its shim included; of what is not there: nothing.

    Raises Invalid: the plan does not name its own places; Unavailable: something is left.
    """
    check(plan)
    known = read_json(f"{plan['run_dir']}/{SHIM_FILE}") or {}
    _kill_shim(known.get("shim", {}))
    Layout.detect().group(plan["cgroup"]).kill_all(KILL_S)
    logs = "" if plan.get("keep_logs", True) else known.get("sandbox", {}).get("log_directory", "")
    if isinstance(logs, str) and os.path.isabs(logs):
        remove_tree(logs)
    remove(plan)


def remove(plan: SweepPlan) -> None:
    """What `sweep` does after everything has been killed. Raises Unavailable: something is left."""
    unmount_below(plan["run_dir"])
    remove_tree(f"{plan['containers_dir']}/{plan['id']}")
    Layout.everywhere().group(plan["cgroup"]).remove()
    remove_tree(plan["run_dir"], last=SHIM_FILE)


def check(plan: SweepPlan) -> None:
    """Every path ends in, or is extended by, the sandbox's id, so that no mistake can reach beyond it."""
    sandbox = plan["id"]
    if not _ID.fullmatch(sandbox):
        raise Invalid(f"sandbox: id {sandbox!r}: not a plain name")
    for field, path in (("run_dir", plan["run_dir"]), ("cgroup", plan["cgroup"])):
        if path.rpartition("/")[2] != sandbox:
            raise Invalid(f"sandbox {sandbox}: {field} {path!r}: does not end in the sandbox's id")
    for field, path in (("run_dir", plan["run_dir"]), ("containers_dir", plan["containers_dir"])):
        if os.path.normpath(path) != path or not os.path.isabs(path):
            raise Invalid(f"sandbox {sandbox}: {field} {path!r}: not an absolute plain path")


def unmount_below(directory: str) -> None:
    """Unmount every mount at or below a directory whose parent is trusted, the youngest first.

    directory: its last part has none of the characters that the kernel writes in another way.
    """
    parent, _, name = directory.rpartition("/")
    real = f"{os.path.realpath(parent)}/{name}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mountinfo:
        points = [_unescape(line.split(" ", 5)[4]) for line in mountinfo if name in line]
    for point in reversed(points):
        if point == real or point.startswith(f"{real}/"):
            with contextlib.suppress(FileNotFoundError):
                umount2(point, UmountFlag.DETACH | UmountFlag.NOFOLLOW)


def _unescape(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)


def _kill_shim(identity: dict[str, Any]) -> None:
    """End the shim that wrote this identity, and wait for its end. Not by its number alone: that may be reused."""
    try:
        shim = PidIdentity(int(identity["pid"]), int(identity["starttime_ticks"]), str(identity["boot_id"]))
    except (KeyError, TypeError, ValueError):
        return
    if shim.pid == os.getpid():
        return
    try:
        pidfd = open_pidfd(shim)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(KILL_S * 1000):
            raise Unavailable(f"shim {shim.pid}: it does not end after SIGKILL")
    finally:
        os.close(pidfd)
