"""A container from fork to exec, seen from its inside and from the host."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from podd.linux import capabilities, spawn
from podd.linux.cgroup import Layout
from podd.linux.process import namespaces
from podd.linux.syscalls import MountFlag, UmountFlag, mount, umount2
from podd.shim import sandbox
from podd.shim.plan import SandboxPlan
from podd.shim.program import NotRunnable
from staging import Pod, host_programs, mounts_below, volume

pytestmark = pytest.mark.root

MakePod = Callable[..., Pod]


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


# ---- holding and releasing -------------------------------------------------------------------------------------------


def test_runs_and_exits(pod: Pod) -> None:
    run = pod.sh("echo hello; exit 7")
    assert (run.output, run.status, run.notes) == ("hello\n", 7, [])


def test_held_runs_nothing_until_released(pod: Pod) -> None:
    child = pod.hold(["/bin/sh", "-c", "echo ran > /proof"])
    proof = Path(pod.plan["containers_dir"], pod.plan["id"], "c1", "upper", "proof")
    assert not child.notes
    assert not proof.exists()
    child.release()
    assert child.wait() == 0
    assert proof.read_text() == "ran\n"


def test_held_dies_when_the_supervisor_lets_go_of_it(pod: Pod) -> None:
    child = pod.hold(["/bin/sh", "-c", "echo ran"])
    os.close(child.hold)
    child.hold = -1
    assert child.wait() == 127
    assert child.read_output() == ""


@pytest.mark.parametrize("uid", [0, 1234])
def test_container_dies_with_its_supervisor(pod: Pod, uid: int) -> None:
    def supervise() -> int:
        child = pod.hold(["/bin/sh", "-c", "while :; do read forever; done"], tty=True, uid=uid)
        child.release()
        return child.pid

    assert_dies_with(supervise)


def test_held_container_dies_with_its_supervisor(pod: Pod) -> None:
    assert_dies_with(lambda: pod.hold(["true"]).pid)


def test_init_of_shared_pids_dies_with_its_supervisor(make_pod: MakePod, tmp_path: Path) -> None:
    plan = {**make_pod().plan, "pid": "pod"}
    ns_dir = str(tmp_path / "ns")
    assert_dies_with(lambda: sandbox.make_sandbox_namespaces(cast(SandboxPlan, plan), ns_dir).init_pid or 0)
    sandbox.unpin_namespaces(ns_dir)


def assert_dies_with(supervise: Callable[[], int]) -> None:
    """A process in between plays the supervisor, makes the one that it returns, and is killed."""
    told, tell = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        os.write(tell, b"%d\n" % supervise())
        signal.pause()
    os.close(tell)
    made = os.pidfd_open(int(os.read(told, 64)))
    os.close(told)
    os.kill(supervisor, signal.SIGKILL)
    os.waitpid(supervisor, 0)
    assert select.select([made], [], [], 10)[0], "it outlived its supervisor"
    os.close(made)


# ---- namespaces ------------------------------------------------------------------------------------------------------


def test_members_share_the_pods_namespaces_and_keep_their_own(pod: Pod) -> None:
    one, two = (namespaces(pod.hold(["true"]).pid) for _ in range(2))
    host = namespaces(os.getpid())
    for name in ("net", "ipc", "uts"):
        assert one[name] == two[name] == pod.inodes[name] != host[name]
    for name in ("mnt", "pid", "cgroup"):
        assert len({one[name], two[name], host[name]}) == 3


def test_node_namespaces_are_the_hosts(make_pod: MakePod) -> None:
    pod = make_pod(net="node", ipc="node", uts="node", pid="node", hostname="")
    own, host = namespaces(pod.hold(["true"]).pid), namespaces(os.getpid())
    for name in ("net", "ipc", "uts", "pid"):
        assert own[name] == host[name] == pod.inodes[name]
    assert not os.listdir(pod.ns_dir)


def test_shared_pids_have_an_init_that_reaps(make_pod: MakePod) -> None:
    pod = make_pod(pid="pod")
    run = pod.sh("(sh -c 'exit 3' & ) ; cat /proc/1/comm; while grep -qs Z /proc/[0-9]*/stat; do :; done; echo $$")
    assert run.lines[0] == "podd-init"
    assert int(run.lines[1]) > 1


def test_init_of_shared_pids_holds_nothing(make_pod: MakePod) -> None:
    pod = make_pod(pid="pod")
    status = Path(f"/proc/{pod.init_pid}/status").read_text()
    for line in ("CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
        assert line in status
    assert os.listdir(f"/proc/{pod.init_pid}/fd") == []
    assert os.listdir(f"/proc/{pod.init_pid}/root") == []
    run = pod.sh("ls /proc/1/root; cat /proc/1/environ; kill -9 1; kill -0 1 && echo alive")
    assert run.lines[-1] == "alive"
    assert run.output.count("Permission denied") == 2


def test_init_of_shared_pids_is_small(make_pod: MakePod) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("there is no program for the init of this machine")
    rollup = Path(f"/proc/{make_pod(pid='pod').init_pid}/smaps_rollup").read_text()
    assert int(rollup.split("Rss:")[1].split()[0]) <= 32


def test_init_of_shared_pids_without_a_program_of_its_own(make_pod: MakePod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "pause_program", lambda _: None)
    pod = make_pod(pid="pod")
    run = pod.sh(
        "(sh -c 'exit 3' & ) ; cat /proc/1/comm; while grep -qs Z /proc/[0-9]*/stat; do :; done; ls /proc/1/root"
    )
    assert run.lines[0] == "podd-init"
    assert "Permission denied" in run.lines[1]


def test_container_is_pid_1_and_sees_its_own_proc(pod: Pod) -> None:
    assert pod.sh("echo $$; echo /proc/[0-9]*").output == "1\n/proc/1\n"


def test_network_has_a_loopback_that_is_up(pod: Pod) -> None:
    assert pod.sh("cat /sys/class/net/lo/operstate /sys/class/net/lo/flags; ls /sys/class/net").lines[1:] == [
        "0x9",
        "lo",
    ]


def test_hostname(pod: Pod) -> None:
    assert pod.sh("uname -n; echo $HOSTNAME").lines == ["web", "web"]
    assert os.uname().nodename != "web"


def test_sysctls_are_the_pods(make_pod: MakePod) -> None:
    path = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
    before = Path(path).read_text()
    pod = make_pod(sysctls={"net.ipv4.ip_unprivileged_port_start": "81", "kernel.shm_rmid_forced": "1"})
    assert pod.sh(f"cat {path} /proc/sys/kernel/shm_rmid_forced").lines == ["81", "1"]
    assert Path(path).read_text() == before


def test_shared_memory_is_sized_and_shared(pod: Pod) -> None:
    assert pod.sh("echo from one > /dev/shm/note; head -c 2M /dev/zero > /dev/shm/big").status != 0
    assert pod.sh("cat /dev/shm/note; stat -c %s /dev/shm/big").lines == ["from one", str((1 << 20) - 4096)]


# ---- file systems ----------------------------------------------------------------------------------------------------


def test_writes_stay_in_the_writable_layer(pod: Pod, tmp_path: Path) -> None:
    run = pod.sh("echo changed > /etc/hostname; rm /etc/passwd; cat /etc/hostname")
    assert run.output == "changed\n"
    assert Path("/etc/passwd").exists()
    assert not pod.sh("test -e /etc/passwd").status, "another container sees the first one's layer"


def test_root_has_the_owner_and_mode_of_the_image(make_pod: MakePod, tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir(mode=0o711)
    os.chown(rootfs, 12, 34)
    run = make_pod().run("/bin/stat", "-c", "%a %u %g", "/", lowers=[str(rootfs)], mounts=host_programs())
    assert run.output == "711 12 34\n"


def test_rootfs_may_have_any_name(pod: Pod, tmp_path: Path) -> None:
    rootfs = tmp_path / r"a,b:c\d =e"
    rootfs.mkdir()
    (rootfs / "marker").write_text("here")
    assert pod.run("/bin/cat", "/marker", lowers=[str(rootfs)], mounts=host_programs()).output == "here"


def test_read_only_root(pod: Pod, tmp_path: Path) -> None:
    run = pod.sh(
        "echo x > /file; echo y > /vol/file; cat /vol/file", read_only_rootfs=True, mounts=[volume(tmp_path, "/vol")]
    )
    assert "/file: Read-only file system" in run.output
    assert run.lines[-1] == "y"


def test_volumes_nest_whatever_their_order(pod: Pod, tmp_path: Path) -> None:
    for name in ("outer", "inner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    mounts = [volume(tmp_path / "inner", "/made/here/inner"), volume(tmp_path / "outer", "/made/here/")]
    assert pod.sh("ls /made/here /made/here/inner", mounts=mounts).output.split() == [
        "/made/here:", "inner", "outer", "/made/here/inner:", "inner",
    ]  # fmt: skip


def test_volume_of_a_file_and_a_read_only_one(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    mounts = [volume(tmp_path / "file", "/etc/new/file"), volume(tmp_path, "/ro", read_only=True)]
    run = pod.sh("cat /etc/new/file; echo more >> /etc/new/file; touch /ro/x", mounts=mounts)
    assert (tmp_path / "file").read_text() == "content\nmore\n"
    assert "Read-only" in run.output
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("recursive", [False, True])
def test_read_only_covers_what_is_mounted_below_where_it_is_asked_for(
    pod: Pod, tmp_path: Path, recursive: bool
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    mount("tmpfs", str(inner), "tmpfs", MountFlag.NONE)
    try:
        mounts = [volume(tmp_path, "/ro", read_only=True, recursive=recursive)]
        run = pod.sh("touch /ro/outer; touch /ro/inner/made", mounts=mounts)
        assert not (tmp_path / "outer").exists()
        assert (inner / "made").exists() != recursive
        assert run.output.count("Read-only") == 1 + recursive
    finally:
        umount2(str(inner), UmountFlag.DETACH)


def test_sub_path_mounts_that_part_alone(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("inside\n")
    (tmp_path / "within").symlink_to("sub")
    mounts = [
        volume(tmp_path, "/dir", sub_path="sub"),
        volume(tmp_path, "/file", sub_path="sub/file", read_only=True),
        volume(tmp_path, "/linked", sub_path="within/file"),
    ]
    run = pod.sh("ls /dir; cat /file /linked; echo x > /file; mount | grep -c ' /file '", mounts=mounts)
    assert run.lines[:3] == ["file", "inside", "inside"]
    assert "Read-only" in run.output
    assert (tmp_path / "sub" / "file").read_text() == "inside\n"


def test_missing_sub_path_is_made_as_the_volume_is(pod: Pod, tmp_path: Path) -> None:
    shared = tmp_path / "volume"
    shared.mkdir()
    (shared / "there").mkdir()
    os.chown(shared, 0, 4711)
    shared.chmod(0o2777)
    mounts = [volume(shared, "/a", sub_path="new/deep"), volume(shared, "/b", sub_path="there/more")]
    assert pod.sh("touch /a/made /b/made", mounts=mounts).status == 0
    assert sorted(str(path.relative_to(shared)) for path in shared.rglob("made")) == [
        "new/deep/made",
        "there/more/made",
    ]
    for name in ("new", "new/deep"):
        found = (shared / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o2777, 0, 4711)


def test_missing_volume_is_refused(pod: Pod, tmp_path: Path) -> None:
    run = pod.run("true", mounts=[volume(tmp_path / "nothing", "/vol")])
    assert run.kind == "Invalid"
    assert run.error.startswith("volume mount /vol:")
    assert "nothing" in run.error


def test_volume_over_proc_is_refused(pod: Pod, tmp_path: Path) -> None:
    run = pod.run("true", mounts=[volume(tmp_path, "/proc/sys")])
    assert (run.kind, run.error) == ("Invalid", "mount /proc/sys: it would cover a part of /proc")


@pytest.mark.parametrize("target", ["/", "//", "/x/..", "."])
def test_volume_over_the_root_is_refused(pod: Pod, tmp_path: Path, target: str) -> None:
    run = pod.run("true", mounts=[volume(tmp_path, target)])
    assert (run.kind, run.error) == ("Invalid", "volume mount /: it would cover the root")


@pytest.mark.parametrize(("propagation", "seen"), [("private", ""), ("host-to-container", "late\n")])
def test_propagation(pod: Pod, tmp_path: Path, propagation: str, seen: str) -> None:
    source = tmp_path / "shared"
    (source / "sub").mkdir(parents=True)
    mount(str(source), str(source), None, MountFlag.BIND)
    mount("none", str(source), None, MountFlag.SHARED)
    try:
        child = pod.hold(["/bin/ls", "/vol/sub"], mounts=[volume(source, "/vol", propagation=propagation)])
        mount("tmpfs", str(source / "sub"), "tmpfs", MountFlag.NONE)
        (source / "sub" / "late").touch()
        child.release()
        assert child.read_output() == seen
        umount2(str(source / "sub"), UmountFlag.DETACH)
    finally:
        umount2(str(source), UmountFlag.DETACH)


@pytest.mark.parametrize("propagation", ["host-to-container", "bidirectional"])
def test_propagation_from_a_private_mount_is_refused(pod: Pod, tmp_path: Path, propagation: str) -> None:
    source = tmp_path / "private"
    source.mkdir()
    mount(str(source), str(source), None, MountFlag.BIND)
    mount("none", str(source), None, MountFlag.PRIVATE)
    try:
        run = pod.run("true", mounts=[volume(source, "/vol", propagation=propagation)])
    finally:
        umount2(str(source), UmountFlag.DETACH)
    assert run.kind == "Invalid"
    assert f"volume mount /vol: propagation {propagation}: {source} is on a private mount" in run.error


def test_bidirectional_propagation(pod: Pod, tmp_path: Path) -> None:
    source = tmp_path / "shared"
    (source / "sub").mkdir(parents=True)
    mount(str(source), str(source), None, MountFlag.BIND)
    mount("none", str(source), None, MountFlag.SHARED)
    try:
        changes: dict[str, Any] = {"privileged": True, "capabilities": capabilities.bounding_set()}
        mounts = [volume(source, "/vol", propagation="bidirectional")]
        assert pod.sh("mount -t tmpfs none /vol/sub && touch /vol/sub/made", mounts=mounts, **changes).status == 0
        assert os.listdir(source / "sub") == ["made"]
        umount2(str(source / "sub"), UmountFlag.DETACH)
    finally:
        umount2(str(source), UmountFlag.DETACH)


def test_files_of_the_pod_in_etc(pod: Pod) -> None:
    etc = Path(pod.plan["run_dir"], "etc")
    etc.mkdir()
    (etc / "hosts").write_text("127.0.0.1 the-pod\n")
    assert pod.sh("cat /etc/hosts").output == "127.0.0.1 the-pod\n"


def test_devices(pod: Pod) -> None:
    run = pod.sh("head -c 3 /dev/zero | od -An -tx1; echo gone > /dev/null; head -c1 /dev/urandom | wc -c; ls /dev")
    assert run.lines[:2] == [" 00 00 00", "1"]
    assert " ".join(run.lines[2:]) == ("fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero")


def test_stdout_can_be_opened_by_the_user_it_belongs_to(pod: Pod) -> None:
    assert pod.sh("echo through > /dev/stdout", uid=1234).output == "through\n"


def test_cgroup_is_joined_and_shown_as_the_root(pod: Pod) -> None:
    group = Layout.detect().group(f"podd-test-stage-{os.getpid()}")
    group.create()
    fds = group.entry_fds()
    try:
        managed = {h.mount for h in group.layout.hierarchies}
        run = pod.sh("cat /proc/self/cgroup; for d in /sys/fs/cgroup/*/; do echo $d; done", cgroups=fds)
        mine = [line for line in run.lines if line.endswith(":/")]
        assert len(mine) >= len(managed)
        for h in group.layout.hierarchies:
            if len(managed) > 1:
                assert f"{h.mount}/" in run.lines
    finally:
        for fd in fds:
            os.close(fd)
        group.remove(1.0)


# ---- who it is and what it gets --------------------------------------------------------------------------------------


def test_environment_is_the_plans_and_what_a_runtime_adds(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the daemon")
    run = pod.run("env", env=[("A", "1"), ("A", "2"), ("EMPTY", ""), ("SPACE", " x=y ")])
    assert sorted(run.lines) == [
        "A=2",
        "EMPTY=",
        "HOME=/root",
        "HOSTNAME=web",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SPACE= x=y ",
    ]


def test_environment_of_the_plan_wins(pod: Pod) -> None:
    given = [("HOME", "/h"), ("PATH", "/bin:/usr/bin"), ("HOSTNAME", "mine")]
    assert sorted(pod.run("env", env=given).lines) == ["HOME=/h", "HOSTNAME=mine", "PATH=/bin:/usr/bin"]


def test_user_and_groups_come_from_the_containers_own_files(make_pod: MakePod, tmp_path: Path) -> None:
    etc = tmp_path / "rootfs" / "etc"
    etc.mkdir(parents=True)
    (etc / "passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1001:2002::/home/app:/bin/sh\n")
    (etc / "group").write_text("app:x:2002:\nextra:x:3003:other,app\nno:x:4004:apple\n")
    run = make_pod().sh(
        "id -u; id -g; id -G; echo $HOME",
        lowers=[str(tmp_path / "rootfs")],
        mounts=host_programs(),
        uid=1001,
        supplemental_groups=[5005],
    )
    assert run.lines == ["1001", "2002", "2002 3003 5005", "/home/app"]


def test_unknown_user_has_group_0_and_home_at_the_root(pod: Pod) -> None:
    assert pod.sh("id -u; id -g; id -G; echo $HOME", uid=54321).lines == ["54321", "0", "0", "/"]


def test_run_as_non_root_is_refused_for_root(pod: Pod) -> None:
    run = pod.run("true", run_as_non_root=True)
    assert run.kind == "Invalid"
    assert "runAsNonRoot" in run.error
    assert pod.run("true", run_as_non_root=True, uid=1).status == 0


def test_working_dir_is_made(pod: Pod) -> None:
    assert pod.run("pwd", working_dir="/a/new/place").output == "/a/new/place\n"


def test_working_dir_that_is_a_file_is_refused(pod: Pod) -> None:
    run = pod.run("true", working_dir="/etc/passwd")
    assert run.kind == "Invalid"
    assert run.error.startswith("workingDir /etc/passwd: ")


def test_rlimits(pod: Pod) -> None:
    run = pod.sh("ulimit -n; ulimit -Hn; ulimit -c", rlimits={"RLIMIT_NOFILE": (100, 200), "RLIMIT_CORE": (0, 0)})
    assert (run.lines, run.notes) == (["100", "200", "0"], [])


def test_open_files_are_limited_to_what_programs_expect(pod: Pod) -> None:
    """Whatever podd allows itself; programs may raise it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        run = pod.sh("ulimit -n; ulimit -Hn")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert run.lines == ["1024", str(hard)]


