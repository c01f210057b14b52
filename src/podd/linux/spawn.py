"""A process that makes the calls of a `podd.linux.script`, and is nothing else.

It is started as vfork(2) does it: it borrows its parent's memory until it has executed the small program below, so
nothing is copied and nothing of the parent stays with it. Where there is no such program for this machine, or the host
forbids code or programs in memory, a forked interpreter makes the calls.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import NoReturn

from podd.linux.cgroup.enter import checked, clone_arguments, fork_into
from podd.linux.elf import memory_program
from podd.linux.script import BLOCKS, FAILURE, HEADER, STEP, STEPS, Script
from podd.linux.syscalls import make_executable, map_at, numbered

_RUN = bytes.fromhex(
    "48bb1000000020000000"  #  movabs rbx, STEPS + 16  the first step
    "4c8d63f0"  #          lea r12, [rbx-16]       the header
    "488b03"  #         1: mov rax, [rbx]          its number and arguments
    "488b7b08488b7310488b5318"  #  rdi, rsi, rdx
    "4c8b53204c8b43284c8b4b30"  #  r10, r8, r9
    "0f05"  #              syscall
    "488b4b48"  #          mov rcx, [rbx+72]       the place of the result
    "488901"  #            mov [rcx], rax
    "483b4338"  #          cmp rax, [rbx+56]       less than the least?
    "7c06"  #              jl 2f
    "4883c350"  #          add rbx, 80
    "ebd0"  #              jmp 1b
    "5053"  #           2: push rax; push rbx      a Failure
    "b801000000"  #        mov eax, 1              write(
    "498b3c24"  #          mov rdi, [r12]            the first word of the header,
    "4889e6"  #            mov rsi, rsp
    "ba10000000"  #        mov edx, 16
    "0f05"  #              syscall
    "b8e7000000"  #        mov eax, 231            exit_group(
    "488b7b40"  #          mov rdi, [rbx+64]         the status of the step)
    "0f05"  #              syscall
)
_SPAWN = bytes.fromhex(
    "4989d1"  #            mov r9, rdx             the arguments of execveat, then the descriptors to keep, then 0
    "b8b3010000"  #        mov eax, 435            clone3(rdi, rsi)
    "0f05"  #              syscall
    "4885c0"  #            test rax, rax
    "7546"  #              jnz 1f
    "498d5928"  #          lea rbx, [r9+40]
    "488b3b"  #         2: mov rdi, [rbx]          a descriptor
    "4885ff"  #            test rdi, rdi
    "7414"  #              jz 3f
    "b848000000"  #        mov eax, 72             fcntl(it,
    "be02000000"  #        mov esi, 2                 F_SETFD,
    "31d2"  #              xor edx, edx               0): in the child alone
    "0f05"  #              syscall
    "4883c308"  #          add rbx, 8
    "ebe4"  #              jmp 2b
    "498b39498b7108498b51104d8b51184d8b4120"  #  3: rdi, rsi, rdx, r10, r8
    "b842010000"  #        mov eax, 322            execveat(...)
    "0f05"  #              syscall
    "bf7f000000"  #        mov edi, 127
    "b8e7000000"  #        mov eax, 231            exit_group(127)
    "0f05"  #              syscall
    "c3"  #             1: ret
)
_CLONE_VM = 0x100
_CLONE_VFORK = 0x4000
_AT_EMPTY_PATH = 0x1000


def spawn(script: Script, keep: Iterable[int], group: int | None = None, *, sibling: bool = False) -> int:
    """Start a process that executes script; its pid.

    keep: the descriptors from 3 on that the script needs. It may find others, too, and is to close them.
    group, sibling, errors: as `podd.linux.cgroup.fork_into`.
    """
    program = _program(script)
    if program is None:
        return _spawn_interpreter(script, group, sibling=sibling)
    try:
        return _spawn_program(program, keep, group, sibling=sibling)
    finally:
        os.close(program)


def warm() -> None:
    """Have what every spawn needs, for forks of the caller to share."""
    with suppress(OSError):
        _spawn_code()


def _program(script: Script) -> int | None:
    if os.uname().machine != "x86_64":
        return None
    try:
        _spawn_code()
        return memory_program("podd-held", _RUN, script.steps, script.blocks)
    except OSError:
        return None


def _spawn_program(program: int, keep: Iterable[int], group: int | None, *, sibling: bool) -> int:
    clone = clone_arguments(group, _CLONE_VM | _CLONE_VFORK, sibling=sibling)
    nothing = ctypes.create_string_buffer(16)  # an empty path, no arguments, no environment
    empty = ctypes.addressof(nothing)
    words = (program, empty, empty, empty, _AT_EMPTY_PATH, *keep, 0)
    return checked(_spawn_code()(clone, len(clone), struct.pack(f"={len(words)}Q", *words)))


@cache
def _spawn_code() -> Callable[[bytes, int, bytes], int]:
    """Raises OSError: the host lets no process make code of its own (SELinux, execmem)."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page.write(_SPAWN)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    make_executable(address, mmap.PAGESIZE)
    prototype = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p)
    function = prototype(address)
    function.page = page  # type: ignore[attr-defined]  # which must live as long
    return function


# ---- without a program -----------------------------------------------------------------------------------------------


def _spawn_interpreter(script: Script, group: int | None, *, sibling: bool) -> int:
    pid = fork_into(group, sibling=sibling)
    if pid == 0:
        _execute(script)
    return pid


def _execute(script: Script) -> NoReturn:
    """What _RUN does."""
    status = 127
    try:
        map_at(STEPS, script.steps)
        map_at(BLOCKS, script.blocks)
        sync, _ = HEADER.unpack_from(script.steps)
        step = STEPS + HEADER.size
        while True:
            number, *arguments, least, status, place = STEP.unpack(ctypes.string_at(step, STEP.size))
            result = numbered(number, arguments)
            ctypes.c_long.from_address(place).value = result
            if result < least:
                os.write(sync, FAILURE.pack(step, result))
                break
            step += STEP.size
    finally:
        os._exit(status)
