"""Watching a directory: what is heard of, and what is not."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podd.linux.inotify import Watch


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    (tmp_path / "there.yaml").write_text("x")
    watch = Watch(str(tmp_path))
    yield watch
    watch.close()


def is_told(watch: Watch) -> bool:
    """The kernel queues an event before the call that makes it returns."""
    return bool(select.select([watch.fd], [], [], 0)[0])


HEARD: dict[str, Callable[[Path], object]] = {
    "a new file": lambda folder: (folder / "new.yaml").write_text("x"),
    "a changed file": lambda folder: (folder / "there.yaml").write_text("y"),
    "a removed file": lambda folder: (folder / "there.yaml").unlink(),
    "a file renamed to its place": lambda folder: os.rename(folder.parent / "outside", folder / "there.yaml"),
    "a file renamed away": lambda folder: os.rename(folder / "there.yaml", folder.parent / "away"),
    "a link": lambda folder: os.rename(folder.parent / "link", folder / "new.yaml"),
    "the directory's end": lambda folder: [(folder / "there.yaml").unlink(), folder.rmdir()],
}


@pytest.mark.parametrize("change", HEARD.values(), ids=list(HEARD))
def test_heard(tmp_path: Path, change: Callable[[Path], object]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "there.yaml").write_text("x")
    (tmp_path / "outside").write_text("y")
    (tmp_path / "link").symlink_to("outside")
    watch = Watch(str(folder))
    change(folder)
    assert is_told(watch)
    watch.drain()
    assert not is_told(watch)
    watch.close()


def test_a_file_is_heard_of_when_it_is_complete(tmp_path: Path, watch: Watch) -> None:
    with (tmp_path / "new.yaml").open("w") as file:
        file.write("half")
        file.flush()
        assert not is_told(watch)
    assert is_told(watch)


def test_reading_is_not_heard(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "there.yaml").read_text()
    assert not is_told(watch)


@pytest.mark.parametrize("name", ["missing", "there.yaml"])
def test_what_is_no_directory(tmp_path: Path, watch: Watch, name: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="inotify_add_watch"):
        Watch(str(tmp_path / name))
    assert len(os.listdir("/proc/self/fd")) == before
    assert watch.fd >= 0
