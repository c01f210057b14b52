"""The leak audit, by leaking one thing of each kind on purpose."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from podd.linux.cgroup import Layout
from podd.testing import audit

SLEEP = "READY; signal.pause()"
PARENT = f"podd-audit-{os.getpid()}"


class Host:
    """Makes things that outlive their maker, and takes them away at the end of the test."""

    def __init__(self, root: Path, undo: ExitStack) -> None:
        self.root = root
        self.undo = undo

    def look(self, daemon: int | None = None) -> audit.Snapshot:
        return audit.snapshot([str(self.root)], cgroup_parent=PARENT, daemon=daemon)

    def run(self, program: str, *argv: str, cwd: str = "/", orphan: bool = False) -> int:
        """Start Python and wait for READY in the program; as an orphan it has no ancestor that the audit knows.

        Where it has said so it has closed that pipe too: what it holds then is what it has until the test does more.
        """
        ready = "print(os.getpid(), flush=True); os.close(1)"
        prelude = "import os, signal\n" + ("if os.fork(): os._exit(0)\nos.setsid()\n" if orphan else "")
        command = [sys.executable, "-c", prelude + program.replace("READY", ready), *argv]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=cwd)
        assert child.stdout is not None
        with child.stdout:
            pid = int(child.stdout.read())
        self.undo.callback(end, child, pid)
        if orphan:
            child.wait()
        return pid

    def mount(self, *arguments: str, target: Path) -> None:
        target.mkdir(exist_ok=True)
        subprocess.run(["mount", *arguments, str(target)], check=True)
        self.undo.callback(subprocess.run, ["umount", "-l", str(target)], check=True)


def end(child: subprocess.Popen[bytes], pid: int) -> None:
    kill(pid)
    child.wait()


def kill(pid: int) -> None:
    """Return when it has ended; some init reaps it when it likes."""
    fd = os.pidfd_open(pid)
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    ended, _, _ = select.select([fd], [], [], 10)
    os.close(fd)
    assert ended


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    root = tmp_path / "run"
    root.mkdir()
    with ExitStack() as undo:
        yield Host(root, undo)


def found(before: audit.Snapshot, after: audit.Snapshot, kind: str) -> list[audit.Leak]:
    return [leak for leak in audit.leaks(before, after) if leak.kind == kind]


def only(before: audit.Snapshot, after: audit.Snapshot) -> audit.Leak:
    left = audit.leaks(before, after)
    assert len(left) == 1, left
    return left[0]


def test_nothing_changed_is_clean(host: Host) -> None:
    before = host.look()
    audit.assert_clean(before, host.look())


def test_a_report_names_each_thing_and_its_holder(host: Host) -> None:
    before = host.look()
    (host.root / "shim.sock").touch()
    pid = host.run(SLEEP)
    with pytest.raises(AssertionError) as caught:
        audit.assert_clean(before, host.look())
    report = str(caught.value).splitlines()
    assert report[0] == "left behind: 1 file, 1 process"
    assert report[1] == f"  file: {host.root}/shim.sock"
    assert report[2].startswith(f"  process: pid {pid} (")
    assert f"<- child of pid {os.getpid()} (" in report[2]
    audit.assert_clean(before, host.look(), ignoring=[r"^process: ", r"shim\.sock$"])


# ---- processes -------------------------------------------------------------------------------------------------------


def in_cgroup(host: Host) -> int:
    layout = Layout.detect()
    group = layout.group(f"{PARENT}/pod")
    host.undo.callback(layout.group(PARENT).remove)
    group.create()
    pid = host.run(SLEEP, orphan=True)
    group.add(pid)
    return pid


BLAMED: dict[str, Callable[[Host], int]] = {
    "a child of the test": lambda host: host.run(SLEEP),
    "an orphan with a directory of ours in its arguments": lambda host: host.run(
        SLEEP, f"--to={host.root}", orphan=True
    ),
    "an orphan working in our directory": lambda host: host.run(SLEEP, cwd=str(host.root), orphan=True),
    "an orphan with one of our files open": lambda host: host.run(
        f"f = open('{host.root.parent}/../{host.root.parent.name}/run/log', 'w')\n{SLEEP}", orphan=True
    ),
}


@pytest.mark.root
@pytest.mark.parametrize("how", BLAMED)
def test_a_process_is_blamed(host: Host, how: str) -> None:
    before = host.look()
    pid = BLAMED[how](host)
    (leak,) = found(before, host.look(), "process")
    assert leak.what.startswith(f"pid {pid} (")


@pytest.mark.root
def test_an_orphan_in_our_cgroup_is_blamed_and_so_is_the_cgroup(host: Host) -> None:
    before = host.look()
    pid = in_cgroup(host)
    after = host.look()
    (leak,) = found(before, after, "process")
    assert leak.what.startswith(f"pid {pid} (")
    assert f"in cgroup /{PARENT}/pod" in leak.what
    groups = found(before, after, "cgroup")
    assert {group.what for group in groups} == {f"{h.mount}/{PARENT}/pod" for h in Layout.detect().hierarchies}
    assert {group.held_by for group in groups} == {f"processes {pid}"}


@pytest.mark.root
def test_what_a_blamed_process_started_is_blamed(host: Host) -> None:
    before = host.look()
    program = "if os.fork(): READY; os.wait()\nelse: os.close(1); os.execv('/bin/sleep', ['sleep', '100'])"
    parent = host.run(program, str(host.root), orphan=True)
    deadline = time.monotonic() + 10
    while not (child := Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
        assert time.monotonic() < deadline
    host.undo.callback(kill, int(child[0]))
    pids = {leak.what.split()[1] for leak in found(before, host.look(), "process")}
    assert pids == {str(parent), *child}


@pytest.mark.root
def test_somebody_elses_process_is_told_only_of_the_whole_host(host: Host) -> None:
    before = host.look()
    pid = host.run(SLEEP, orphan=True)
    after = host.look()
    audit.assert_clean(before, after)
    assert any(f"pid {pid} (" in leak.what for leak in audit.leaks(before, after, whole_host=True))


def test_a_zombie_is_told_with_the_parent_that_forgot_it(host: Host) -> None:
    before = host.look()
    parent = host.run("if not os.fork(): os._exit(0)\n" + SLEEP)
    deadline = time.monotonic() + 10
    while not found(before, host.look(), "zombie"):
        assert time.monotonic() < deadline
    (leak,) = found(before, host.look(), "zombie")
    assert leak.held_by.startswith(f"child of pid {parent} (")


# ---- mounts and namespaces -------------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_mount_in_our_directory_is_told_but_not_what_is_in_it(host: Host) -> None:
    point = host.root / "shm"
    point.mkdir()
    before = host.look()
    host.mount("-t", "tmpfs", "podd-test", target=point)
    (point / "data").touch()
    assert only(before, host.look()) == audit.Leak("mount", f"{point} (tmpfs podd-test)", "")


@pytest.mark.root
def test_a_mount_elsewhere_made_of_our_directories_is_told(host: Host, tmp_path: Path) -> None:
    for name in ("lower", "upper", "work"):
        (host.root / name).mkdir()
    elsewhere = tmp_path / "elsewhere"
    before = host.look()
    options = f"lowerdir={host.root}/lower,upperdir={host.root}/upper,workdir={host.root}/work"
    host.mount("-t", "overlay", "overlay", "-o", options, target=elsewhere)
    assert {leak.what for leak in found(before, host.look(), "mount")} == {f"{elsewhere} (overlay overlay)"}


@pytest.mark.root
def test_a_bind_mount_of_the_whole_host_is_not_walked(host: Host) -> None:
    point = host.root / "rootfs"
    point.mkdir()
    before = host.look()
    host.mount("--bind", "/", target=point)
    assert only(before, host.look()).kind == "mount"


@contextmanager
def in_namespaces(*flags: str) -> Iterator[int]:
    """A process, no child of this one, in new namespaces."""
    script = "sleep 1000 & echo $!"
    out = subprocess.run(
        ["setsid", "unshare", *flags, "sh", "-c", f"{script.replace('&', '>/dev/null 2>&1 &')}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    pid = int(out)
    try:
        yield pid
    finally:
        kill(pid)


@pytest.mark.root
def test_a_pinned_namespace_is_told_with_its_pin(host: Host) -> None:
    pin = host.root / "uts"
    pin.touch()
    before = host.look()
    with in_namespaces("--uts") as pid:
        name = os.readlink(f"/proc/{pid}/ns/uts")
        subprocess.run(["mount", "--bind", f"/proc/{pid}/ns/uts", str(pin)], check=True)
        host.undo.callback(subprocess.run, ["umount", str(pin)], check=True)
        inside = found(before, host.look(), "process")
        assert [leak.what.split()[1] for leak in inside] == [str(pid)], "who is in our namespace is ours"
    after = host.look()
    assert found(before, after, "namespace") == [audit.Leak("namespace", name, f"pinned at {pin}")]
    assert [leak.what for leak in found(before, after, "mount")] == [f"{pin} (nsfs {name})"]


@pytest.mark.root
def test_a_namespace_that_only_a_descriptor_holds_is_told(host: Host) -> None:
    before = host.look()
    with in_namespaces("--net", "--ipc") as pid:
        name = os.readlink(f"/proc/{pid}/ns/net")
        held = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        host.undo.callback(os.close, held)
    leak = only(before, host.look())
    assert (leak.kind, leak.what) == ("namespace", name)
    assert leak.held_by.startswith(f"pid {os.getpid()} (")
    assert leak.held_by.endswith(f" by descriptor {held}")


@pytest.mark.root
def test_somebody_elses_namespace_is_told_only_of_the_whole_host(host: Host) -> None:
    before = host.look()
    with in_namespaces("--uts") as pid:
        name = os.readlink(f"/proc/{pid}/ns/uts")
        after = host.look()
    audit.assert_clean(before, after)
    assert name in {leak.what for leak in audit.leaks(before, after, whole_host=True)}


# ---- cgroups, files, interfaces --------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_cgroup_left_in_one_hierarchy_alone_is_told(host: Host) -> None:
    last = Layout.detect().hierarchies[-1].mount
    before = host.look()
    os.makedirs(f"{last}/{PARENT}/pods/p1")
    for path in (PARENT, f"{PARENT}/pods", f"{PARENT}/pods/p1"):
        host.undo.callback(os.rmdir, f"{last}/{path}")
    kinds = [(leak.kind, leak.what) for leak in audit.leaks(before, host.look())]
    assert kinds == [("cgroup", f"{last}/{PARENT}/pods"), ("cgroup", f"{last}/{PARENT}/pods/p1")]


def test_files_are_told_wherever_they_are(host: Host) -> None:
    (host.root / "pods").mkdir()
    before = host.look()
    (host.root / "pods/a").mkdir()
    (host.root / "pods/a/exit.json").touch()
    (host.root / "dangling").symlink_to("/nowhere")
    assert [leak.what for leak in audit.leaks(before, host.look())] == [
        f"{host.root}/dangling",
        f"{host.root}/pods/a/",
        f"{host.root}/pods/a/exit.json",
    ]


@pytest.mark.root
def test_a_network_interface_is_told(host: Host) -> None:
    if shutil.which("ip") is None:
        pytest.skip("needs the ip command")
    name = f"podd{os.getpid()}"
    before = host.look()
    made = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"cannot add a bridge: {made.stderr}")
    host.undo.callback(subprocess.run, ["ip", "link", "del", name], check=True)
    assert audit.Leak("interface", name, "") in audit.leaks(before, host.look())


# ---- descriptors -----------------------------------------------------------------------------------------------------

OPENER = """
import select, socket, sys
kept = []
def leak():
    kept.append(socket.socket(socket.AF_UNIX)); kept[-1].bind(sys.argv[1])
    kept.append(socket.socket(socket.AF_INET))
    kept.append(os.pipe())
    kept.append(select.epoll())
    kept.append(open("/etc/passwd"))
    kept.append(open("/proc/self/stat"))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
