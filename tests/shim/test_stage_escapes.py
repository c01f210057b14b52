"""The ways out of a container that others had to close, each tried again; what is asserted is the effect.

The classes are those of the published vulnerabilities of container runtimes; the numbers name the best known of each.
"""

from __future__ import annotations

import base64
import ctypes
import os
import stat
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from podd.errors import Invalid
from podd.linux import capabilities
from podd.linux.cgroup import Layout
from podd.linux.syscalls import CapabilitySets, CloneFlag, MountFlag, Prctl, capget, capset, mount, prctl, unshare
from podd.shim.plan import MountPlan
from podd.shim.subpath import open_below
from staging import Pod, Run, host_programs, in_child, mounts_below, tree, volume

pytestmark = pytest.mark.root

MakePod = Callable[..., Pod]

WIDE = capabilities.DEFAULT | capabilities.mask_of(("MKNOD", "DAC_READ_SEARCH", "SYS_CHROOT"))


@pytest.fixture
def make_pod(tmp_path: Path) -> Iterator[MakePod]:
    pods: list[Pod] = []

    def make(**plan: Any) -> Pod:
        pods.append(Pod(tmp_path / f"pod{len(pods)}", plan))
        return pods[-1]

    yield make
    for pod in pods:
        pod.close()


@pytest.fixture
def pod(make_pod: MakePod) -> Pod:
    return make_pod()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host that a container must not reach."""
    place = tmp_path / "host"
    (place / "directory").mkdir(parents=True)
    (place / "file").write_text("the host's own")
    return place


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root file system under an attacker's control."""
    place = tmp_path / "rootfs"
    place.mkdir()
    return place


# ---- A: descriptors, working directory, executable -------------------------------------------------------------------


