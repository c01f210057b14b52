"""What systemd is asked to do with units, by its own programs. Blocks: for worker threads.

A slice that podd makes is a transient unit: what systemd writes down of it goes when it is stopped.
"""

from __future__ import annotations

import subprocess

from podd.errors import Unavailable
from podd.linux.cgroup.knobs import DEFAULT_PERIOD_US, DEFAULT_SHARES, Limits, weight_of

_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_COUNTED = ("MemoryAccounting", "b", "true", "TasksAccounting", "b", "true")
_INFINITY = 2**64 - 1
_NOT_LOADED = 5  # of systemctl(1)
_LIMIT_S = 20.0
"""A host's first process may be busy: it reads all units again where somebody has it reload."""


def start_slice(name: str, limits: Limits) -> None:
    """Its group is there when this returns. Raises Unavailable."""
    words = ["Description", "s", "A pod of podd", *_COUNTED, *properties(limits)]
    _call("StartTransientUnit", "ssa(sv)a(sa(sv))", name, "replace", str(len(words) // 3), *words, "0")
    _run("systemctl", "start", name)  # which waits for what has been begun


def set_limits(name: str, limits: Limits) -> None:
    """Exactly these, until the unit is stopped. Raises Unavailable."""
    words = properties(limits)
    _call("SetUnitProperties", "sba(sv)", name, "true", str(len(words) // 3), *words)


def stop(name: str) -> None:
    """With all units in it. Of none: quiet success. Raises Unavailable."""
    _run("systemctl", "stop", name, quiet=_NOT_LOADED)


def properties(limits: Limits) -> list[str]:
    """Of each its name, type and value: with them systemd writes what podd.linux.cgroup writes for these limits.

    Source: systemd.resource-control(5).
    """
    quota, period = limits.get("cpu_quota_us"), limits.get("cpu_period_us") or DEFAULT_PERIOD_US
    memory, pids = limits.get("memory_bytes"), limits.get("pids")
    values = {
        "CPUWeight": weight_of(limits.get("cpu_shares") or DEFAULT_SHARES),
        "CPUQuotaPerSecUSec": _INFINITY if quota is None else -(-quota * 1_000_000 // period),  # systemd rounds down
        "CPUQuotaPeriodUSec": period,
        "MemoryMax": _INFINITY if memory is None else memory,
        "MemorySwapMax": _INFINITY if memory is None else 0,
        "TasksMax": _INFINITY if pids is None else pids,
    }
    return [word for name, value in values.items() for word in (name, "t", str(value))]


def _call(method: str, signature: str, *words: str) -> None:
    _run("busctl", "call", *_MANAGER, method, signature, *words)


def _run(*command: str, quiet: int = 0) -> None:
    """quiet: an exit status that is none to tell of."""
    what = " ".join(command[:2])
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIMIT_S, check=False)
    except FileNotFoundError as exc:
        raise _unavailable(f"{what}: there is no {command[0]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise _unavailable(f"{what}: no answer within {_LIMIT_S:g} s") from exc
    if done.returncode not in (0, quiet):
        raise _unavailable(f"{what}: {done.stderr.decode(errors='replace').strip()}")


def _unavailable(why: str) -> Unavailable:
    return Unavailable(f"systemd: {why}", remedy="see that systemd and its D-Bus answer: systemctl status")