def test_rlimit_beyond_reach_goes_as_far_as_it_may(pod: Pod) -> None:
    if capabilities.bounding_set() >> capabilities.BITS["SYS_RESOURCE"] & 1:
        pytest.skip("podd holds SYS_RESOURCE here and may raise every limit")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    run = pod.sh("ulimit -Hn", rlimits={"RLIMIT_NOFILE": (hard + 1, hard + 1)})
    assert run.lines == [str(hard)]
    assert run.notes == [f"rlimit RLIMIT_NOFILE {hard + 1}:{hard + 1}: not permitted here, is {hard}:{hard}"]


def test_oom_score_adj(pod: Pod) -> None:
    assert pod.run("cat", "/proc/self/oom_score_adj", oom_score_adj=321).output == "321\n"
    run = pod.run("true", oom_score_adj=-999)
    if not capabilities.bounding_set() >> capabilities.BITS["SYS_RESOURCE"] & 1:
        assert run.notes == ["oom_score_adj -999: not permitted here"]


def test_signals_are_as_a_program_expects_them(pod: Pod) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        status = pod.run("cat", "/proc/self/status").status_lines
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert {status["SigIgn"], status["SigBlk"], status["SigCgt"]} == {"0" * 16}
    assert status["Umask"] == "0022"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="knows the system call's number on x86_64 only")
