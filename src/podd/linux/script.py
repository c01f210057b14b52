"""A list of system calls, written down before the process exists that makes them.

What a process does between its birth and its program is a list of system calls: enter this, become that, execute. A
forked interpreter that walks through it copies megabytes of its parent, page by page, because it counts references as
it goes, and has its parent's secrets in its memory while it is inside the container. So the list is made beforehand by
the parent, where everything can be looked up and judged, and `podd.linux.spawn` has it executed by a process that is
nothing but the list.

    script = Script(sync)
    script.doing("session")
    script.call("setsid")
    script.call("execve", program, [program, b"-v", 0], [0])

An argument is a number; bytes, of which the call gets the address (a NUL follows them); a list of such, of which it
gets the address of as many 64-bit words; or the Result of an earlier call, in one place only. The same object is in the
same place wherever it is an argument, so that one call may write to it and another read it. A call that returns less
than `least` ends the process with `status`, and a Failure is written to the descriptor that the script was made with.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from podd.errors import PoddError, Unavailable
from podd.linux.elf import DATA

# Source: asm/unistd_64.h and asm-generic/unistd.h; calls younger than the split have one number everywhere.
_YOUNG = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "close_range": 436,
    "mount_setattr": 442,
}
_X86_64 = {
    "read": 0,
    "write": 1,
    "rt_sigaction": 13,
    "rt_sigprocmask": 14,
    "ioctl": 16,
    "execve": 59,
    "fchdir": 81,
    "fchown": 93,
    "umask": 95,
    "setsid": 112,
    "setgroups": 116,
    "setresuid": 117,
    "setresgid": 119,
    "capset": 126,
    "prctl": 157,
    "clock_gettime": 228,
    "exit_group": 231,
    "keyctl": 250,
    "openat": 257,
    "unshare": 272,
    "dup3": 292,
    "prlimit64": 302,
    "setns": 308,
}
_GENERIC = {
    "dup3": 24,
    "ioctl": 29,
    "exit_group": 94,
    "fchdir": 50,
    "fchown": 55,
    "openat": 56,
    "read": 63,
    "write": 64,
    "capset": 91,
    "unshare": 97,
    "clock_gettime": 113,
    "rt_sigaction": 134,
    "rt_sigprocmask": 135,
    "setresuid": 147,
    "setresgid": 149,
    "setsid": 157,
    "setgroups": 159,
    "umask": 166,
    "prctl": 167,
    "keyctl": 219,
    "execve": 221,
    "prlimit64": 261,
    "setns": 268,
}
NUMBERS = _YOUNG | (_X86_64 if os.uname().machine == "x86_64" else _GENERIC)

HEADER = struct.Struct("=qQ")  # where a Failure is written to; a place for results that nobody wants
STEP = struct.Struct("=q6qqqQ")  # number, arguments, least, status, the address of the place for the result
FAILURE = struct.Struct("=Qq")  # the address of the step, the negative errno
ANY = -(2**63)
"""The least result of a call that may fail."""

STEPS, BLOCKS = DATA
_WORD = struct.Struct("=q")
WORD = _WORD.size
_STEP_OF = [struct.Struct(f"=q{n}q{(6 - n) * WORD}xqqQ") for n in range(7)]  # a STEP with so many arguments
_UNWANTED = STEPS + WORD


class Result(NamedTuple):
    """What a call of the script will return. place: where the address of the place for it stands."""

    place: int


Argument: TypeAlias = int | bytes | Result | Sequence[int | bytes | Result]


class Script:
    """`steps` and `blocks` are what lies at STEPS and BLOCKS in the memory of the process: the calls, and what their
    arguments point to."""

    def __init__(self, sync: int) -> None:
        self.steps = bytearray(HEADER.pack(sync, 0))
        self.blocks = bytearray()
        self._known: dict[int, tuple[int, Argument]] = {}  # by id, the address of what it became
        self._subject: tuple[str, type[PoddError]] = ("", Unavailable)
        self._what: list[tuple[str, tuple[str, type[PoddError]]]] = []  # of each step, its name and its subject

    def doing(self, subject: str, kind: type[PoddError] = Unavailable) -> None:
        """What the calls from here on are for, as errors name it; kind: as `podd.shim.failure.doing`."""
        self._subject = (subject, kind)

    def call(self, name: str, *arguments: Argument, least: int = 0, status: int = 127) -> Result:
        words = list(arguments)
        for n, value in enumerate(arguments):
            if type(value) is not int:
                words[n] = self._word(value, STEPS + len(self.steps) + WORD * (n + 1))
        self.steps += _STEP_OF[len(words)].pack(NUMBERS[name], *words, least, status, _UNWANTED)
        self._what.append((name, self._subject))
        return Result(len(self.steps) - WORD)

    def call_each(self, name: str, first: int, values: Sequence[int]) -> None:
        """The same call with each of these numbers as its second argument."""
        number, first = NUMBERS[name], int(first)
        self.steps += b"".join([STEP.pack(number, first, n, 0, 0, 0, 0, 0, 127, _UNWANTED) for n in values])
        self._what += [(name, self._subject)] * len(values)

    def failed(self, failure: bytes) -> tuple[str, OSError, type[PoddError]]:
        """What was being done, what the kernel said to it, and what it is when it is no matter of privilege."""
        address, error = FAILURE.unpack(failure)
        name, (subject, kind) = self._what[(address - STEPS - HEADER.size) // STEP.size]
        return subject, OSError(-error, f"{name}: {os.strerror(-error)}"), kind

    def _word(self, value: Argument, place: int) -> int:
        """What stands for value at the address place."""
        if isinstance(value, int):
            return int(value)
        if isinstance(value, Result):
            _WORD.pack_into(self.steps, value.place, place)
            return 0
        known = self._known.get(id(value))
        return known[0] if known else self._block(value)

    def _block(self, value: bytes | Sequence[int | bytes | Result]) -> int:
        """The address of what value becomes in memory."""
        start = len(self.blocks)
        self._known[id(value)] = BLOCKS + start, value
        if isinstance(value, bytes):
            self.blocks += value.ljust(len(value) // WORD * WORD + WORD, b"\0")
        else:
            self.blocks += bytes(WORD * len(value))
            for offset, inner in enumerate(value):
                at = start + WORD * offset
                _WORD.pack_into(self.blocks, at, self._word(inner, BLOCKS + at))
        return BLOCKS + start
