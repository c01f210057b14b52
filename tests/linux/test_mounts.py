"""Detached mounts: what they hold, and that they vanish with their descriptor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from podd.linux import mounts
from podd.linux.inroot import Root
from podd.linux.syscalls import (
    PROC_MAGIC,
    CloneFlag,
    MountAttr,
    MountFlag,
    filesystem_magic,
    mount,
    move_mount,
    unshare,
)
from podd.shim.rootfs import apart

pytestmark = pytest.mark.root

KERNEL = tuple(int(part) for part in os.uname().release.split(".")[:2])


def mountinfo(place: Path) -> list[str]:
    """The mounts below it, or made of what is there; what others mount in the meantime is theirs."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(place) in line]


def names(mount: int) -> list[str]:
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)
        os.close(mount)


def test_overlay_of_directories_with_any_name(tmp_path: Path) -> None:
    fds = []
    for name in ("lower:1", "lower,2", "up\\per", "work =x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
        fds.append(os.open(tmp_path / name, os.O_PATH))
    (tmp_path / "work =x" / "work =x").unlink()
    before = mountinfo(tmp_path)
    mount = mounts.overlay(fds[:2], fds[2], fds[3])
    os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=mount))
    assert (tmp_path / "up\\per/new").exists()
    assert mountinfo(tmp_path) == before, "a detached mount is in no namespace"
    assert names(mount) == ["lower,2", "lower:1", "new", "up\\per"]
    for fd in fds:
        os.close(fd)


MakeOverlay = Callable[[Path, Sequence[str]], int]


def overlay(place: Path, lowers: Sequence[str]) -> int:
    fds = [os.open(place / name, os.O_PATH) for name in (*lowers, "upper", "work")]
    try:
        return mounts.overlay(fds[:-2], fds[-2], fds[-1])
    finally:
        for fd in fds:
            os.close(fd)


def overlay_elsewhere(place: Path, lowers: Sequence[str]) -> int:
    """As a supervisor does it that has to."""
    with apart():
        unshare(CloneFlag.MNT)
        mount("none", "/", None, MountFlag.REC | MountFlag.PRIVATE)
        fds = [os.open(place / name, os.O_PATH) for name in (*lowers, "upper", "work")]
        try:
            return mounts.overlay_elsewhere(fds[:-2], fds[-2], fds[-1], MountAttr.NODEV)
        finally:
            for fd in fds:
                os.close(fd)


@pytest.fixture(params=[overlay, overlay_elsewhere])
def make_overlay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeOverlay]:
    """Leaves the table of mounts, and the test's directory, as they were."""
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    before, here = mountinfo(tmp_path), Path.cwd()
    yield request.param
    os.chdir(here)
    assert mountinfo(tmp_path) == before


@pytest.mark.parametrize("count", [14, 127, 480])
def test_overlay_of_many_layers(tmp_path: Path, make_overlay: MakeOverlay, count: int) -> None:
    """More than an image may have: the most that an overlay takes is 500."""
    if make_overlay is overlay and KERNEL < (6, 8):
        pytest.skip(f"needs Linux 6.8 for lowerdir+, this is {os.uname().release}")
    lowers = [f"layer{n}" for n in range(count)]
    for name in lowers:
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
        (tmp_path / name / "which").write_text(name)
    merged = make_overlay(tmp_path, lowers)
    with Root(os.dup(merged)) as root:
        assert root.read("which", 10) == b"layer0", "the first is the topmost"
    assert len(names(merged)) == count + 1


def test_what_a_layer_says_of_other_layers_is_not_believed(tmp_path: Path, make_overlay: MakeOverlay) -> None:
    """One that claims a directory of the layer below to be its own under another name."""
    for name in ("top/shown", "below/hidden"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "below/hidden/secret").touch()
    os.setxattr(tmp_path / "top/shown", "trusted.overlay.redirect", b"/hidden")
    with Root(make_overlay(tmp_path, ["top", "below"])) as root, pytest.raises(OSError, match=r"shown|secret"):
        os.close(root.open("shown/secret"))


def test_tmpfs_has_size_mode_and_attributes() -> None:
    mount = mounts.tmpfs(0o1770, 8192, mounts.NO_EXEC | MountAttr.RDONLY)
    status = os.fstatvfs(mount)
    assert os.fstat(mount).st_mode & 0o7777 == 0o1770
    assert status.f_blocks * status.f_frsize == 8192
    flags = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
    assert status.f_flag & flags == flags
    os.close(mount)


def test_proc_is_a_proc() -> None:
    mount = mounts.filesystem("proc")
    assert filesystem_magic(mount) == PROC_MAGIC
    os.close(mount)


def test_bind_of_a_file_and_of_a_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    by_path = mounts.bind(str(tmp_path / "file"))
    fd = os.open(tmp_path / "file", os.O_PATH)
    by_fd = mounts.bind_fd(fd)
    assert os.fstat(by_path) == os.fstat(by_fd) == os.stat(tmp_path / "file")
    for each in (by_path, by_fd, fd):
        os.close(each)


def test_restrict_reaches_submounts(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with Root.at(str(tmp_path)) as root:
        sub = mounts.tmpfs(0o755, 4096)
        root.attach(sub, root.open("sub"))
        os.close(sub)
    try:
        tree = mounts.restrict(mounts.bind(str(tmp_path)), MountAttr.RDONLY, propagation=MountFlag.PRIVATE)
        with pytest.raises(OSError, match="Read-only"):
            os.open("sub/x", os.O_CREAT | os.O_WRONLY, dir_fd=tree)
        (tmp_path / "sub/y").touch()
        os.close(tree)
    finally:
        os.system(f"umount {tmp_path}/sub")


def test_attach_to_the_wrong_kind_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    mount = mounts.tmpfs(0o755, 4096)
    target = os.open(tmp_path / "file", os.O_PATH)
    with pytest.raises(OSError, match="move_mount") as caught:
        move_mount(mount, target)
    assert caught.value.__notes__[0].startswith("one of source and target is a directory and the other is not")
    os.close(mount)
    os.close(target)


def test_option_that_the_file_system_refuses_is_explained() -> None:
    with pytest.raises(OSError, match="fsconfig") as caught:
        mounts.filesystem("tmpfs", {"no_such_option": "1"})
    assert any("no_such_option" in note for note in caught.value.__notes__)


def test_failure_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    for options in ({"no_such_option": ""}, {"size": "nonsense"}):
        with pytest.raises(OSError, match="fsconfig"):
            mounts.filesystem("tmpfs", options)
    assert os.listdir("/proc/self/fd") == before
