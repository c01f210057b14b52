"""A program that does nothing, forever: what the init of a shared pid namespace becomes.

An interpreter that waits keeps megabytes of memory that nobody else shares; this program has three pages. It is an ELF
file with a header, one segment and the code below, made in memory: nothing on the host is relied on and nothing in the
container trusted.
"""

from __future__ import annotations

import errno
import os
import struct

_BASE = 0x400000
_FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_MFD_EXEC = 0x10  # Linux 6.3; where it is not given, vm.memfd_noexec decides

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

    name: as ps and /proc/PID/comm show it; 15 bytes at most.
    The file can be executed and not read, so a process without capabilities that executes it is not dumpable. What the
    process ignores (SIGCHLD: its children are reaped by the kernel) it goes on ignoring.
    Raises OSError: vm.memfd_noexec=2 forbids programs in memory.
    """
    if os.uname().machine != "x86_64":
        return None
    file = _memory_file(name)
    try:
        os.write(file, _elf(_X86_64 + name.encode()[:15] + b"\0"))
        os.fchmod(file, 0o111)
        return os.open(f"/proc/self/fd/{file}", os.O_PATH | os.O_CLOEXEC)  # what is open for writing is not executed
    finally:
        os.close(file)


def _memory_file(name: str) -> int:
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, os.MFD_CLOEXEC)


def _elf(code: bytes) -> bytes:
    """One segment that holds everything, readable and executable. Source: elf(5)."""
    start = _FILE_HEADER.size + _SEGMENT.size
    size = start + len(code)
    identity = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
    executable, x86_64, load, read_execute = 2, 62, 1, 5
    return b"".join(
        (
            _FILE_HEADER.pack(
                identity, executable, x86_64, 1, _BASE + start, _FILE_HEADER.size, 0, 0, 64, _SEGMENT.size, 1, 0, 0, 0
            ),
            _SEGMENT.pack(load, read_execute, 0, _BASE, _BASE, size, size, 0x1000),
            code,
        )
    )
