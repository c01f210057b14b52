"""What a tree takes of the disk: each file once, nothing of what links lead to, and an end in any case."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podd.linux.disk import tree_bytes
from podd.linux.syscalls import MountFlag, UmountFlag, mount, umount2
from podd.shim.files import remove_tree

MIB = 1 << 20


def write(path: Path, size: int = MIB) -> None:
    path.write_bytes(os.urandom(size))


def test_files_count_once_and_holes_not_at_all(tmp_path: Path) -> None:
    write(tmp_path / "one")
    os.link(tmp_path / "one", tmp_path / "again")
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", 1 << 30)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    write(below / "two")
    assert 2 * MIB <= tree_bytes(str(tmp_path)) < 3 * MIB


def test_links_lead_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").symlink_to(tmp_path / "elsewhere")
    (tree / "directory").symlink_to(tmp_path)
    assert tree_bytes(str(tree)) < MIB // 2


def test_a_tree_may_be_deeper_than_a_path_is_long(tmp_path: Path) -> None:
    write(tmp_path / "file")
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(3000):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    assert tree_bytes(str(tmp_path)) >= MIB
    remove_tree(str(tmp_path / "d"))  # which pytest cannot


def test_what_is_too_much_is_counted_in_part(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / str(number), 65536)
    assert tree_bytes(str(tmp_path), most=5) == 5 * 65536


def test_nothing_there(tmp_path: Path) -> None:
    assert tree_bytes(str(tmp_path / "none")) == 0


@pytest.mark.root
def test_mounts_are_not_entered(tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    mount("none", str(tmp_path / "mounted"), "tmpfs", MountFlag.NONE)
    try:
        write(tmp_path / "mounted" / "file")
        assert tree_bytes(str(tmp_path)) < MIB // 2
    finally:
        umount2(str(tmp_path / "mounted"), UmountFlag.DETACH)