READY
signal.sigwait([signal.SIGUSR1])
leak()
os.symlink("x", sys.argv[1] + ".done")
signal.pause()
"""


def test_descriptors_of_the_daemon_are_told_by_what_they_are(host: Host, tmp_path: Path) -> None:
    outside = tmp_path / "sock"
    daemon = host.run(OPENER, str(outside))
    before = host.look(daemon)
    os.kill(daemon, signal.SIGUSR1)
    deadline = time.monotonic() + 10
    while not outside.with_suffix(".done").is_symlink():
        assert time.monotonic() < deadline
    left = audit.leaks(before, host.look(daemon))
    assert {leak.kind for leak in left} == {"descriptor"}
    assert {leak.what for leak in left} == {
        f"1 more of socket {outside}",
        "1 more of socket",
        "2 more of pipe:[N]",
        "1 more of anon_inode:[eventpoll]",
        "1 more of /etc/passwd",
        "1 more of /proc/N/stat",
    }
    assert all(leak.held_by.startswith(f"pid {daemon}, ") for leak in left)


def test_descriptors_that_change_their_number_are_no_leak(host: Host) -> None:
    def snapshot_with(*numbers: str) -> audit.Snapshot:
        return audit.Snapshot({}, {"pipe:[N]": numbers}, 1)

    assert audit.leaks(snapshot_with("3", "4"), snapshot_with("8", "9")) == []
    assert audit.leaks(snapshot_with("3", "4"), snapshot_with("9")) == []
    assert len(audit.leaks(snapshot_with("3"), snapshot_with("8", "9"))) == 1
