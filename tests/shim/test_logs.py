"""CRI logs: from the files, put together again, comes exactly what went in; no file holds a part of a line."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from podd.shim import logs

STAMP = b"2026-01-02T03:04:05.000000006Z"
LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] [^\n]{0,%d}" % logs.MAX_PIECE)
K16 = logs.MAX_PIECE

CUTS: dict[str, tuple[list[bytes], list[tuple[bytes, bytes]]]] = {
    "nothing": ([], []),
    "a line": ([b"hello\n"], [(b"F", b"hello")]),
    "an empty line": ([b"\n"], [(b"F", b"")]),
    "two lines in three reads": ([b"he", b"llo\nwor", b"ld\n"], [(b"F", b"hello"), (b"F", b"world")]),
    "no newline at the end": ([b"a\nb"], [(b"F", b"a"), (b"P", b"b")]),
    "carriage returns and NULs stay": ([b"a\r\n\0b\n"], [(b"F", b"a\r"), (b"F", b"\0b")]),
    "exactly one piece": ([b"x" * K16 + b"\n"], [(b"F", b"x" * K16)]),
    "exactly one piece, newline later": ([b"x" * K16, b"\n"], [(b"F", b"x" * K16)]),
    "one more than a piece": ([b"x" * (K16 + 1) + b"\n"], [(b"P", b"x" * K16), (b"F", b"x")]),
    "one more, in two reads": ([b"x" * K16, b"x\n"], [(b"P", b"x" * K16), (b"F", b"x")]),
    "two pieces without an end": ([b"x" * (2 * K16)], [(b"P", b"x" * K16), (b"P", b"x" * K16)]),
}


def entries(text: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    for line in text.splitlines(keepends=False) if b"\r" not in text else text.split(b"\n")[:-1]:
        _, _, tag, rest = line.split(b" ", 3)
        found.append((tag, rest))
    return found


@pytest.mark.parametrize("case", CUTS.values(), ids=CUTS)
def test_cuts(case: tuple[list[bytes], list[tuple[bytes, bytes]]]) -> None:
    reads, expected = case
    lines = logs.Lines("stdout")
    out = b"".join([lines.feed(data, STAMP) for data in reads]) + lines.end(STAMP)
    assert entries(out) == expected


@settings(deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200)), st.integers(0, 3))
def test_entries_do_not_depend_on_reads(data: bytes, cuts: list[int], stretch: int) -> None:
    data = data.replace(b"a", b"long" * 5000 * stretch)
    at = sorted({min(cut * (1 + len(data) // 200), len(data)) for cut in cuts})
    whole, pieces = logs.Lines("stdout"), logs.Lines("stdout")
    expected = whole.feed(data, STAMP) + whole.end(STAMP)
    bounds = [0, *at, len(data)]
    got = b"".join(pieces.feed(data[a:b], STAMP) for a, b in itertools.pairwise(bounds) if b > a)
    assert got + pieces.end(STAMP) == expected


STAMPS = {
    0: b"1970-01-01T00:00:00.000000000Z",
    1: b"1970-01-01T00:00:00.000000001Z",
    1_767_323_045_000_000_006: b"2026-01-02T03:04:05.000000006Z",
    1_767_323_045_999_999_999: b"2026-01-02T03:04:05.999999999Z",
    1_767_323_046_000_000_000: b"2026-01-02T03:04:06.000000000Z",
}


def test_stamps() -> None:
    clock = logs.Clock()
    assert {ns: clock.stamp(ns) for ns in STAMPS} == STAMPS


def together(path: str) -> bytes:
    """The files' bytes, oldest first."""
    numbers = sorted((int(name.rpartition(".")[2]) for name in rotated(path)), reverse=True)
    return b"".join(read(f"{path}.{n}") for n in numbers) + read(path)


def rotated(path: str) -> list[str]:
    return [name for name in os.listdir(os.path.dirname(path)) if re.search(r"\.log\.\d+$", name)]


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@settings(deadline=None)
@given(
    writes=st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=8), min_size=1, max_size=12),
    max_bytes=st.integers(1, 200),
)
@example(writes=[[60, 60]], max_bytes=1)
def test_rotation_loses_and_divides_nothing(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[int]], max_bytes: int
) -> None:
    path = f"{tmp_path_factory.mktemp('logs')}/x.log"
    file = logs.RotatedFile(path, max_bytes, 1000)
    given_lines = [[b"%d" % n * (size - 1) for n, size in enumerate(sizes)] for sizes in writes]
    for lines in given_lines:
        file.write(b"".join(line + b"\n" for line in lines), STAMP)
    file.close(STAMP)
    assert together(path) == b"".join(line + b"\n" for lines in given_lines for line in lines)
    for name in [os.path.basename(path), *rotated(path)]:
        content = read(f"{os.path.dirname(path)}/{name}")
        assert content.endswith(b"\n")
        assert len(content) <= max_bytes or content.count(b"\n") == 1
    shutil.rmtree(os.path.dirname(path))


