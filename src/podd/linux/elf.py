"""Programs made in memory, for x86-64: some code, and data that it may write to. Source: elf(5)."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Sequence

DATA = (0x20_0000_0000, 0x21_0000_0000)
"""Where a program has its data, in two parts. No interpreter has anything there."""

_CODE = 0x400000
_PAGE = 0x1000
_FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_START = _FILE_HEADER.size + 3 * _SEGMENT.size
_READ_EXECUTE, _READ_WRITE = 5, 6
_MFD_EXEC = 0x10  # Linux 6.3; where it is not given, vm.memfd_noexec decides


def memory_program(name: str, code: bytes, *data: bytes | bytearray) -> int:
    """A descriptor, owned by the caller, to be given to execve. code: position-independent, less than a page.

    data: at most two parts, to be found at DATA.
    The file can be executed and not read, so a process without capabilities that executes it is not dumpable.
    Raises OSError: vm.memfd_noexec=2 forbids programs in memory.
    """
    file = _memory_file(name)
    try:
        headers = _headers(len(code), [len(part) for part in data])
        os.writev(file, [headers.ljust(_START, b"\0"), code, *_aligned(_START + len(code), data)])
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


def _aligned(end: int, data: Sequence[bytes | bytearray]) -> Iterator[bytes | bytearray]:
    """What follows after so many bytes of the file: each part on pages of its own."""
    for part in data:
        yield bytes(-end % _PAGE)
        yield part
        end = len(part)


def _headers(code: int, data: Sequence[int]) -> bytes:
    """Of a file that has itself and the code on its first page, and the data on the next ones."""
    identity = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
    executable, x86_64 = 2, 62
    sizes = (0, _FILE_HEADER.size, _SEGMENT.size, 1 + len(data), 0, 0, 0)
    headers = [
        _FILE_HEADER.pack(identity, executable, x86_64, 1, _CODE + _START, _FILE_HEADER.size, 0, *sizes),
        _segment(_READ_EXECUTE, _CODE, 0, _START + code),
    ]
    offset = _PAGE
    for address, size in zip(DATA, data, strict=False):
        headers.append(_segment(_READ_WRITE, address, offset, size))
        offset += -(-size // _PAGE) * _PAGE
    return b"".join(headers)


def _segment(rights: int, address: int, offset: int, size: int) -> bytes:
    return _SEGMENT.pack(1, rights, offset, address, address, size, size, _PAGE)
