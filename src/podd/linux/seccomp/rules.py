"""What a seccomp profile says, before it is a program."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Literal, NamedTuple

ALLOW = 0x7FFF0000  # an action is the value that the program returns: <linux/seccomp.h>, SECCOMP_RET_*
LOG = 0x7FFC0000
TRAP = 0x00030000
KILL_THREAD = 0x00000000
KILL_PROCESS = 0x80000000


def error(number: int) -> int:
    """The action that fails the call with this errno."""
    return 0x00050000 | number


def trace(data: int) -> int:
    """The action that tells a tracer, and fails the call with ENOSYS where there is none."""
    return 0x7FF00000 | data


EPERM = error(errno.EPERM)
ENOSYS = error(errno.ENOSYS)

Comparison = Literal["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]


class Arg(NamedTuple):
    """A condition on one argument, compared as unsigned 64 bits. MASKED_EQ: argument & value == second."""

    position: int  # 0..5
    op: Comparison
    value: int
    second: int = 0


class Rule(NamedTuple):
    """These calls get this action if all conditions hold."""

    names: Sequence[str]
    action: int
    args: tuple[Arg, ...] = ()


class Profile(NamedTuple):
    default: int  # for calls that no rule is about, as far as the author knew them; see `known`
    architectures: Sequence[str]  # "X86_64", the native one first; processes of other ones are killed
    rules: Sequence[Rule]
    known: frozenset[
        str
    ]  # calls numbered above all of these are newer than the profile: ENOSYS, so that libc falls back
    whole_socketcall: bool = True  # False: the 32-bit socketcall(2), whose arguments no filter sees, makes no sockets
