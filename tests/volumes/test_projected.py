"""Files that podd writes: whole or not at all, and never through what somebody has put in their place."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podd.core.plan import HostPath, Projected
from podd.core.projection import File
from podd.errors import Unavailable
from podd.linux.syscalls import MountFlag, UmountFlag, mount, umount2
from podd.volumes import prepare, remove, sweep, update
from podd.volumes.projected import write

UID = "11111111-2222-3333-4444-555555555555"

pytestmark = pytest.mark.root


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state directory; afterwards nothing of the pod, no mount and no descriptor is left."""
    before = len(os.listdir("/proc/self/fd"))
    path = tmp_path / "state"
    path.mkdir()
    yield path
    remove(str(path), UID)
    assert not [p for p in mount_points() if p.startswith(str(tmp_path))], "a mount is left"
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor is left open"


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "top").mkdir()
    fd = os.open(tmp_path / "top", os.O_PATH)
    yield fd
    os.close(fd)


def mount_points() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def volume(state: Path, files: dict[str, bytes], group: int | None = None, mode: int = 0o644) -> Projected:
    path = f"{state}/volumes/{UID}/v"
    return Projected(name="v", path=path, files=as_files(files, mode), fs_group=group)


def as_files(files: dict[str, bytes], mode: int = 0o644) -> dict[str, File]:
    return {path: File(content=content, mode=mode) for path, content in files.items()}


def seen(place: Path) -> dict[str, bytes]:
    """What a reader finds, by names without those that podd keeps to itself."""
    found = {}
    for name in os.listdir(place):
        if not name.startswith(".."):
            path = place / name
            below = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
            found |= {str(p.relative_to(place)): p.read_bytes() for p in below}
    return found


# ---- what is there ---------------------------------------------------------------------------------------------------


def test_the_files_are_there_and_nobody_can_change_them(state: Path) -> None:
    wanted = {"a": b"1", "d/b": b"2", "d/e/c": b"\0\xff"}
    one = volume(state, wanted, mode=0o400)
    prepare([one])
    place = Path(one.path)
    assert seen(place) == wanted
    assert os.readlink(place / "a") == "..data/a"
    assert os.readlink(place / "..data").startswith("..20")
    assert {stat.S_IMODE((place / name).stat().st_mode) for name in wanted} == {0o400}
    for attempt in (lambda: (place / "a").write_bytes(b"x"), (place / "new").touch, (place / "a").unlink):
        with pytest.raises(OSError, match="Read-only"):
            attempt()
    line = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {one.path} " in line)
    assert " - tmpfs " in line
    assert {"ro", "nosuid", "nodev"} <= set(line.split()[5].split(","))


def test_a_group_owns_it_and_reads_it(state: Path) -> None:
    one = volume(state, {"a": b"1", "d/b": b"2"}, group=4711, mode=0o440)
    prepare([one])
    place = Path(one.path)
    for name, mode in (("", 0o2755), ("..data", 0o2755), ("d", 0o2755), ("a", 0o440), ("d/b", 0o440)):
        found = (place / name).stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 4711, mode), name


def test_what_could_not_be_prepared_with_it_leaves_nothing(state: Path) -> None:
    missing = HostPath(name="h", path=f"{state}/missing", type="Directory")
    with pytest.raises(Unavailable):
        prepare([volume(state, {"a": b"1"}), missing])
    assert os.listdir(state / "volumes") == []


def test_prepared_again_nothing_changes(state: Path) -> None:
    one = volume(state, {"a": b"1", "d/b": b"2"}, group=4711)
    prepare([one])
    before = os.readlink(Path(one.path, "..data"))
    prepare([one])
    update([one])
    assert os.readlink(Path(one.path, "..data")) == before
    assert mount_points().count(one.path) == 1


def test_after_the_host_was_restarted_it_is_made_again(state: Path) -> None:
    one = volume(state, {"a": b"1"})
    prepare([one])
    umount2(one.path, UmountFlag.DETACH)
    assert os.listdir(one.path) == []
    prepare([one])
    assert seen(Path(one.path)) == {"a": b"1"}


def test_an_update_is_one_swap(state: Path) -> None:
    prepare([volume(state, {"a": b"1", "old": b"1", "x": b""})])
    place = Path(volume(state, {}).path)
    held = os.open(place / "a", os.O_RDONLY)
    update([volume(state, {"a": b"2", "new/b": b"2", "x/y": b""})])
    assert seen(place) == {"a": b"2", "new/b": b"2", "x/y": b""}
    assert os.read(held, 10) == b"1", "who has opened the old file goes on reading the old file"
    os.close(held)
    assert len([name for name in os.listdir(place) if name.startswith("..")]) == 2


def test_a_changed_mode_is_an_update(state: Path) -> None:
    prepare([volume(state, {"a": b"1"})])
    one = volume(state, {"a": b"1"}, mode=0o400)
    update([one])
    assert stat.S_IMODE(Path(one.path, "a").stat().st_mode) == 0o400


