"""Find a container's command and tell before the release whether the kernel will run it.

Called inside the container's root and as the container's user, so paths are plain paths and permissions the kernel's.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import NamedTuple

from podd.errors import Invalid
from podd.shim.failure import reason

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_INTERPRETERS = 5
"""The kernel's own limit on scripts whose interpreter is a script. Source: exec_binprm in fs/exec.c."""

_PT_INTERP = 3


class NotRunnable(Invalid):
    """There is such a command, and it cannot be executed. Exit status 126 where a missing command has 127."""


def find(name: str, search: str) -> str:
    """The path of a command: itself where it has a "/", else the first executable file of that name in search."""
    if not name:
        raise Invalid("command: it is empty", remedy="set command, or args[0]")
    if "/" in name:
        _must_be_executable(name)
        return name
    denied = False
    for directory in search.split(":"):
        candidate = f"{directory or '.'}/{name}"
        try:
            if stat.S_ISREG(os.stat(candidate).st_mode):
                if os.access(candidate, os.X_OK, effective_ids=True):
                    return candidate
                denied = True
        except OSError:
            continue
    if denied:
        raise NotRunnable(f'command "{name}": found in PATH ({search}), but not executable for this user')
    raise Invalid(f'command "{name}": not found in PATH ({search})', remedy="check command and the image", command=name)


def check(path: str, *, foreign: bool) -> None:
    """Refuse what execve would refuse: a missing interpreter, a file that is no program.

    foreign: the host runs other formats too (binfmt_misc), so an unknown one is left to it.
    """
    start = path
    for _ in range(MAX_INTERPRETERS + 1):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError:  # executable and not readable: the kernel alone may look
            return
        try:
            header = os.read(fd, 256)
            interpreter = _shebang(header, path) if header[:2] == b"#!" else _elf_interpreter(fd, header)
        finally:
            os.close(fd)
        if interpreter is None:
            if header[:4] == b"\x7fELF" or foreign:
                return
            raise NotRunnable(
                f'command "{start}": {path} is neither an ELF program nor a script with a "#!" line',
                remedy="check that the image is of this machine's architecture",
            )
        _must_be_executable(interpreter, f'command "{start}": interpreter "{interpreter}"')
        if header[:2] != b"#!":
            return
        path = interpreter
    raise NotRunnable(f'command "{start}": too many interpreters in a row')


def _must_be_executable(path: str, subject: str = "") -> None:
    subject = subject or f'command "{path}"'
    try:
        mode = os.stat(path).st_mode
    except PermissionError as exc:
        raise NotRunnable(f"{subject}: {reason(exc)}") from exc
    except OSError as exc:
        raise Invalid(f"{subject}: {reason(exc)}", remedy="check command and the image") from exc
    if not stat.S_ISREG(mode):
        raise NotRunnable(f"{subject}: not a file")
    if not os.access(path, os.X_OK, effective_ids=True):
        raise NotRunnable(f"{subject}: not executable for this user")


def _shebang(header: bytes, path: str) -> str:
    words = header[2:].split(b"\n", 1)[0].split(b"\0", 1)[0].split()
    if not words:
        raise NotRunnable(f'command "{path}": its "#!" line names no interpreter')
    return os.fsdecode(words[0])


def _elf_interpreter(fd: int, header: bytes) -> str | None:
    """PT_INTERP of an ELF file; None for a static one, for what is no ELF, and for what only the kernel can judge."""
    if header[:4] != b"\x7fELF":
        return None
    try:
        return _find_interpreter(fd, header, _ELF64 if header[4] == 2 else _ELF32)
    except (struct.error, IndexError, OverflowError, OSError):  # damaged
        return None


class _Layout(NamedTuple):
    """Where an ELF file of one size of word has what. Source: elf(5)."""

    table: tuple[str, int]  # e_phoff: format, place in the file's header
    entries: int  # e_phentsize and e_phnum: place in the file's header
    segment: tuple[str, int]  # p_offset and p_filesz: format, place in the segment's header


_ELF32 = _Layout(table=("=I", 28), entries=42, segment=("=I8xI", 4))
_ELF64 = _Layout(table=("=Q", 32), entries=54, segment=("=Q16xQ", 8))


def _find_interpreter(fd: int, header: bytes, layout: _Layout) -> str | None:
    (offset,) = struct.unpack_from(layout.table[0], header, layout.table[1])
    size, count = struct.unpack_from("=HH", header, layout.entries)
    table = os.pread(fd, min(size * count, 65536), offset)
    for n in range(count):
        if struct.unpack_from("=I", table, n * size)[0] == _PT_INTERP:
            where, length = struct.unpack_from(layout.segment[0], table, n * size + layout.segment[1])
            return os.fsdecode(os.pread(fd, min(length, 4096), where).split(b"\0", 1)[0])
    return None
