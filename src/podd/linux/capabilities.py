"""Capabilities by name and by bit, and what a container is given of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from podd.errors import Invalid
from podd.linux.syscalls import PR_CAP_AMBIENT_CLEAR_ALL, CapabilitySets, Prctl, capset, prctl

NAMES = (  # noqa: SIM905 a list literal would take 41 lines
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
"""In the order of their bits. Source: <linux/capability.h>."""

BITS = {name: bit for bit, name in enumerate(NAMES)}
ALL = (1 << len(NAMES)) - 1
SYS_ADMIN = 1 << BITS["SYS_ADMIN"]


def mask_of(names: Iterable[str]) -> int:
    return sum({1 << BITS[name] for name in names})


DEFAULT = mask_of(
    ("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "KILL")
)
"""CRI-O's set. Next to Docker's it lacks MKNOD, NET_RAW, SYS_CHROOT, AUDIT_WRITE and SETFCAP: a container needs
no device nodes but those it is given, no forged packets on the pod's network, no second root, and makes no files that
grant rights."""


def granted(add: Iterable[str], drop: Iterable[str], base: int = DEFAULT) -> int:
    """The mask that securityContext.capabilities asks for.

    As the CRI says: "ALL" in add starts from everything, "ALL" in drop from nothing; then add, then drop, name by name,
    so that a name in both is dropped. Names are taken with or without "CAP_", in any case.
    Raises Invalid: there is no such capability.
    """
    added, dropped = [_normal(name) for name in add], [_normal(name) for name in drop]
    mask = base
    if "ALL" in added:
        mask = ALL
    if "ALL" in dropped:
        mask = 0
    mask |= mask_of(name for name in added if name != "ALL")
    return mask & ~mask_of(name for name in dropped if name != "ALL")


def names_of(mask: int) -> list[str]:
    return [name for bit, name in enumerate(NAMES) if mask >> bit & 1]


def _normal(name: str) -> str:
    plain = name.upper().removeprefix("CAP_")
    if plain == "ALL" or plain in BITS:
        return plain
    from difflib import get_close_matches  # noqa: PLC0415 only to word an error, and not wanted in every supervisor

    near = get_close_matches(plain, NAMES, 1)
    remedy = f"did you mean {near[0]}?" if near else "see capabilities(7) for the names"
    raise Invalid(f'capability "{name}": there is none of this name', remedy=remedy, capability=name)


@cache
def bounding_set() -> int:
    """What this process had in its bounding set when this was first asked. One call a bit: there is no other way.

    Remembered, and inherited by forks: podd itself never gives any of it up.
    """
    mask = 0
    for bit in range(64):
        try:
            mask |= prctl(Prctl.CAPBSET_READ, bit) << bit
        except OSError:  # EINVAL: beyond the kernel's last capability
            break
    return mask


def limit_bounding_set(mask: int) -> None:
    """Drop from the bounding set all that is not in mask. Needs SETPCAP."""
    for bit in bits_of(bounding_set() & ~mask):
        prctl(Prctl.CAPBSET_DROP, bit)


def bits_of(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set."""
    while mask:
        bit = mask & -mask
        yield bit.bit_length() - 1
        mask ^= bit


def hold(effective: int, permitted: int) -> None:
    """Set the calling thread's sets; inheritable and ambient become empty.

    With anything inheritable, a file's inheritable bits would add to what a program may do.
    """
    capset(CapabilitySets(effective=effective, permitted=permitted, inheritable=0))
    prctl(Prctl.CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