def test_a_reader_never_sees_some_of_both(state: Path) -> None:
    """Two files of one version, read through one open `..data`, are of the same version."""
    one = volume(state, {"a": b"0", "b": b"0"})
    prepare([one])
    wrong: list[tuple[bytes, bytes]] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                data = os.open(f"{one.path}/..data", os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:  # it was swapped between reading the link and opening what it names
                os.readlink(f"{one.path}/..data")
                continue
            try:
                pair = [Path(f"/proc/self/fd/{data}/{name}").read_bytes() for name in ("a", "b")]
                if pair[0] != pair[1]:
                    wrong.append((pair[0], pair[1]))
            except FileNotFoundError:
                pass  # the old version was removed while we read it: both are gone
            finally:
                os.close(data)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(100):
        update([volume(state, {"a": b"%d" % n, "b": b"%d" % n})])
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_of_a_volume_that_is_gone_nothing_is_made(state: Path) -> None:
    one = volume(state, {"a": b"1"})
    prepare([one])
    umount2(one.path, UmountFlag.DETACH)
    update([one])
    assert os.listdir(one.path) == [], "a Secret would be on the disk"


def test_it_is_swept_with_its_pod(state: Path) -> None:
    prepare([volume(state, {"a": b"1"})])
    assert sweep(str(state), []) == []
    assert os.listdir(state / "volumes") == []


names = st.text("ab.", min_size=1, max_size=3).filter(lambda name: not name.startswith("..") and name != ".")
trees = st.dictionaries(st.lists(names, min_size=1, max_size=3).map("/".join), st.binary(max_size=4), max_size=6)


def is_tree(files: dict[str, bytes]) -> bool:
    return not any(other.startswith(f"{path}/") for path in files for other in files)


@given(st.lists(trees.filter(is_tree), max_size=4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_came_before(top: int, tmp_path: Path, versions: list[dict[str, bytes]]) -> None:
    for files in versions:
        write(top, as_files(files), None)
        assert seen(tmp_path / "top") == files
        data = os.readlink(tmp_path / "top" / "..data")
        assert set(os.listdir(tmp_path / "top")) == {"..data", data, *(path.split("/")[0] for path in files)}


# ---- what somebody has put there -------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Path:
    place = tmp_path / "host"
    (place / "directory").mkdir(parents=True)
    (place / "file").write_text("the host's own")
    (place / "directory" / "a").write_text("the host's own")
    return place


def as_it_was(host: Path) -> bool:
    files = {str(p.relative_to(host)): p.read_text() for p in host.rglob("*") if p.is_file()}
    return files == {"file": "the host's own", "directory/a": "the host's own"}


def _link_name(place: Path, host: Path) -> None:
    (place / "a").unlink()
    (place / "a").symlink_to(host / "file")


def _link_data(place: Path, host: Path) -> None:
    (place / "..data").unlink()
    (place / "..data").symlink_to(host / "directory")


def _link_new_data(place: Path, host: Path) -> None:
    (place / "..data_tmp").symlink_to(host / "directory")


def _link_version(place: Path, host: Path) -> None:
    version = os.readlink(place / "..data")
    (place / version).rename(place / "aside")
    (place / version).symlink_to(host / "directory")


def _link_file_of_version(place: Path, host: Path) -> None:
    path = place / os.readlink(place / "..data") / "a"
    path.unlink()
    path.symlink_to(host / "file")


def _hard_link(place: Path, host: Path) -> None:
    (place / "a").unlink()
    (place / "a").write_text("mine")
    os.link(place / "a", place / "b")


def _data_leads_up(place: Path, host: Path) -> None:
    (place / "..data").unlink()
    (place / "..data").symlink_to("../host/directory")


def _directories_in_place_of_links(place: Path, host: Path) -> None:
    for name in ("a", "..data"):
        (place / name).unlink()
        (place / name).mkdir()
        (place / name / "link").symlink_to(host / "directory")


def _fifo(place: Path, host: Path) -> None:
    path = place / os.readlink(place / "..data") / "a"
    path.unlink()
    os.mkfifo(path)


ATTACKS = [
    *(_link_name, _link_data, _link_new_data, _link_version, _link_file_of_version, _hard_link, _data_leads_up),
    *(_directories_in_place_of_links, _fifo),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__.strip("_"))
@pytest.mark.parametrize("changed", [False, True])
def test_nothing_is_written_through_what_was_swapped(
    top: int, tmp_path: Path, host: Path, attack: object, changed: bool
) -> None:
    """CVE-2025-9566: a link that a container had left in the volume led the next write to a file of the host."""
    place = tmp_path / "top"
    write(top, as_files({"a": b"1"}), None)
    attack(place, host)  # type: ignore[operator]
    after = {"a": b"2"} if changed else {"a": b"1"}
    write(top, as_files(after, 0o600), 4711)
    assert as_it_was(host)
    assert stat.S_IMODE((host / "file").stat().st_mode) == 0o644
    assert {p.stat().st_gid for p in host.rglob("*")} == {0}
    assert seen(place) == after
    assert sorted(os.listdir(place)) == sorted(["a", "..data", os.readlink(place / "..data")])
    assert (place / "a").resolve().parent == (place / "..data").resolve()


def test_what_is_mounted_in_it_is_not_emptied(state: Path, tmp_path: Path, host: Path) -> None:
    """A privileged container whose mounts propagate could do this."""
    one = volume(state, {"a": b"1"})
    prepare([one])
    version = f"{one.path}/{os.readlink(f'{one.path}/..data')}"
    mount(str(host), version, None, MountFlag.BIND)
    update([volume(state, {"a": b"2"})])
    assert as_it_was(host)
    assert seen(Path(one.path)) == {"a": b"2"}
