"""A program that does nothing, forever: what the init of a shared pid namespace becomes.

An interpreter that waits keeps megabytes of memory that nobody else shares; this program has three pages. It is an ELF
file with a header, one segment and the code below, made in memory: nothing on the host is relied on and nothing in the
container trusted.
"""

from __future__ import annotations

import os

from podd.linux.elf import memory_program

_X86_64 = bytes.fromhex(
    "b89d000000"  #     mov eax, 157      prctl(
    "bf0f000000"  #     mov edi, 15         PR_SET_NAME,
    "488d350b000000"  # lea rsi, [rip+11]   what follows this code)
    "0f05"  #           syscall
    "b822000000"  #     mov eax, 34       pause()
    "0f05"  #           syscall
    "ebf7"  #           jmp -9            again
)


def pause_program(name: str) -> int | None:
    """A descriptor, owned by the caller, to be given to execve; None where there is none for this machine.

    name: as ps and /proc/PID/comm show it; 15 bytes at most. What the process ignores (SIGCHLD: its children are reaped
    by the kernel) it goes on ignoring.
    Raises OSError: vm.memfd_noexec=2 forbids programs in memory.
    """
    if os.uname().machine != "x86_64":
        return None
    return memory_program(name, _X86_64 + name.encode()[:15] + b"\0")