def test_signals_that_libc_keeps_to_itself_are_not_ignored_either(pod: Pod) -> None:
    """As in whatever was started by posix_spawn, make's commands among them."""
    libc = ctypes.CDLL(None)
    ignore, default = (1).to_bytes(8, "little").ljust(32, b"\0"), bytes(32)
    assert libc.syscall(13, 32, ignore, None, 8) == 0
    try:
        status = pod.run("cat", "/proc/self/status").status_lines
    finally:
        libc.syscall(13, 32, default, None, 8)
    assert status["SigIgn"] == "0" * 16


def test_session_is_its_own(pod: Pod) -> None:
    assert pod.sh("cut -d ' ' -f 5,6,7 /proc/self/stat").output == "1 1 0\n"


# ---- the command -----------------------------------------------------------------------------------------------------

COMMANDS: dict[str, tuple[list[str], dict[str, str], str]] = {
    "missing": (["no-such-command"], {}, 'command "no-such-command": not found in PATH (/usr/local/sbin:'),
    "missing path": (["/no/such"], {}, 'command "/no/such": no such file or directory'),
    "empty": ([""], {}, "command: it is empty"),
    "none": ([], {}, "command: it is empty"),
    "directory": (["/etc"], {}, 'command "/etc": not a file'),
    "not executable": (["/x/plain"], {"plain": "text"}, 'command "/x/plain": not executable for this user'),
    "text": (["/x/+text"], {"+text": "echo hi"}, 'command "/x/+text": /x/+text is neither an ELF program'),
    "no interpreter": (["/x/+s"], {"+s": "#!/no/sh\n"}, 'command "/x/+s": interpreter "/no/sh": no such file'),
    "bare interpreter": (["/x/+s"], {"+s": "#!\n"}, 'command "/x/+s": its "#!" line names no interpreter'),
    "script of scripts": (["/x/+a"], {"+a": "#!/x/+a\n"}, 'command "/x/+a": too many interpreters in a row'),
}


