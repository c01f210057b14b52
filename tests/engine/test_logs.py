"""Reading logs as the shim writes them: nothing lost, nothing twice."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podd.engine import logfiles, logs
from podd.engine.clock import parse_rfc3339, rfc3339_nano
from podd.engine.logfiles import Entry, Reader, parse
from podd.engine.logs import Standing, read_log
from podd.engine.view import LogLine
from podd.errors import Unavailable
from podd.shim.logs import Log, RotatedFile

pytestmark = pytest.mark.anyio

T0 = parse_rfc3339("2026-08-01T12:00:00Z")


def stamp(n: int) -> str:
    return rfc3339_nano(T0 + n * 1_000_000_000)


def entry(n: int, text: str, *, stream: str = "stdout", tag: str = "F") -> str:
    return f"{stamp(n)} {stream} {tag} {text}\n"


def write(path: Path, *entries: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.writelines(e.encode() if isinstance(e, str) else e for e in entries)


async def read(directory: Path, attempt: int = 0, **how: object) -> list[LogLine]:
    return [line async for batch in read_log(str(directory), "web", attempt, **how) for line in batch]  # type: ignore[arg-type]


async def texts(directory: Path, attempt: int = 0, **how: object) -> list[str]:
    return [line.text for line in await read(directory, attempt, **how)]


class Script:
    """Plays a container to a follower: each call for its standing performs the next step first."""

    def __init__(self, *steps: Callable[[], None], attempt: int = 0) -> None:
        self.steps = list(steps)
        self.attempt = attempt

    def __call__(self) -> Standing:
        if self.steps:
            self.steps.pop(0)()
            return Standing(attempt=self.attempt, over=False)
        return Standing(attempt=self.attempt, over=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"{stamp(0)} stdout F hello world", Entry(stamp(0), "stdout", True, b"hello world")),
        (f"{stamp(0)} stderr P  two spaces", Entry(stamp(0), "stderr", False, b" two spaces")),
        (f"{stamp(0)} stdout F ", Entry(stamp(0), "stdout", True, b"")),
        (f"{stamp(0)} stdout F", Entry(stamp(0), "stdout", True, b"")),
        (f"{stamp(0)} stdout P:more x", Entry(stamp(0), "stdout", False, b"x")),
        ("2026-08-01T14:00:00.5+02:00 stdout F x", Entry("2026-08-01T12:00:00.500000000Z", "stdout", True, b"x")),
        ("", None),
        ("hello", None),
        ("\0\0\0\0\0\0", None),
        (f"{stamp(0)} stdin F x", None),
        (f"{stamp(0)} stdout X x", None),
        ("2026-08-01 stdout F x", None),
        ("2026-99-01T14:00:00Z stdout F x", None),
        ("été stdout F x", None),
    ],
)
def test_entries(line: str, expected: Entry | None) -> None:
    assert parse(line.encode()) == expected


async def test_a_container_that_wrote_nothing_has_no_lines(tmp_path: Path) -> None:
    assert await read(tmp_path / "absent") == []


async def test_lines_have_their_time_stream_and_container(tmp_path: Path) -> None:
    write(tmp_path / "0.log", entry(1, "out"), entry(2, "err", stream="stderr"))
    assert await read(tmp_path) == [
        LogLine(time=stamp(1), stream="stdout", text="out", partial=False, container="web"),
        LogLine(time=stamp(2), stream="stderr", text="err", partial=False, container="web"),
    ]


async def test_rotated_files_are_read_in_order_and_strangers_are_not(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / ("0.log" if number == 0 else f"0.log.{number}"), entry(100 - number, str(number)))
    for stranger in ("0.log.gz", "0.log.01", "0.log.1.gz", "0.logs", "10.log", "0.log.-1"):
        write(tmp_path / stranger, entry(0, "stranger"))
    assert await texts(tmp_path) == [str(number) for number in range(11, -1, -1)]


async def test_garbage_and_torn_ends_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "0.log.1", entry(1, "a"), b"\xff\xfe garbage\n", b"\n", entry(2, "b"), f"{stamp(3)} stdout F torn")
    write(tmp_path / "0.log", b"\0" * 3_000_000, b"\n", entry(4, "c"), f"{stamp(5)} stdo")
    assert await texts(tmp_path) == ["a", "b", "c"]
    assert await texts(tmp_path, tail=2) == ["b", "c"]


async def test_pieces_are_joined_also_within_a_character(tmp_path: Path) -> None:
    euro = "€".encode()
    write(
        tmp_path / "0.log",
        entry(1, "one ", tag="P"),
        entry(2, "other", stream="stderr"),
        f"{stamp(3)} stdout P two ".encode() + euro[:1] + b"\n",
        f"{stamp(4)} stdout F ".encode() + euro[1:] + b" three\n",
        f"{stamp(5)} stdout F bad ".encode() + euro[:2] + b"\n",
    )
    assert [(line.text, line.time, line.partial) for line in await read(tmp_path)] == [
        ("other", stamp(2), False),
        ("one two € three", stamp(1), False),
        ("bad \ufffd", stamp(5), False),
    ]


async def test_last_words_without_a_newline_are_told_as_partial(tmp_path: Path) -> None:
    write(tmp_path / "0.log", entry(1, "a"), entry(2, "Password: ", tag="P"))
    assert [(line.text, line.partial) for line in await read(tmp_path)] == [("a", False), ("Password: ", True)]


async def test_a_huge_line_is_told_in_parts_of_bounded_size(tmp_path: Path) -> None:
    text = "0123456789abcdé" * 100_000
    log = Log(str(tmp_path / "0.log"), 10**9, 5)
    log.feed("stdout", text.encode() + b"\nnext\n")
    log.close()
    lines = await read(tmp_path)
    assert "".join(line.text for line in lines[:-1]) == text
    assert [line.partial for line in lines] == [True] * (len(lines) - 2) + [False, False]
    assert max(len(line.text.encode()) for line in lines) <= logs.MAX_LINE_BYTES + 16 * 1024
    assert lines[-1].text == "next"


class TestTail:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        write(tmp_path / "0.log.2", entry(1, "1"), entry(2, "2"))
        write(tmp_path / "0.log.1", entry(3, "3"), entry(4, "4a", tag="P"))
        write(tmp_path / "0.log", entry(5, "4b"), b"garbage\n", entry(6, "5", stream="stderr"))
        return tmp_path

    @pytest.mark.parametrize("tail", range(8))
    async def test_lines_are_counted_not_entries(self, directory: Path, tail: int) -> None:
        assert await texts(directory, tail=tail) == ["1", "2", "3", "4a4b", "5"][max(0, 5 - tail) :]

    async def test_last_words_without_a_newline_count_as_a_line(self, directory: Path) -> None:
        write(directory / "0.log", entry(7, "6a", tag="P"), entry(8, "6b", tag="P"))
        assert await texts(directory, tail=1) == ["6a6b"]
        assert await texts(directory, tail=2) == ["5", "6a6b"]

    @pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
    async def test_whatever_the_size_of_the_blocks(
        self, directory: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logfiles, "CHUNK_BYTES", chunk)
        for tail in range(7):
            assert await texts(directory, tail=tail) == ["1", "2", "3", "4a4b", "5"][max(0, 5 - tail) :]

    async def test_only_the_end_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "0.log", *(entry(n, f"{n} {'x' * 1000}") for n in range(5000)))
        sizes: list[int] = []
        pread = os.pread

        def counted(fd: int, size: int, offset: int) -> bytes:
            sizes.append(size)
            return pread(fd, size, offset)

        monkeypatch.setattr(os, "pread", counted)
        assert [text.split()[0] for text in await texts(tmp_path, tail=3)] == ["4997", "4998", "4999"]
        assert len(sizes) <= 3


class TestSince:
    async def test_nothing_from_before(self, tmp_path: Path) -> None:
        write(tmp_path / "0.log.1", *(entry(n, str(n)) for n in range(5)))
        write(tmp_path / "0.log", *(entry(n, str(n)) for n in range(5, 10)))
        assert await texts(tmp_path, since_ns=T0 + 3_000_000_000) == [str(n) for n in range(3, 10)]
        assert await texts(tmp_path, since_ns=T0 + 7_000_000_001) == ["8", "9"]
        assert await texts(tmp_path, since_ns=T0 + 7_000_000_001, tail=1) == ["9"]
        assert await texts(tmp_path, since_ns=0) == [str(n) for n in range(10)]
        assert await texts(tmp_path, since_ns=-1) == [str(n) for n in range(10)]

    async def test_files_last_written_before_are_passed_over(self, tmp_path: Path) -> None:
        """A file whose last write is older than the time has nothing to tell, and is let go."""
        write(tmp_path / "0.log.1", *(entry(n, str(n)) for n in range(5)))
        write(tmp_path / "0.log", entry(6, "6"))
        os.utime(tmp_path / "0.log.1", ns=(T0, T0 + 5_000_000_000))
        reader = Reader(str(tmp_path / "0.log"))
        reader.start(None, T0 + 6_000_000_000)
        try:
            assert reader.read().decode() == entry(6, "6")
        finally:
            reader.close()

    async def test_a_line_that_began_before_is_left_out_whole(self, tmp_path: Path) -> None:
        write(tmp_path / "0.log", entry(1, "a", tag="P"), entry(5, "b"), entry(6, "c"))
        assert await texts(tmp_path, since_ns=T0 + 3_000_000_000) == ["c"]


class TestFollow:
    async def test_what_comes_until_it_is_over(self, tmp_path: Path) -> None:
        log = tmp_path / "0.log"
        write(log, entry(1, "a"))
        script = Script(
            lambda: write(log, entry(2, "b")),
            lambda: None,
            lambda: write(log, f"{stamp(3)} std"),
            lambda: write(log, "out F c\n", entry(4, "d")),
        )
        assert await texts(tmp_path, follow=script) == ["a", "b", "c", "d"]

    async def test_a_log_that_is_not_there_yet(self, tmp_path: Path) -> None:
        script = Script(lambda: None, lambda: write(tmp_path / "web" / "0.log", entry(1, "a")))
        assert await texts(tmp_path / "web", follow=script) == ["a"]

    async def test_tail_0_tells_only_what_comes(self, tmp_path: Path) -> None:
        write(tmp_path / "0.log", entry(1, "a"), entry(2, "b"))
        assert await texts(tmp_path, tail=0, follow=Script(lambda: write(tmp_path / "0.log", entry(3, "c")))) == ["c"]

    async def test_over_several_rotations_between_two_looks(self, tmp_path: Path) -> None:
        file = RotatedFile(str(tmp_path / "0.log"), 60, 10)
        count = 0

        def put(lines: int) -> Callable[[], None]:
            def step() -> None:
                nonlocal count
                for _ in range(lines):
                    file.write(entry(count, f"line {count}").encode(), b"")
                    count += 1

            return step

        put(2)()
        script = Script(*(put(lines) for lines in (1, 5, 0, 7, 1, 1)))
        try:
            assert await texts(tmp_path, follow=script) == [f"line {n}" for n in range(count)]
        finally:
            file.close(b"")
        assert count == 17

    async def test_what_is_removed_while_it_is_read_is_read_all_the_same(self, tmp_path: Path) -> None:
        for number in range(3):
            write(tmp_path / f"0.log.{3 - number}", *(entry(number, f"{number} {'x' * 1000}") for _ in range(200)))
        write(tmp_path / "0.log", entry(9, "end"))
        seen: list[str] = []
        async for batch in read_log(str(tmp_path), "web", 0):
            seen += [line.text for line in batch]
            for name in os.listdir(tmp_path):
                os.unlink(tmp_path / name)
        assert len(seen) == 601
        assert seen[-1] == "end"

    async def test_a_current_log_that_somebody_removed_brings_nothing_twice(self, tmp_path: Path) -> None:
        log = tmp_path / "0.log"
        write(tmp_path / "0.log.1", entry(1, "a"))
        os.utime(tmp_path / "0.log.1", ns=(T0, T0))
        write(log, entry(2, "b"))
        script = Script(lambda: None, log.unlink, lambda: write(log, entry(3, "c")), lambda: write(log, entry(4, "d")))
        assert await texts(tmp_path, follow=script) == ["a", "b", "c", "d"]

    async def test_a_log_that_somebody_emptied_goes_on(self, tmp_path: Path) -> None:
        log = tmp_path / "0.log"
        write(log, entry(1, "a"), entry(2, "b"))
        script = Script(lambda: os.truncate(log, 0), lambda: write(log, entry(3, "c")))
        assert await texts(tmp_path, follow=script) == ["a", "b", "c"]

    async def test_over_restarts_of_the_container(self, tmp_path: Path) -> None:
        write(tmp_path / "0.log", entry(0, "not asked for"))
        write(tmp_path / "1.log", entry(1, "first"), entry(2, "Pass", tag="P"))

        def restart() -> None:
            script.attempt = 2
            write(tmp_path / "1.log", entry(3, "word"))
            write(tmp_path / "2.log", entry(4, "second"))

        def restart_and_say_nothing() -> None:
            script.attempt = 3

        def restart_again() -> None:
            script.attempt = 4
            write(tmp_path / "4.log", entry(5, "fourth"))

        script = Script(lambda: None, restart, lambda: None, restart_and_say_nothing, restart_again, attempt=1)
        assert await texts(tmp_path, 1, tail=1, follow=script) == ["Password", "second", "fourth"]

    async def test_last_words_after_the_end_is_known(self, tmp_path: Path) -> None:
        """The end of a process may be known a moment before its last words are in the file."""
        write(tmp_path / "0.log", entry(1, "a"))
        looks = 0

        def over() -> Standing:
            nonlocal looks
            looks += 1
            if looks == 2:
                write(tmp_path / "0.log", entry(2, "b"))
            return Standing(attempt=0, over=True)

        assert await texts(tmp_path, follow=over) == ["a", "b"]

    async def test_a_reader_who_leaves_leaves_no_descriptor(self, tmp_path: Path) -> None:
        write(tmp_path / "0.log.1", entry(1, "a"))
        write(tmp_path / "0.log", entry(2, "b"))
        before = sorted(os.listdir("/proc/self/fd"))
        reading = read_log(str(tmp_path), "web", 0, follow=lambda: Standing(attempt=0, over=False))
        assert [line.text for line in await anext(reading)] == ["a"]
        await reading.aclose()
        reading = read_log(str(tmp_path), "web", 0, follow=lambda: Standing(attempt=0, over=False))
        with anyio.move_on_after(0.3) as scope:
            async for _ in reading:
                pass
        assert scope.cancelled_caught
        await reading.aclose()
        opened = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd not in before} - {""}
        assert not any(path.startswith(str(tmp_path)) for path in opened)


async def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "0.log").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text(entry(1, "secret"))
    with pytest.raises(Unavailable, match=r"0\.log: too many levels of symbolic links"):
        await read(tmp_path)


PIECES = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr"]), st.text("ab\né€", max_size=30)), min_size=1, max_size=30
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PIECES, st.integers(50, 400), st.lists(st.booleans(), min_size=30, max_size=30), st.integers(1, 200))
def test_whatever_is_written_is_read_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[str, str]], size: int, looks: list[bool], chunk: int
) -> None:
    """The shim's writer with small files against the reader, which looks now and then."""
    path = str(tmp_path_factory.mktemp("log") / "0.log")
    writer, reader = Log(path, size, 1000), Reader(path)
    joiner = logs._Joiner("web", None)
    got: list[LogLine] = []

    def look() -> None:
        while entries := reader.read():
            got.extend(joiner.feed(entries))

    before, logfiles.CHUNK_BYTES = logfiles.CHUNK_BYTES, chunk
    try:
        reader.start(None, None)
        for (stream, text), now in zip(pieces, looks, strict=False):
            writer.feed(stream, text.encode())
            if now:
                look()
        writer.close()
        look()
        got += joiner.end()
    finally:
        logfiles.CHUNK_BYTES = before
        reader.close()
    for stream in ("stdout", "stderr"):
        written = "".join(text for to, text in pieces if to == stream)
        told = "".join(line.text + ("" if line.partial else "\n") for line in got if line.stream == stream)
        assert told == written


LINES, LINES_PER_WRITE = 20_000, 20


@pytest.fixture
def busy_writer(tmp_path: Path) -> Iterator[threading.Thread]:
    """Writes LINES lines into small files as fast as it can, all of which are kept."""

    def work() -> None:
        log = Log(str(tmp_path / "0.log"), 10_000, 200)
        for first in range(0, LINES, LINES_PER_WRITE):
            log.feed("stdout", b"".join(b"line %d\n" % n for n in range(first, first + LINES_PER_WRITE)))
        log.close()

    thread = threading.Thread(target=work)
    yield thread
    thread.join()


@pytest.mark.slow
async def test_following_a_busy_writer(tmp_path: Path, busy_writer: threading.Thread) -> None:
    busy_writer.start()
    got = await texts(tmp_path, follow=lambda: Standing(attempt=0, over=not busy_writer.is_alive()))
    assert got == [f"line {n}" for n in range(LINES)]
