"""Work inside a root that an attacker writes: nothing may happen outside, whatever the names lead to."""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podd.linux.inroot import MAX_SYMLINKS, Root
from staging import tree


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    place = tmp_path / "outside"
    (place / "directory").mkdir(parents=True)
    (place / "file").write_text("outside")
    return place


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    place = tmp_path / "inside"
    place.mkdir()
    return place


@pytest.fixture
def root(inside: Path) -> Iterator[Root]:
    with Root.at(str(inside)) as root:
        yield root


def path_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def held_below(place: Path) -> list[str]:
    """What descriptors of this process lead there."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself, and what another thread closes meanwhile
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [path for path in found if Path(path).is_relative_to(place)]


# link (from "link"), what is asked for, where that is below the root
WALKS: dict[str, tuple[str, str, str]] = {
    "no link": ("x", "/a/b/c", "/a/b/c"),
    "no slash": ("x", "a/b", "/a/b"),
    "dots": ("x", "/a/./b//c/../d", "/a/b/d"),
    "above the root": ("x", "/../../a", "/a"),
    "relative": ("real", "/link/a", "/real/a"),
    "absolute": ("/real", "/link/a", "/real/a"),
    "absolute to the host": ("{outside}", "/link/a", "{outside}/a"),
    "up to the host": ("../../../../../../../..{outside}", "/link/a", "{outside}/a"),
    "dangling, deep": ("/not/there/yet", "/link/a", "/not/there/yet/a"),
    "dangling at the end": ("/not/there", "/link", "/not/there"),
    "through itself": ("/real/../other", "/link/a", "/other/a"),
    "up behind a link": ("/real/deep", "/link/../a", "/real/a"),
}


@pytest.mark.parametrize("kind", ["directory", "file"])
@pytest.mark.parametrize(("link", "asked", "found"), WALKS.values(), ids=WALKS)
def test_missing_parts_are_made_inside(
    root: Root, inside: Path, outside: Path, kind: str, link: str, asked: str, found: str
) -> None:
    (inside / "real/deep").mkdir(parents=True)
    (inside / "link").symlink_to(link.format(outside=outside))
    before = tree(outside)
    expected = f"{inside}{found.format(outside=outside)}"
    for _ in range(2):
        assert path_of(getattr(root, kind)(asked)) == expected
    assert (Path(expected).is_dir, Path(expected).is_file)[kind == "file"]()
    assert tree(outside) == before


@pytest.mark.parametrize(("kind", "asked"), [("directory", "/a/b/c/."), ("file", "/a/b/c")])
def test_parents_that_are_made_let_everybody_through(root: Root, inside: Path, kind: str, asked: str) -> None:
    os.close(getattr(root, kind)(asked, mode=0o600))
    modes = [stat.S_IMODE((inside / path).stat().st_mode) for path in ("a", "a/b", "a/b/c")]
    assert modes == [0o755, 0o755, 0o600]


@pytest.mark.parametrize("asked", ["/link", "/link/a", "/real/link/b"])
def test_symlinks_can_be_forbidden(root: Root, inside: Path, asked: str) -> None:
    (inside / "real").mkdir()
    (inside / "link").symlink_to("real")
    (inside / "real/link").symlink_to("/nowhere")
    before = tree(inside)
    for make in (root.directory, root.file, root.open):
        with pytest.raises(OSError, match="symbolic links") as caught:
            make(asked, symlinks=False)
        assert caught.value.errno == errno.ELOOP
    assert tree(inside) == before


def test_loop_of_symlinks(root: Root, inside: Path) -> None:
    (inside / "a").symlink_to("b/x")
    (inside / "b").symlink_to("a/x")
    with pytest.raises(OSError, match="symbolic links"):
        root.directory("/a/y")


def test_chain_of_dangling_symlinks_is_bounded(root: Root, inside: Path) -> None:
    for n in range(MAX_SYMLINKS + 2):
        (inside / f"l{n}").symlink_to(f"l{n + 1}")
    with pytest.raises(OSError, match="symbolic links"):
        root.file("/l0")


def test_wrong_kind(root: Root, inside: Path) -> None:
    (inside / "file").touch()
    (inside / "directory").mkdir()
    with pytest.raises(NotADirectoryError):
        root.directory("/file")
    with pytest.raises(NotADirectoryError):
        root.directory("/file/below")
    with pytest.raises(IsADirectoryError):
        root.file("/directory")


def test_magic_links_are_not_followed() -> None:
    with Root.at("/") as root:
        for path in ("/proc/self/exe", "/proc/self/root/etc", "/proc/self/cwd", "/proc/self/fd/0"):
            with pytest.raises(OSError, match="symbolic links"):
                root.open(path)


def test_nothing_is_made_in_proc() -> None:
    with Root.at("/") as root:
        for number in range(3, 60):
            with pytest.raises(OSError):  # noqa: PT011 which one depends on what the number is just now
                root.directory(f"/proc/self/fd/{number}")


def test_read(root: Root, inside: Path, outside: Path) -> None:
    (inside / "small").write_bytes(b"12345")
    (inside / "link").symlink_to(outside / "file")
    os.mkfifo(inside / "fifo")
    assert root.read("small", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        root.read("small", 4)
    with pytest.raises(FileNotFoundError):
        root.read("link", 100)
    with pytest.raises(OSError, match="not a regular file"):
        root.read("fifo", 100)


NAMES = st.sampled_from(["a", "b", "c", "..", ".", ""])
PATHS = st.lists(NAMES, min_size=1, max_size=6).map("/".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(
    links=st.dictionaries(st.sampled_from(["a", "b", "c", "a/a", "a/b"]), PATHS), asked=PATHS, absolute=st.booleans()
)
def test_whatever_the_links_it_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, links: dict[str, str], asked: str, absolute: bool
) -> None:
    place = tmp_path_factory.mktemp("walk")
    (place / "inside").mkdir()
    for name, target in sorted(links.items()):
        link = place / "inside" / name
        if not link.parent.exists() and not link.parent.is_symlink():
            link.parent.mkdir()
        if link.parent.is_dir() and not link.parent.is_symlink() and not link.is_symlink() and not link.exists():
            link.symlink_to(f"/{target}" if absolute else target or ".")
    with Root.at(str(place / "inside")) as root:
        try:
            made = path_of(root.directory(asked))
        except OSError:
            made = f"{place}/inside"
    assert made == f"{place}/inside" or made.startswith(f"{place}/inside/")
    assert os.listdir(place) == ["inside"]
    assert held_below(place) == []


def test_race_against_a_swapped_directory(root: Root, inside: Path, outside: Path) -> None:
    """CVE-2024-45310: one process swaps a directory for a link to the host while the other makes what is below."""
    (inside / "real").mkdir()
    (inside / "evil").symlink_to(outside / "directory")
    (inside / "way").symlink_to("real")
    attacker = os.fork()
    if attacker == 0:
        turn = 0
        while True:
            os.symlink(("real", str(outside / "directory"), "../outside/directory")[turn % 3], inside / "next")
            os.rename(inside / "next", inside / "way")
            turn += 1
    # what an evil link says is made below the root, whatever it says
    ways = [inside / "real", inside / "outside" / "directory", Path(f"{inside}{outside}") / "directory"]
    deadline = time.monotonic() + 30
    numbers = count()
    try:
        while not all(way.exists() and len(os.listdir(way)) > 10 for way in ways):
            assert time.monotonic() < deadline, "the attacker was hardly there: this test shows little"
            for n in islice(numbers, 400):
                with suppress(OSError):  # losing the race is fine, losing the root is not
                    os.close(root.directory(f"/way/{n}/x"))
                    os.close(root.file(f"/way/{n}/y"))
    finally:
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)
    assert os.listdir(outside / "directory") == []