def test_output_comes_back_from_rotated_files(tmp_path: os.PathLike[str]) -> None:
    """Lines short and long, both streams, many files: each stream is whole."""
    path = f"{tmp_path}/deep/er/x.log"
    log = logs.Log(path, 50_000, 1000)
    wrote = {"stdout": b"", "stderr": b""}
    for n in range(300):
        stream = "stderr" if n % 3 == 0 else "stdout"
        data = (b"line %d\n" % n) * (n % 7) + b"y" * (n * 97 % 40_000)
        log.feed(stream, data)
        wrote[stream] += data
    log.close()
    got = {"stdout": b"", "stderr": b""}
    for line in together(path).split(b"\n")[:-1]:
        assert LINE.fullmatch(line)
        _, stream_name, tag, text = line.split(b" ", 3)
        got[stream_name.decode()] += text + (b"\n" if tag == b"F" else b"")
    assert got == wrote
    assert len(rotated(path)) > 10


@pytest.mark.parametrize(("max_files", "left"), [(1, 1), (2, 2), (3, 3), (0, 1)])
def test_only_the_newest_files_stay(tmp_path: os.PathLike[str], max_files: int, left: int) -> None:
    path = f"{tmp_path}/x.log"
    file = logs.RotatedFile(path, 10, max_files)
    for n in range(20):
        file.write(b"%08d\n" % n, STAMP)
    file.close(STAMP)
    assert len(os.listdir(tmp_path)) == left
    assert together(path) == b"".join(b"%08d\n" % n for n in range(20 - left, 20))


def test_a_log_goes_on_where_an_earlier_one_ended(tmp_path: os.PathLike[str]) -> None:
    for n in range(3):
        log = logs.Log(f"{tmp_path}/x.log", 1000, 2)
        log.feed("stdout", b"%d\n" % n)
        log.close()
    assert [text for _, text in entries(read(f"{tmp_path}/x.log"))] == [b"0", b"1", b"2"]


def test_no_path_keeps_nothing() -> None:
    log = logs.Log("", 10, 1)
    log.feed("stdout", b"x\n")
    log.close()


def test_directory_that_vanished_is_made_again(tmp_path: os.PathLike[str]) -> None:
    path = f"{tmp_path}/pod/x.log"
    file = logs.RotatedFile(path, 1000, 2)
    file.write(b"1\n", STAMP)
    shutil.rmtree(f"{tmp_path}/pod")
    file.write(b"2\n", STAMP)
    assert read(path) == b"2\n"
    os.unlink(path)
    file.write(b"3\n", STAMP)
    assert read(path) == b"3\n"
    file.close(STAMP)


def test_symbolic_link_is_not_followed(tmp_path: os.PathLike[str]) -> None:
    os.symlink(f"{tmp_path}/target", f"{tmp_path}/x.log")
    file = logs.RotatedFile(f"{tmp_path}/x.log", 1000, 2)
    file.write(b"1\n", STAMP)
    file.close(STAMP)
    assert not os.path.exists(f"{tmp_path}/target")


def full_after(room: int) -> Callable[[int, memoryview], int]:
    """os.write on a disk with that many bytes left."""
    real = os.write

    def write(fd: int, data: memoryview) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        size = real(fd, data[:room])
        room -= size
        return size

    return write


@pytest.mark.parametrize("room", [0, 1, 3, 4, 6])
def test_full_disk_tears_no_line_and_is_told_of(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    path = f"{tmp_path}/x.log"
    file = logs.RotatedFile(path, 1000, 2)
    file.write(b"old\n", STAMP)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_after(room))
        file.write(b"aaa\nbbb\n", STAMP)
        file.write(b"ccc\n", STAMP)
    torn = read(path)
    assert torn.endswith(b"\n")
    file.write(b"new\n", STAMP)
    file.close(STAMP)
    lost = 3 - torn.count(b"\n") + 1
    said = b"%b stderr F podd: %d entries (%d bytes) of this log were lost: no space left on device\n" % (
        STAMP,
        lost,
        lost * 4,
    )
    assert read(path) == torn + said + b"new\n"


def test_loss_at_the_very_end_is_told_of_at_close(tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/x.log"
    file = logs.RotatedFile(path, 1000, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_after(0))
        file.write(b"a\n", STAMP)
    file.close(STAMP)
    assert b"1 entries (2 bytes)" in read(path)