@contextmanager
def leaked(path: Path) -> Iterator[int]:
    """A descriptor that the supervisor forgot to mark close-on-exec."""
    fd = os.open(path, os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        yield fd
    finally:
        os.close(fd)


def test_no_descriptor_is_inherited(pod: Pod, host: Path) -> None:
    script = "for fd in /proc/$$/fd/*; do readlink $fd >/dev/null && echo ${fd##*/}; done"
    with leaked(host), leaked(host / "file"):
        assert pod.sh(script).lines == ["0", "1", "2"]
        with pod.running() as (plan, pidfd):
            assert pod.exec(plan, pidfd, "/bin/sh", "-c", script).lines == ["0", "1", "2"]


@pytest.mark.parametrize("place", ["/proc/self/fd/{}", "/proc/1/fd/{}", "/link"])
def test_working_dir_through_a_leaked_descriptor(pod: Pod, host: Path, rootfs: Path, place: str) -> None:
    """CVE-2024-21626."""
    with leaked(host) as fd:
        (rootfs / "link").symlink_to(f"/proc/self/fd/{fd}")
        run = pod.run("/bin/ls", lowers=[str(rootfs)], mounts=host_programs(), working_dir=place.format(fd))
        assert (run.kind, run.output) == ("Invalid", "")
        for other in range(3, 40):
            run = pod.run("/bin/ls", working_dir=f"/proc/self/fd/{other}")
            assert run.kind == "Invalid", f"descriptor {other}: {run}"


def test_held_process_cannot_be_looked_into_by_another_member(make_pod: MakePod) -> None:
    """CVE-2019-5736, CVE-2016-9962: a process that is not yet the container's program, in the container's reach."""
    pod = make_pod(pid="pod")
    with pod.running() as (plan, pidfd):
        held = [pod.hold(["true"]), pod.exec_hold(plan, pidfd, ["true"])]
        inside = [Path(f"/proc/{child.pid}/status").read_text().split("NSpid:")[1].split()[1] for child in held]
        for pid in inside:
            for name in ("exe", "root/etc/passwd", "cwd/etc/passwd", "mem", "fd/0", "environ", "maps", "ns/mnt"):
                run = pod.exec(plan, pidfd, "/bin/sh", "-c", f"test -d /proc/{pid} && head -c 1 /proc/{pid}/{name}")
                assert run.status != 0, name
                assert "Permission denied" in run.output, name


def test_two_containers_do_not_see_each_others_root(make_pod: MakePod) -> None:
    pod = make_pod(pid="pod")
    with pod.running():
        run = pod.sh("for p in /proc/[0-9]*; do ls $p/root/ 2>&1 >/dev/null; done", capabilities=WIDE)
    assert run.output.count("Permission denied") >= 1


# ---- B: /proc and /sys redirected ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "dev/pts", "dev/shm", "sys/fs/cgroup"])
@pytest.mark.parametrize("target", ["{host}/directory", "../../../../../../../../..{host}/directory", "/elsewhere"])
def test_symlink_at_a_mount_point_of_the_runtime(pod: Pod, host: Path, rootfs: Path, name: str, target: str) -> None:
    """CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2026-41579."""
    (rootfs / "elsewhere").mkdir()
    (rootfs / name).parent.mkdir(parents=True, exist_ok=True)
    (rootfs / name).symlink_to(target.format(host=host))
    before = tree(host)
    run = pod.run("/bin/true", lowers=[str(rootfs)], mounts=host_programs())
    assert tree(host) == before
    if "/" in name:  # hidden by our own mount on the parent: nothing of the image is looked at
        assert run.status == 0, run
    else:
        assert run.kind == "Invalid"
        assert f"mount /{name}" in run.error


@pytest.mark.parametrize(
    "name",
    ["kernel.core_pattern", "kernel/core_pattern", "vm.overcommit_memory", "net.ipv4/../../kernel/core_pattern",
     "net/ipv4/../../kernel/core_pattern", "net..ipv4", "net.", "", ".", "kernel.shm/../core_pattern"],
)  # fmt: skip
def test_sysctl_of_the_node_is_refused(tmp_path: Path, name: str) -> None:
    """CVE-2022-0811, CVE-2022-0532."""
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    with pytest.raises(Invalid, match="sysctl"):
        Pod(tmp_path / "pod", {"sysctls": {name: "1"}})
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


@pytest.mark.parametrize(("name", "node"), [("net.ipv4.ip_forward", "net"), ("kernel.shmmax", "ipc")])
def test_sysctl_of_a_namespace_that_is_the_nodes_is_refused(tmp_path: Path, name: str, node: str) -> None:
    with pytest.raises(Invalid, match="it would change the node"):
        Pod(tmp_path / "pod", {"sysctls": {name: "1"}, node: "node"})


@pytest.mark.parametrize("value", ["1\n", "1+kernel.core_pattern=x\n", "\x00"])
def test_sysctl_value_with_control_characters_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(Invalid, match="control characters"):
        Pod(tmp_path / "pod", {"sysctls": {"net.ipv4.ip_forward": value}})


# ---- C: paths in the root file system --------------------------------------------------------------------------------


ESCAPES = ["{host}/directory", "../../../../../../../../../../..{host}/directory", "/proc/1/root{host}/directory"]


@pytest.mark.parametrize("link", ESCAPES)
def test_volume_target_behind_a_symlink_stays_inside(
    pod: Pod, host: Path, rootfs: Path, tmp_path: Path, link: str
) -> None:
    """CVE-2021-30465, CVE-2024-45310, CVE-2019-18837."""
    (rootfs / "data").symlink_to(link.format(host=host))
    source = tmp_path / "source"
    source.mkdir()
    (source / "marker").touch()
    before = tree(host)
    mounts = [*host_programs(), volume(source, "/data/made/here"), volume(host / "file", "/data/file2")]
    run = pod.run("/bin/ls", "/data/made/here", lowers=[str(rootfs)], mounts=mounts)
    assert run.output == "marker\n" or run.kind == "Invalid"
    assert tree(host) == before


@pytest.mark.parametrize("link", ESCAPES)
def test_working_dir_behind_a_symlink_is_made_inside(pod: Pod, host: Path, rootfs: Path, link: str) -> None:
    """CVE-2026-55686."""
    (rootfs / "work").symlink_to(link.format(host=host))
    before = tree(host)
    run = pod.run("/bin/pwd", lowers=[str(rootfs)], mounts=host_programs(), working_dir="/work/new")
    assert run.kind == "Invalid" or run.output.strip().endswith("/directory/new")
    assert tree(host) == before


def test_files_of_the_pod_behind_a_dangling_symlink(pod: Pod, host: Path, rootfs: Path) -> None:
    """As on hosts whose /etc/resolv.conf leads into /run; and as an attack on the host's files."""
    etc = Path(pod.plan["run_dir"], "etc")
    etc.mkdir()
    (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (rootfs / "etc").mkdir()
    (rootfs / "etc/resolv.conf").symlink_to(f"..{host}/made/resolv.conf")
    before = tree(host)
    run = pod.run("/bin/cat", "/etc/resolv.conf", lowers=[str(rootfs)], mounts=host_programs())
    assert run.output == "nameserver 127.0.0.1\n"
    assert tree(host) == before


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_user_database_is_not_read_from_the_host(pod: Pod, host: Path, rootfs: Path, name: str) -> None:
    (host / "file").write_text("app:x:1001:1001,app:/stolen:/stolen:\n")
    (rootfs / "etc").mkdir()
    (rootfs / "etc" / name).symlink_to(host / "file")
    run = pod.sh("echo $HOME; id -G", lowers=[str(rootfs)], mounts=host_programs(), uid=1001)
    assert run.lines == ["/", "0"]


@pytest.mark.parametrize("kind", ["fifo", "device", "huge", "directory"])
def test_user_database_that_is_no_small_file_is_refused(pod: Pod, rootfs: Path, kind: str) -> None:
    """CVE-2025-4437, CVE-2024-9676."""
    (rootfs / "etc").mkdir()
    passwd = rootfs / "etc/passwd"
    match kind:
        case "fifo":
            os.mkfifo(passwd)
        case "device":
            os.mknod(passwd, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        case "huge":
            with passwd.open("w") as file:
                file.truncate(1 << 40)
        case "directory":
            passwd.mkdir()
    run = pod.run("/bin/true", lowers=[str(rootfs)], mounts=host_programs())
    assert "/etc/passwd" in run.error


MASKED = ["/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/proc/none", "/proc/keys/none"]
READ_ONLY = ["/proc/sys", "/proc/irq", "/proc/none"]


def test_masked_and_read_only_paths(pod: Pod, rootfs: Path) -> None:
    """CVE-2025-31133: the image's own /dev/null is not what hides a file."""
    (rootfs / "dev").mkdir()
    (rootfs / "dev/null").symlink_to("/proc/self/mem")
    changes: dict[str, Any] = {
        "lowers": [str(rootfs)],
        "mounts": host_programs(),
        "capabilities": capabilities.DEFAULT | capabilities.SYS_ADMIN,
    }
    read = "cat /proc/keys; ls /sys/firmware"
    write = "for f in /proc/sys/kernel/panic /proc/irq/default_smp_affinity; do echo 1 > $f; done"
    assert pod.sh(read, **changes).output != "", "the host hides it already: this test shows nothing"
    run = pod.sh(f"{read}; {write}", masked_paths=MASKED, read_only_paths=READ_ONLY, **changes)
    assert len(run.lines) == 2
    assert run.output.count("Read-only file system") == 2


def test_masks_cannot_be_written_through_or_mounted_away(pod: Pod) -> None:
    run = pod.sh("echo x > /proc/keys; touch /sys/firmware/x; umount /proc/keys; cat /proc/keys", masked_paths=MASKED)
    assert "must be superuser" in run.output or "permitted" in run.output or "denied" in run.output
    assert "Read-only" in run.output
    assert run.status == 0


def test_nodes_in_dev_are_the_hosts_and_cannot_be_changed(pod: Pod) -> None:
    """A bind mount shares the inode: chmod in the container must not reach the host's node."""
    before = os.stat("/dev/null")
    attacks = ("chmod 600", "chown 5", "touch -d 2001-01-01", "rm -f")
    run = pod.sh("".join(f"{attack} /dev/null; " for attack in attacks) + "echo x > /dev/null && echo end")
    assert run.lines[-1] == "end"
    assert len(run.lines) == 1 + len(attacks)
    after = os.stat("/dev/null")
    assert (after.st_mode, after.st_uid, after.st_mtime) == (before.st_mode, before.st_uid, before.st_mtime)


def test_no_mount_propagates_with_the_hosts(pod: Pod) -> None:
    """On a host where all is shared, as systemd makes it, a mount made over the container's /dev/null stays there."""

    def on_a_shared_host() -> None:
        unshare(CloneFlag.MNT)
        mount("none", "/", None, MountFlag.REC | MountFlag.SHARED)
        run = pod.sh("mount --bind /etc/passwd /dev/null && cat /proc/self/mountinfo", capabilities=capabilities.ALL)
        assert run.status == 0, "mount is not permitted at all: this test shows nothing"
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        for line in run.lines:
            assert "shared:" not in line
            assert "master:" not in line

    assert in_child(on_a_shared_host) == 0


def test_mask_is_the_hosts_null_whatever_a_volume_brings(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "null").write_text("not null")
    run = pod.sh("cat /proc/keys /dev/null", masked_paths=MASKED, mounts=[volume(tmp_path, "/dev")])
    assert run.output == "not null"
    run = pod.sh("cat /proc/keys /dev/null", masked_paths=MASKED, mounts=[volume(tmp_path / "null", "/dev/null")])
    assert run.output == "not null"


def test_writable_layer_is_private(pod: Pod) -> None:
    """CVE-2021-41091, CVE-2024-25621: a set-user-id program that a container made is out of every user's reach."""
    assert pod.sh("cp /bin/cat /cat && chmod 4755 /cat").status == 0
    layers = Path(pod.plan["containers_dir"])
    for directory in (layers, layers / pod.plan["id"], layers / pod.plan["id"] / "c1"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_output_that_has_a_name_on_the_host_keeps_its_owner(pod: Pod, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDWR)
    child = pod.hold(["true"], uid=1234, stdin_from=fifo)
    child.release()
    assert child.wait() == 0
    assert (tmp_path / "fifo").stat().st_uid == 0
    assert os.stat("/dev/null").st_uid == 0
    os.close(fifo)


def test_old_root_is_gone(pod: Pod, host: Path) -> None:
    run = pod.sh("cat /proc/self/mountinfo; cd /; cd ..; cd ../..; pwd; stat -c %i / /.. /../..", capabilities=WIDE)
    mounts = [line.split() for line in run.lines if " - " in line]
    assert {fields[4] for fields in mounts} >= {"/", "/proc", "/dev", "/sys"}
    assert len([fields for fields in mounts if fields[4] == "/"]) == 1
    assert not [fields for fields in mounts if fields[4].startswith(str(host.parent))]
    assert len(set(run.lines[-3:])) == 1


def test_volumes_do_not_propagate_to_the_host(pod: Pod, tmp_path: Path) -> None:
    before = mounts_below(tmp_path)
    run = pod.sh(
        "mount -t tmpfs none /vol && echo done", mounts=[volume(tmp_path, "/vol")], capabilities=capabilities.ALL
    )
    assert run.output == "done\n", "mount is not permitted at all: this test shows nothing"
    assert mounts_below(tmp_path) == before


# ---- D: capabilities, ids, groups ------------------------------------------------------------------------------------


@contextmanager
def inheritable_capabilities() -> Iterator[None]:
    """A supervisor that was itself started with some, as by an older dockerd."""
    sets = capget()
    capset(sets._replace(inheritable=sets.permitted))
    try:
        yield
    finally:
        capset(CapabilitySets(sets.effective, sets.permitted, 0))


def sets_of(run: Run) -> dict[str, int]:
    return {name: int(run.status_lines[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")}


@pytest.mark.parametrize("seccomp", [False, True], ids=["", "seccomp"])
@pytest.mark.parametrize("no_new_privileges", [False, True], ids=["", "nnp"])
@pytest.mark.parametrize("uid", [0, 1234])
def test_capabilities_on_start_and_on_exec(pod: Pod, uid: int, no_new_privileges: bool, seccomp: bool) -> None:
    """CVE-2022-29162, CVE-2022-27650, CVE-2022-27652: nothing inheritable, nothing ambient."""
    mask = capabilities.mask_of(("CHOWN", "NET_RAW"))
    held = mask if uid == 0 else 0
    expected = {"Inh": 0, "Prm": held, "Eff": held, "Bnd": mask, "Amb": 0}
    changes: dict[str, Any] = {
        "uid": uid,
        "capabilities": mask,
        "no_new_privileges": no_new_privileges,
        "seccomp_bpf": filter_that_denies() if seccomp else "",
    }
    with inheritable_capabilities():
        started = pod.run("cat", "/proc/self/status", **changes)
        with pod.running(**changes) as (plan, pidfd):
            executed = pod.exec(plan, pidfd, "cat", "/proc/self/status")
    for run in (started, executed):
        assert sets_of(run) == expected
        assert run.status_lines["NoNewPrivs"] == str(int(no_new_privileges))
        assert run.status_lines["Seccomp"] == ("2" if seccomp else "0")


def test_secure_bits_of_the_supervisor_are_not_passed_on(pod: Pod) -> None:
    """With noroot set a container's root would hold nothing, and its set-user-id programs would give nothing."""

    def with_noroot() -> None:
        prctl(Prctl.SET_SECUREBITS, 1)
        assert sets_of(pod.run("cat", "/proc/self/status"))["Eff"] == capabilities.DEFAULT

    assert in_child(with_noroot) == 0


def test_capability_that_podd_does_not_hold_is_noted(pod: Pod) -> None:
    missing = capabilities.ALL & ~capabilities.bounding_set()
    run = pod.run("cat", "/proc/self/status", capabilities=capabilities.ALL)
    assert sets_of(run)["Bnd"] == capabilities.bounding_set()
    names = " ".join(capabilities.names_of(missing))
    assert run.notes == ([f"capabilities {names}: podd does not have them to give"] if missing else [])


@contextmanager
def supplementary_groups(*groups: int) -> Iterator[None]:
    before = os.getgroups()
    os.setgroups(groups)
    try:
        yield
    finally:
        os.setgroups(before)


def test_groups_of_the_supervisor_are_not_passed_on(pod: Pod) -> None:
    """CVE-2022-2989, CVE-2023-25173."""
    with supplementary_groups(4, 27, 998):
        assert pod.run("id", "-G", uid=1234, gid=55, supplemental_groups=[66]).output == "55 66\n"
        with pod.running(uid=1234, gid=55) as (plan, pidfd):
            assert pod.exec(plan, pidfd, "id", "-G").output == "55\n"


@pytest.mark.parametrize("uid", [-1, 2**32 - 1, 2**32, 2**64])
@pytest.mark.parametrize("field", ["uid", "gid", "supplemental_groups"])
def test_id_out_of_range_is_refused(pod: Pod, field: str, uid: int) -> None:
    """CVE-2024-40635: an id that wraps around to 0."""
    run = pod.run("id", **{field: [uid] if field == "supplemental_groups" else uid})
    assert (run.kind, run.output) == ("Invalid", "")


def test_largest_ids_are_what_they_are(pod: Pod) -> None:
    top = 2**32 - 2
    assert pod.sh("id -u; id -g", uid=top, gid=2**31, run_as_non_root=True).lines == [str(top), str(2**31)]


def test_device_nodes_are_useless_wherever_they_can_be_made(pod: Pod, tmp_path: Path) -> None:
    script = """
        for d in / /tmp /dev /dev/shm /vol; do
            mknod $d/node c 1 5; test -c $d/node && head -c 1 $d/node && echo opened $d
        done
        mknod /tmp/disk b 254 0; head -c 1 /tmp/disk && echo opened disk"""
    run = pod.sh(script, capabilities=WIDE, mounts=[volume(tmp_path, "/vol")])
    assert "opened" not in run.output
    assert stat.S_ISCHR((tmp_path / "node").stat().st_mode), "mknod is not permitted at all: this test shows nothing"
    assert run.output.count("Permission denied") == 6


def test_device_node_made_in_a_volume_is_useless_as_a_part_of_it(pod: Pod, tmp_path: Path) -> None:
    """A container leaves a node where the next one's subPath leads."""
    pod.sh("mknod /vol/node c 1 5; chmod 666 /vol/node", capabilities=WIDE, mounts=[volume(tmp_path, "/vol")])
    assert stat.S_ISCHR((tmp_path / "node").stat().st_mode), "mknod is not permitted at all: this test shows nothing"
    run = pod.sh("head -c 1 /part && echo opened", mounts=[volume(tmp_path, "/part", sub_path="node")])
    assert "opened" not in run.output
    assert "Permission denied" in run.output


def test_device_by_name_works_as_a_volume(pod: Pod) -> None:
    run = pod.sh("head -c 2 /dev/mine | wc -c", mounts=[volume("/dev/zero", "/dev/mine")])
    assert run.output == "2\n"


def test_set_user_id_does_not_work_on_volumes_nor_with_no_new_privileges(pod: Pod, tmp_path: Path) -> None:
    program = tmp_path / "cat"
    program.write_bytes(Path("/bin/cat").read_bytes())
    program.chmod(0o4755)
    tmp_path.chmod(0o755)
    mounts: list[MountPlan] = [volume(tmp_path, "/vol")]
    assert pod.run("/vol/cat", "/proc/self/status", uid=1234, mounts=mounts).status_lines["Uid"].split()[1] == "1234"
    copy = "cp /vol/cat /cat && chmod 4755 /cat && chmod 755 / && exec setpriv --reuid 1234 {} /cat /proc/self/status"
    run = pod.sh(copy.format(""), mounts=mounts)
    assert run.status_lines["Uid"].split()[1] == "0", "set-user-id does not work at all: this test shows nothing"
    run = pod.sh(copy.format(""), mounts=mounts, no_new_privileges=True)
    assert run.status_lines["Uid"].split()[1] == "1234"


@pytest.mark.parametrize("target", ["{host}", "../host", "inside/../../host", "/proc/self/root{host}", "chain"])
@pytest.mark.parametrize("below", ["", "/directory", "/file", "/new"])
def test_sub_path_through_a_symbolic_link_of_the_volume(
    pod: Pod, host: Path, tmp_path: Path, target: str, below: str
) -> None:
    """CVE-2017-1002101: the kubelet mounted, and made directories in, what a link in the volume led to."""
    shared = tmp_path / "volume"
    (shared / "inside").mkdir(parents=True)
    (shared / "chain").symlink_to(host)
    (shared / "link").symlink_to(target.format(host=host))
    before = tree(host)
    run = pod.sh("ls /vol; cat /vol; touch /vol/made", mounts=[volume(shared, "/vol", sub_path=f"link{below}")])
    assert (run.kind, run.output) == ("Invalid", "")
    assert "leads out of the volume" in run.error
    assert tree(host) == before


@pytest.mark.parametrize("path", ["../host", "..", "inside/../../host", "{host}"])
def test_sub_path_that_says_itself_that_it_leads_out(pod: Pod, host: Path, tmp_path: Path, path: str) -> None:
    shared = tmp_path / "volume"
    (shared / "inside").mkdir(parents=True)
    run = pod.sh("ls /vol", mounts=[volume(shared, "/vol", sub_path=path.format(host=host))])
    assert (run.kind, run.output) == ("Invalid", "")


def test_sub_path_that_is_a_dangling_link_makes_nothing_outside(pod: Pod, host: Path, tmp_path: Path) -> None:
    shared = tmp_path / "volume"
    shared.mkdir()
    (shared / "within").symlink_to("nothing")
    (shared / "out").symlink_to(host / "new")
    for name in ("within", "within/below", "out", "out/below"):
        assert pod.sh("true", mounts=[volume(shared, "/vol", sub_path=name)]).kind == "Invalid"
    assert sorted(os.listdir(shared)) == ["out", "within"]
    assert not (host / "new").exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("link-to-hunter2", "leads out of the volume; look for a symbolic link in it"),
        ("hunter2/below", "not a directory"),
        ("hunter2" * 50, "file name too long"),
        ("loop-of-hunter2", "too many levels of symbolic links"),
    ],
)
def test_an_error_of_a_sub_path_does_not_quote_it(tmp_path: Path, path: str, said: str) -> None:
    """A subPathExpr may take a part of it from a Secret."""
    (tmp_path / "hunter2").touch()
    (tmp_path / "link-to-hunter2").symlink_to("/etc/hunter2")
    (tmp_path / "loop-of-hunter2").symlink_to("loop-of-hunter2")
    volume = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(Invalid) as caught:
            open_below(volume, path, "/vol")
    finally:
        os.close(volume)
    assert str(caught.value).startswith("volume mount /vol: its subPath")
    assert said in str(caught.value)
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__!r}"


def test_sub_path_swapped_for_a_link_at_every_moment(host: Path, tmp_path: Path) -> None:
    """CVE-2021-25741, CVE-2021-30465: another container swaps what was checked, before it is mounted."""
    shared = tmp_path / "volume"
    (shared / "a" / "directory").mkdir(parents=True)
    (shared / "link").symlink_to(host)
    script = (
        "import ctypes, sys\nlibc = ctypes.CDLL(None)\nprint(flush=True)\n"
        "while True: libc.renameat2(-100, b'a', -100, b'link', 2)"
    )
    swapper = subprocess.Popen([sys.executable, "-c", script], cwd=shared, stdout=subprocess.PIPE)
    try:
        assert swapper.stdout is not None
        swapper.stdout.readline()
        outside = {os.stat(host).st_ino, os.stat(host / "directory").st_ino}
        whole = os.open(shared, os.O_PATH)
        opened, refused = 0, 0
        while min(opened, refused) < 50:
            try:
                fd = open_below(whole, ("a", "a/directory", "a/new/deep")[(opened + refused) % 3], "/vol")
            except Invalid:
                refused += 1
            else:
                assert os.fstat(fd).st_ino not in outside
                os.close(fd)
                opened += 1
        os.close(whole)
    finally:
        swapper.kill()
        swapper.communicate()
    assert sorted(os.listdir(host)) == ["directory", "file"]


def test_sub_path_swapped_after_it_was_opened_is_not_what_is_mounted(pod: Pod, host: Path, tmp_path: Path) -> None:
    """The held container has its mounts; what the volume's names lead to later does not matter."""
    shared = tmp_path / "volume"
    (shared / "sub").mkdir(parents=True)
    (shared / "sub" / "mine").touch()
    child = pod.hold(["/bin/ls", "/vol"], mounts=[volume(shared, "/vol", sub_path="sub")])
    (shared / "sub").rename(shared / "old")
    (shared / "sub").symlink_to(host)
    child.release()
    assert child.read_output() == "mine\n"


# ---- seccomp ---------------------------------------------------------------------------------------------------------


def filter_that_denies(*numbers: int) -> str:
    """Base64 of a filter that answers EPERM to these system calls of the machine's own table and allows the rest."""
    program = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # load the number
    for left, number in enumerate(reversed(numbers)):
        program.insert(1, struct.pack("HBBI", 0x15, left + 1, 0, number))  # equal: jump to the refusal
    program += [struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000), struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | 1)]
    return base64.b64encode(b"".join(program)).decode()


MKDIR = {"x86_64": (83, 258), "aarch64": (34,)}.get(os.uname().machine, ())


@pytest.mark.skipif(not MKDIR, reason="the numbers of mkdir are not known here for this machine")
@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("uid", [0, 1234])
def test_seccomp_filter_on_start_and_on_exec(pod: Pod, uid: int, no_new_privileges: bool) -> None:
    changes: dict[str, Any] = {
        "seccomp_bpf": filter_that_denies(*MKDIR),
        "no_new_privileges": no_new_privileges,
        "uid": uid,
    }
    new = f"/tmp/{uuid.uuid4()}"  # below the container's root is the host's
    assert pod.sh(f"mkdir {new}; test -d {new}", **changes).status == 1
    with pod.running(**changes) as (plan, pidfd):
        run = pod.exec(plan, pidfd, "/bin/mkdir", new)
        assert "Operation not permitted" in run.output
    assert pod.sh(f"mkdir {new}", **{**changes, "seccomp_bpf": ""}).status == 0


def test_malformed_seccomp_filter_is_refused(pod: Pod) -> None:
    run = pod.run("true", seccomp_bpf=base64.b64encode(b"\xff" * 16).decode(), no_new_privileges=True)
    assert run.error.startswith("seccomp: ")


# ---- E: what comes from elsewhere ------------------------------------------------------------------------------------


def test_environment_does_not_leak_from_one_container_to_the_next(pod: Pod) -> None:
    """CVE-2020-14370."""
    assert "TOKEN=1" in pod.run("env", env=[("TOKEN", "1")], tty=False).lines
    assert not [line for line in pod.run("env").lines if line.startswith(("TOKEN", "TERM"))]
    with pod.running() as (plan, pidfd):
        pod.exec(plan, pidfd, "env", env=[("TOKEN", "2")])
        assert not [line for line in pod.exec(plan, pidfd, "env").lines if line.startswith("TOKEN")]


def test_keys_of_the_hosts_session_are_out_of_reach(pod: Pod) -> None:
    """Keyrings belong to no namespace; a key is read by whoever possesses it through his session keyring."""
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = {"x86_64": (248, 250), "aarch64": (217, 219)}.get(os.uname().machine)
    if numbers is None:
        pytest.skip("the numbers of add_key and keyctl are not known here for this machine")
    key = libc.syscall(numbers[0], b"user", b"podd-test", b"secret", ctypes.c_size_t(6), -3)
    read = f"import ctypes; print(ctypes.CDLL(None).syscall({numbers[1]}, 11, {key}, bytes(9), 9))"
    try:
        assert subprocess.check_output([sys.executable, "-c", read], text=True) == "6\n"
        run = pod.run(sys.executable, "-c", read)
        if run.error:
            pytest.skip(f"rootfs:/ does not have this Python: {run.error}")
        assert run.output == "-1\n"
    finally:
        libc.syscall(numbers[1], 9, key, -3)


# ---- F: cgroups ------------------------------------------------------------------------------------------------------


def test_cgroups_are_namespaced_and_read_only(pod: Pod) -> None:
    """CVE-2023-25809, CVE-2022-0492."""
    group = Layout.detect().group(f"podd-test-escapes-{os.getpid()}")
    group.create()
    fds = group.entry_fds()
    try:
        run = pod.sh(
            "grep -r . /proc/self/cgroup; find /sys/fs/cgroup -name cgroup.procs | while read f; do echo 0 > $f; done; "
            "find /sys/fs/cgroup -type d -name 'podd*'; find /sys/fs/cgroup -name release_agent",
            cgroups=fds,
            capabilities=WIDE | capabilities.SYS_ADMIN,
        )
        assert "podd" not in run.output
        assert "release_agent" not in run.output
        assert run.output.count("Read-only file system") >= len({h.mount for h in group.layout.hierarchies})
    finally:
        for fd in fds:
            os.close(fd)
        group.remove(1.0)


# ---- privileged, which gives all of this up --------------------------------------------------------------------------


def test_privileged(pod: Pod, tmp_path: Path) -> None:
    mask = capabilities.bounding_set()
    before = sorted(os.listdir("/dev"))
    run = pod.sh(
        "cat /proc/self/status; ls /dev | wc -l; touch /sys/kernel/x 2>&1; tty",
        privileged=True,
        capabilities=mask,
        masked_paths=["/proc/keys"],
        tty=True,
    )
    assert sets_of(run)["Eff"] == mask
    assert "Read-only" not in run.output
    assert run.output.splitlines()[-1] == "/dev/pts/0"
    node = "mknod /tmp/zero c 1 5 && head -c 2 /tmp/zero | wc -c; cat /proc/keys | wc -c"
    lines = pod.sh(node, privileged=True, capabilities=mask, masked_paths=["/proc/keys"]).lines
    assert lines[0] == "2"
    assert int(lines[1]) > 0
    assert sorted(os.listdir("/dev")) == before