@pytest.mark.parametrize(("argv", "files", "error"), COMMANDS.values(), ids=COMMANDS)
def test_command_that_cannot_run_is_known_before_the_release(
    pod: Pod, tmp_path: Path, argv: list[str], files: dict[str, str], error: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755 if name.startswith("+") else 0o644)
    if "ELF" in error and os.path.exists("/proc/sys/fs/binfmt_misc/register"):
        pytest.skip("this host runs other formats (binfmt_misc), so the kernel alone can tell")
    run = pod.run(*argv, mounts=[volume(tmp_path, "/x")])
    assert run.kind == "Invalid"
    assert run.error.startswith(error)


def test_what_only_execve_finds_out_is_told_after_the_release(pod: Pod) -> None:
    child = pod.hold(["true"], env=[("BIG", "x" * (1 << 18))])
    assert not child.notes
    with pytest.raises(NotRunnable, match=r'^command "true": argument list too long$'):
        child.release()
    assert child.wait() == 126


@pytest.mark.parametrize(
    ("argv", "env"),
    [(["echo", "a\0b"], []), (["echo"], [("A", "\0")]), (["echo"], [("A=B", "")]), (["echo"], [("", "x")])],
)
def test_what_the_kernel_cannot_take_is_known_before_the_release(
    pod: Pod, argv: list[str], env: list[tuple[str, str]]
) -> None:
    run = pod.run(*argv, env=env)
    assert (run.kind, run.output) == ("Invalid", "")


