"""Volumes are made as the kubelet makes them, and removed whatever a container has left in them."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from podd.core.plan import EmptyDir, HostPath
from podd.errors import Invalid, PoddError, Unavailable
from podd.linux.syscalls import MountFlag, mount
from podd.volumes import prepare, remove, sweep

UID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "state"
    path.mkdir()
    yield path
    assert not [p for p in mount_points() if p.startswith(str(tmp_path))], "a mount is left"


def mount_points() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def empty_dir(
    state: Path, name: str = "data", medium: str = "", size: int | None = None, group: int | None = None, uid: str = UID
) -> EmptyDir:
    return EmptyDir(
        name=name,
        path=f"{state}/volumes/{uid}/{name}",
        medium=medium,
        size_limit_bytes=size,
        fs_group=group,
    )


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_directory_for_everyone_below_one_for_podd_alone(state: Path) -> None:
    volume = empty_dir(state)
    old = os.umask(0o077)
    try:
        prepare([volume])
    finally:
        os.umask(old)
    assert mode(volume.path) == 0o777
    assert mode(os.path.dirname(volume.path)) == 0o700


def test_what_could_not_be_prepared_leaves_nothing_of_the_pod(state: Path) -> None:
    missing = HostPath(name="h", path=f"{state}/missing", type="Directory")
    with pytest.raises(Unavailable):
        prepare([empty_dir(state), missing])
    assert os.listdir(state / "volumes") == []


def test_prepared_again_it_keeps_its_contents(state: Path) -> None:
    volume = empty_dir(state)
    prepare([volume])
    Path(volume.path, "kept").write_text("1")
    prepare([volume])
    assert Path(volume.path, "kept").read_text() == "1"


@pytest.mark.root
@pytest.mark.parametrize("medium", ["", "Memory"])
def test_fs_group_owns_it_and_what_is_made_in_it(state: Path, medium: str) -> None:
    volume = empty_dir(state, medium=medium, size=1 << 20, group=4711)
    prepare([volume])
    assert (mode(volume.path), os.stat(volume.path).st_gid) == (0o2777, 4711)
    Path(volume.path, "new").mkdir()
    assert os.stat(Path(volume.path, "new")).st_gid == 4711
    remove(str(state), UID)


@pytest.mark.root
def test_memory_is_one_tmpfs_of_the_size(state: Path) -> None:
    volume = empty_dir(state, medium="Memory", size=1 << 20)
    prepare([volume])
    Path(volume.path, "kept").write_text("1")
    prepare([volume])
    assert mount_points().count(volume.path) == 1
    assert Path(volume.path, "kept").read_text() == "1"
    assert mode(volume.path) == 0o777
    size = os.statvfs(volume.path)
    assert size.f_blocks * size.f_frsize == 1 << 20
    line = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {volume.path} " in line)
    assert {"nosuid", "nodev"} <= set(line.split()[5].split(","))
    remove(str(state), UID)
    assert not (state / "volumes" / UID).exists()


@pytest.mark.root
def test_what_was_made_is_unmade_when_a_later_one_fails(state: Path) -> None:
    kept = empty_dir(state, "kept")
    prepare([kept])
    made = [empty_dir(state, "a"), empty_dir(state, "b", medium="Memory")]
    with pytest.raises(Unavailable, match=r"^volume c: hostPath /nowhere does not exist"):
        prepare([kept, *made, HostPath(name="c", path="/nowhere", type="Directory")])
    assert os.listdir(state / "volumes" / UID) == ["kept"]


# ---- hostPath --------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """One of each kind, and links to them."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("kept")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
    (tmp_path / "char").symlink_to("/dev/null")
    (tmp_path / "linked-dir").symlink_to("dir")
    (tmp_path / "linked-file").symlink_to("file")
    (tmp_path / "dangling").symlink_to("made-through-a-link")
    return tmp_path


MISMATCHED = "Conflict"
ABSENT = "Unavailable"
CHECKS = [
    # type, what there is, outcome
    *[("", name, None) for name in ("dir", "file", "fifo", "nothing", "dangling")],
    *[("Directory", name, None) for name in ("dir", "linked-dir")],
    *[("Directory", name, MISMATCHED) for name in ("file", "fifo", "linked-file")],
    ("Directory", "nothing", ABSENT),
    ("Directory", "dangling", ABSENT),
    *[("File", name, None) for name in ("file", "linked-file")],
    *[("File", name, MISMATCHED) for name in ("dir", "fifo", "socket", "char")],
    ("File", "nothing", ABSENT),
    ("Socket", "socket", None),
    ("Socket", "file", MISMATCHED),
    ("CharDevice", "char", None),
    ("CharDevice", "file", MISMATCHED),
    ("BlockDevice", "char", MISMATCHED),
    ("DirectoryOrCreate", "dir", None),
    ("DirectoryOrCreate", "linked-dir", None),
    ("DirectoryOrCreate", "nothing", None),
    ("DirectoryOrCreate", "linked-dir/a/b", None),
    ("DirectoryOrCreate", "file", MISMATCHED),
    ("DirectoryOrCreate", "dangling", ABSENT),
    ("FileOrCreate", "file", None),
    ("FileOrCreate", "nothing", None),
    ("FileOrCreate", "dir", MISMATCHED),
    ("FileOrCreate", "dangling", ABSENT),
    ("FileOrCreate", "nothing/in/there", ABSENT),
]


