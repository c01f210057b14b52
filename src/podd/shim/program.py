"""Find a container's command and tell before the release whether the kernel will run it.

Called inside the container's root and as the container's user, so paths are plain paths and permissions the kernel's.
"""

from __future__ import annotations

import os
import stat
import struct

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
    words = header[2:].split(b"\n", 1)[0].split()
    if not words:
        raise NotRunnable(f'command "{path}": its "#!" line names no interpreter')
    return os.fsdecode(words[0])


def _elf_interpreter(fd: int, header: bytes) -> str | None:
    """PT_INTERP of an ELF file of this machine's byte order; None for a static one and for what is no ELF."""
    if header[:4] != b"\x7fELF" or len(header) < 64:
        return None
    if header[4] == 2:
        offset, size, count = (*struct.unpack_from("=Q", header, 32), *struct.unpack_from("=HH", header, 54))
    else:
        offset, size, count = (*struct.unpack_from("=I", header, 28), *struct.unpack_from("=HH", header, 42))
    table = os.pread(fd, min(size * count, 65536), offset)
    for at in range(0, len(table) - size + 1, size or 1):
        if struct.unpack_from("=I", table, at)[0] == _PT_INTERP:
            where, length = (
                struct.unpack_from("=Q16xQ", table, at + 8)
                if header[4] == 2
                else struct.unpack_from("=I8xI", table, at + 4)
            )
            return os.fsdecode(os.pread(fd, min(length, 4096), where).rstrip(b"\0"))
    return None
