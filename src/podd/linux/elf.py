"""Programs made in memory, for x86-64: some code, and data that it may write to. Source: elf(5)."""

from __future__ import annotations

import errno
import os
import struct

DATA = 0x500000
"""Where a program has its data."""

_CODE = 0x400000
_PAGE = 0x1000
_FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_START = _FILE_HEADER.size + 2 * _SEGMENT.size
_READ_EXECUTE, _READ_WRITE = 5, 6
_MFD_EXEC = 0x10  # Linux 6.3; where it is not given, vm.memfd_noexec decides


def memory_program(name: str, code: bytes, data: bytes = b"") -> int:
    """A descriptor, owned by the caller, to be given to execve. code: position-independent, less than a page.

    The file can be executed and not read, so a process without capabilities that executes it is not dumpable.
    Raises OSError: vm.memfd_noexec=2 forbids programs in memory.
    """
    file = _memory_file(name)
    try:
        os.writev(file, [_headers(len(code), len(data)), code.ljust(_PAGE - _START, b"\0"), data])
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


def _headers(code: int, data: int) -> bytes:
    """The first page is the headers and the code, the second and all others the data."""
    identity = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
    executable, x86_64 = 2, 62
    sizes = (0, _FILE_HEADER.size, _SEGMENT.size, 2 if data else 1, 0, 0, 0)
    header = _FILE_HEADER.pack(identity, executable, x86_64, 1, _CODE + _START, _FILE_HEADER.size, 0, *sizes)
    return header + _segment(_READ_EXECUTE, _CODE, 0, _START + code) + _segment(_READ_WRITE, DATA, _PAGE, data)


def _segment(rights: int, address: int, offset: int, size: int) -> bytes:
    return _SEGMENT.pack(1, rights, offset, address, address, size, size, _PAGE)