@pytest.mark.parametrize(("kind", "name", "outcome"), CHECKS, ids=[f"{k or 'any'}-{n}" for k, n, _ in CHECKS])
def test_host_path(host: Path, kind: str, name: str, outcome: str | None) -> None:
    volume = HostPath(name="v", path=str(host / name), type=kind)
    if outcome is None:
        prepare([volume])
    else:
        with pytest.raises(PoddError, match=r"^volume v: ") as refused:
            prepare([volume])
        assert type(refused.value).__name__ == outcome
    assert not (host / "made-through-a-link").exists()
    assert (host / "file").read_text() == "kept"


def test_host_path_is_made_with_the_modes_of_the_kubelet(host: Path) -> None:
    prepare([HostPath(name="d", path=str(host / "a" / "b"), type="DirectoryOrCreate")])
    prepare([HostPath(name="f", path=str(host / "a" / "f"), type="FileOrCreate")])
    assert mode(host / "a" / "b") == 0o755
    assert mode(host / "a" / "f") == 0o644


@pytest.mark.parametrize("path", ["relative", "/a/../etc", "/.."])
def test_host_path_that_no_host_could_have(path: str) -> None:
    with pytest.raises(Invalid, match=r"^volume v: "):
        prepare([HostPath(name="v", path=path, type="")])


# ---- removing --------------------------------------------------------------------------------------------------------


def test_remove_nothing_is_quiet(state: Path) -> None:
    remove(str(state), UID)
    assert sweep(str(state), []) == []


@pytest.mark.parametrize("uid", ["", ".", "..", "../x", "/etc", "a/b"])
def test_a_uid_that_could_lead_elsewhere_is_refused(state: Path, uid: str) -> None:
    volume = empty_dir(state)
    prepare([volume])
    with pytest.raises(Invalid, match="not a plain name"):
        remove(str(state), uid)
    assert os.path.isdir(volume.path)


def test_remove_does_not_follow_links(state: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("1")
    volume = empty_dir(state)
    prepare([volume])
    Path(volume.path, "link").symlink_to(outside)
    Path(volume.path, "dir").mkdir()
    Path(volume.path, "dir", "link").symlink_to(outside / "precious")
    remove(str(state), UID)
    assert (outside / "precious").read_text() == "1"
    assert not (state / "volumes" / UID).exists()


def test_a_volume_that_became_a_link_is_removed_as_one(state: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("1")
    (state / "volumes").mkdir()
    (state / "volumes" / UID).symlink_to(tmp_path / "outside")
    remove(str(state), UID)
    assert (tmp_path / "outside" / "precious").exists()
    assert not os.path.lexists(state / "volumes" / UID)


def test_remove_a_tree_deeper_than_any_path(state: Path) -> None:
    volume = empty_dir(state)
    prepare([volume])
    fd = os.open(volume.path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 50, dir_fd=fd)
        inner = os.open("d" * 50, os.O_RDONLY, dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
        os.close(fd)
        fd = inner
    os.close(fd)
    remove(str(state), UID)
    assert not (state / "volumes" / UID).exists()


@pytest.mark.root
def test_remove_unmounts_and_never_empties_what_was_mounted(state: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("1")
    volume = empty_dir(state)
    prepare([volume])
    for name in ("bound", "with space"):
        Path(volume.path, name).mkdir()
        mount(str(outside), f"{volume.path}/{name}", None, MountFlag.BIND)
    mount("none", f"{volume.path}/bound", "tmpfs", MountFlag(0))
    remove(str(state), UID)
    assert (outside / "precious").read_text() == "1"
    assert not (state / "volumes" / UID).exists()


@pytest.mark.root
def test_deleting_stops_at_a_mount(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it had been mounted after the unmounting."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("1")
    volume = empty_dir(state)
    prepare([volume])
    Path(volume.path, "bound").mkdir()
    mount(str(outside), f"{volume.path}/bound", None, MountFlag.BIND)
    with monkeypatch.context() as patch:
        patch.setattr("podd.volumes.removal._unmount_all", lambda *_: None)
        with pytest.raises(Unavailable, match=rf"{UID}: cannot be removed: bound"):
            remove(str(state), UID)
    assert (outside / "precious").read_text() == "1"
    remove(str(state), UID)


@pytest.mark.root
def test_sweep_leaves_the_known(state: Path) -> None:
    other = "99999999-2222-3333-4444-555555555555"
    prepare([empty_dir(state), empty_dir(state, "m", medium="Memory"), empty_dir(state, uid=other)])
    assert sweep(str(state), [other]) == []
    assert os.listdir(state / "volumes") == [other]
    assert sweep(str(state), []) == []
    assert os.listdir(state / "volumes") == []