def test_program_with_a_missing_loader_is_refused(pod: Pod, tmp_path: Path) -> None:
    program = bytearray(Path("/bin/true").read_bytes())
    at = program.index(b"/ld-linux")
    program[at : at + 9] = b"/no-linux"
    (tmp_path / "true").write_bytes(program)
    (tmp_path / "true").chmod(0o755)
    run = pod.run("/x/true", mounts=[volume(tmp_path, "/x")])
    assert "no-linux" in run.error


def test_command_is_looked_up_as_the_user(pod: Pod, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text(f"#!/bin/sh\necho {name}\n")
    (tmp_path / "first" / "tool").chmod(0o700)
    (tmp_path / "second" / "tool").chmod(0o755)
    (tmp_path).chmod(0o755)
    changes: dict[str, Any] = {"mounts": [volume(tmp_path, "/x")], "env": [("PATH", "/x/first:/x/second:/bin")]}
    assert pod.run("tool", **changes).output == "first\n"
    assert pod.run("tool", uid=1234, **changes).output == "second\n"


def test_relative_command_is_relative_to_the_working_dir(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "tool").chmod(0o755)
    assert pod.run("./tool", working_dir="/x", mounts=[volume(tmp_path, "/x")]).output == "here\n"


# ---- terminals and exec ----------------------------------------------------------------------------------------------


def test_terminal(pod: Pod) -> None:
    run = pod.sh("tty; tty < /dev/console; echo $TERM; echo by name > /dev/tty; stat -c %u $(tty)", tty=True, uid=77)
    assert run.output.splitlines() == ["/dev/pts/0", "/dev/console", "xterm", "by name", "77"]


def test_exec_joins_the_container(pod: Pod) -> None:
    with pod.running(env=[("A", "1"), ("B", "2")], working_dir="/tmp", uid=1234, supplemental_groups=[7]) as (
        plan,
        pidfd,
    ):
        run = pod.exec(plan, pidfd, "/bin/sh", "-c", "echo $A$B; pwd; id -u; id -G; cat /proc/1/comm", env=[("B", "3")])
        assert run.lines == ["13", "/tmp", "1234", "0 7", "sh"]
        child = pod.exec_hold(plan, pidfd, ["true"])
        container = int(Path(f"/proc/self/fdinfo/{pidfd}").read_text().split("Pid:")[1].split()[0])
        assert namespaces(child.pid) == namespaces(container)
        child.close()


def test_exec_in_shared_pids_sees_them(make_pod: MakePod) -> None:
    pod = make_pod(pid="pod")
    with pod.running() as (plan, pidfd):
        assert pod.exec(plan, pidfd, "cat", "/proc/1/comm").output == "podd-init\n"


def test_exec_with_a_terminal(pod: Pod) -> None:
    with pod.running() as (plan, pidfd):
        run = pod.exec(plan, pidfd, "/bin/sh", "-c", "tty; test -t 0 -a -t 1 -a -t 2; echo $?; stty size", tty=True)
        assert run.output.splitlines() == ["/dev/pts/0", "0", "24 80"]


def test_exec_of_what_is_not_there(pod: Pod) -> None:
    with pod.running() as (plan, pidfd):
        run = pod.exec(plan, pidfd, "no-such-command")
        assert run.kind == "Invalid"


def test_exec_in_what_has_ended_is_a_conflict(pod: Pod) -> None:
    with pod.running() as (plan, pidfd):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], 10)[0]
        assert pod.exec(plan, pidfd, "true").kind == "Conflict"


