"""Small files are whole or absent; a removal takes everything in its tree and nothing else."""

from __future__ import annotations

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podd.errors import Unavailable
from podd.shim import files


def test_write_new_refuses_what_is_there(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    files.write_new(path, "one", 0o644)
    with pytest.raises(FileExistsError):
        files.write_new(path, "two")
    assert Path(path).read_text() == "one"
    assert os.stat(path).st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["x"]


def test_threads_that_write_the_same_at_once_make_one(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    together = threading.Barrier(8)

    def write(text: str) -> bool:
        together.wait()
        try:
            files.write_new(path, text)
        except FileExistsError:
            return False
        return True

    for _ in range(50):
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(write, "abcdefgh"))
        assert made.count(True) == 1
        assert Path(path).read_text() == "abcdefgh"[made.index(True)]
        assert os.listdir(tmp_path) == ["x"]
        os.unlink(path)


def test_write_json_replaces(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    for value in ({"a": 1}, {"b": [2]}):
        files.write_json(path, value)
        assert files.read_json(path) == value
    assert os.listdir(tmp_path) == ["x"]


UNREADABLE = {"missing": None, "empty": b"", "cut": b'{"a":', "a list": b"[]", "binary": b"\xff\x00"}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_read_json_of_what_holds_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    assert files.read_json(str(tmp_path / "x")) is None


def fill(root: Path) -> None:
    (root / "a/b/c").mkdir(parents=True)
    (root / "a/b/c/file").write_text("x")
    (root / "a/.podd-removal-1").mkdir()
    (root / ".podd-removal-1").write_text("a name that the removal itself would use")
    (root / "a/b/dangling").symlink_to("/nowhere/at/all")
    os.mkfifo(root / "a/fifo")
    (root / "empty").mkdir()
    (root / "newline\nname").write_text("")
    for n in range(files.SLICE + 10):
        (root / f"a/b/many-{n}").mkdir()


def test_everything_goes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    fill(root)
    files.remove_tree(str(root))
    assert os.listdir(tmp_path) == []


def test_what_is_not_there_is_removed_quietly(tmp_path: Path) -> None:
    files.remove_tree(str(tmp_path / "x"))
    files.remove_tree(str(tmp_path / "x/y"))


@pytest.mark.parametrize("where", ["root", "root/in/side", "root/link"])
def test_symbolic_links_are_not_followed(tmp_path: Path, where: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    link = tmp_path / where
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    files.remove_tree(str(tmp_path / "root"))
    assert os.listdir(tmp_path) == ["outside"]
    assert (outside / "precious").read_text() == "x"


def test_tree_deeper_than_a_path_can_say(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 20, dir_fd=fd)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    files.remove_tree(str(root))
    assert os.listdir(tmp_path) == []


def test_last_is_the_last(tmp_path: Path) -> None:
    root = tmp_path / "root"
    fill(root)
    (root / "shim.json").write_text("{}")
    for _ in files.removal(str(root), last="shim.json"):
        assert (root / "shim.json").exists()
    assert not root.exists()


def test_removal_comes_in_slices(tmp_path: Path) -> None:
    root = tmp_path / "root"
    fill(root)
    assert sum(1 for _ in files.removal(str(root))) >= 2


@pytest.mark.root
def test_mount_point_below_stops_the_removal(tmp_path: Path) -> None:
    """What is mounted there is somebody's."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (root / "a/mnt").mkdir(parents=True)
    subprocess.run(["mount", "--bind", outside, root / "a/mnt"], check=True)
    try:
        with pytest.raises(Unavailable):
            files.remove_tree(str(root))
        assert (outside / "precious").read_text() == "x"
    finally:
        subprocess.run(["umount", root / "a/mnt"], check=True)
    files.remove_tree(str(root))
    assert not root.exists()