@pytest.mark.parametrize("what", ["memory_program", "_spawn_code"])
def test_without_a_program_for_its_script(pod: Pod, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(spawn, what, refuse)
    assert pod.sh("id -u; pwd", uid=7, working_dir="/tmp", tty=True).lines == ["7", "/tmp"]
    with pod.running() as (plan, pidfd):
        assert pod.exec(plan, pidfd, "cat", "/proc/1/comm").output == "sh\n"
        assert pod.exec(plan, pidfd, "no-such-command").kind == "Invalid"


def refuse(*_: object) -> int:
    raise PermissionError(errno.EACCES, "forbidden here")


# ---- leaving nothing behind ------------------------------------------------------------------------------------------


def test_container_beside_an_init_that_has_ended_is_a_conflict(make_pod: MakePod) -> None:
    pod = make_pod(pid="pod")
    assert pod.init_pid is not None
    os.kill(pod.init_pid, signal.SIGKILL)
    os.waitpid(pod.init_pid, 0)
    pod.init_pid = None
    run = pod.run("true")
    assert (run.kind, run.error) == ("Conflict", "container: the init of the pod's pid namespace has ended")


def test_failed_sandbox_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no_such_thing"):
        Pod(tmp_path / "pod", {"pid": "pod", "sysctls": {"net.ipv4.no_such_thing": "1"}})
    assert not (tmp_path / "pod" / "run" / "ns").exists()
    assert mounts_below(tmp_path) == []


def test_pins_and_shm_are_removed_and_again_is_quiet(make_pod: MakePod, tmp_path: Path) -> None:
    pod = make_pod(pid="pod")
    assert len(mounts_below(tmp_path)) == 5
    assert sorted(os.listdir(pod.ns_dir)) == ["ipc", "net", "pid", "uts"]
    pod.close()
    pod.init_pid = None
    pod.close()
    assert os.listdir(pod.plan["run_dir"]) == []
    assert mounts_below(tmp_path) == []


def test_more_layers_than_an_older_kernel_takes_one_by_one(
    pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux before 6.8 says that it does not know how; then it goes by a detour."""

    def too_old(*_: object) -> int:
        raise OSError(errno.EINVAL, "lowerdir+")

    lowers = [str(tmp_path / f"layer{n}") for n in range(60)]
    for path in lowers:
        os.mkdir(path)
        Path(path, "which").write_text(path)
        Path(path, os.path.basename(path)).touch()
    monkeypatch.setattr("podd.linux.mounts.overlay", too_old)
    script = "cat /which; echo; ls -d /layer* | wc -l; echo new > /new && cat /new"
    run = pod.sh(script, lowers=lowers, mounts=host_programs())
    assert run.lines == [lowers[0], "60", "new"]
