"""Control groups: the v2 rules on a tree that plays the kernel, everything else on the kernel itself."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.errors import Conflict, Invalid, NotFound, Unavailable, Unsupported
from podd.linux import cgroup
from podd.linux.cgroup import Group, Hierarchy, Layout, default_parent, fork_into, place_supervisors, prepare_parent
from podd.linux.cgroup.knobs import shares_of, weight_of
from podd.linux.cgroup.layout import POD_UNIT

MIB = 1 << 20


# ---- which hierarchies -----------------------------------------------------------------------------------------------

MOUNTS = {
    "v2": "30 23 0:26 / {root} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    "hybrid": (
        "31 23 0:28 / {root} ro shared:9 - tmpfs tmpfs ro,mode=755\n"
        "32 31 0:29 / {root}/unified rw - cgroup2 cgroup2 rw\n"
        "33 31 0:30 / {root}/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct\n"
        "34 31 0:31 / {root}/memory rw - cgroup cgroup rw,memory\n"
        "35 31 0:32 / {root}/freezer rw - cgroup cgroup rw,freezer\n"
        "36 31 0:33 / {root}/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    ),
    "v1": (
        "33 31 0:30 / {root}/cpu\\040and\\040more rw - cgroup cgroup rw,cpuacct,cpu\n"
        "34 31 0:31 / {root}/memory rw - cgroup cgroup rw,memory\n"
        "35 31 0:32 / {root}/freezer rw - cgroup cgroup rw,freezer\n"
        "36 31 0:33 / {root}/pids rw - cgroup cgroup rw,pids\n"
    ),
    "none": "21 1 8:1 / / rw,relatime - ext4 /dev/vda rw\n",
}


def detect(tmp_path: Path, name: str, controllers: str = "cpuset cpu io memory hugetlb pids") -> Layout:
    (tmp_path / "unified").mkdir(exist_ok=True)
    (tmp_path / "cgroup.controllers").write_text(f"{controllers}\n")
    (tmp_path / "unified/cgroup.controllers").write_text("\n")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS[name].format(root=tmp_path))
    return Layout.detect(str(mountinfo))


@pytest.mark.parametrize(
    ("name", "places", "missing"),
    [
        ("v2", {"cpu": "", "memory": "", "pids": "", "freezer": None}, ()),
        ("hybrid", {"cpu": "cpu,cpuacct", "memory": "memory", "pids": None, "freezer": None}, ("pids",)),
        ("v1", {"cpu": "cpu and more", "cpuacct": "cpu and more", "pids": "pids", "freezer": "freezer"}, ()),
    ],
)
def test_a_controller_is_where_it_is_mounted(
    tmp_path: Path, name: str, places: dict[str, str | None], missing: tuple[str, ...]
) -> None:
    layout = detect(tmp_path, name)
    assert layout.kind == name
    assert layout.missing == missing
    for controller, place in places.items():
        hierarchy = layout.of(controller)
        assert (hierarchy and hierarchy.mount) == (place if place is None else f"{tmp_path}/{place}".rstrip("/"))
    assert [h.version for h in layout.hierarchies] == sorted((h.version for h in layout.hierarchies), reverse=True)
    assert len(set(layout.hierarchies)) == len(layout.hierarchies), "a hierarchy of two controllers is one hierarchy"


def test_a_controller_kept_back_from_v2_is_missing(tmp_path: Path) -> None:
    assert detect(tmp_path, "v2", controllers="cpuset memory").missing == ("cpu", "pids")


def test_without_any_hierarchy_the_remedy_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="mount -t cgroup2"):
        detect(tmp_path, "none")


@pytest.mark.parametrize(
    "path", ["", "/podd", "podd/", "podd//pods", "podd/../x", ".", "podd/cgroup.procs", "a\nb", "a\0"]
)
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(Invalid):
        detect(tmp_path, "v2").group(path)


@pytest.mark.parametrize("name", ["", "..", "a/b", "/", "cgroup.kill"])
def test_a_childs_name_is_one_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        detect(tmp_path, "v2").group("podd").child(name)


# ---- shares and weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "weight"), [(2, 1), (1024, 100), (262144, 10000), (512, 59), (0, 1), (1 << 30, 10000)]
)
def test_weights_meet_the_points_that_runtimes_agreed_on(shares: int, weight: int) -> None:
    assert weight_of(shares) == weight


@given(st.integers(2, 262143))
def test_more_shares_never_weigh_less(shares: int) -> None:
    assert 1 <= weight_of(shares) <= weight_of(shares + 1) <= 10000


@given(st.integers(1, 10000))
def test_shares_of_a_weight_give_at_least_that_weight(weight: int) -> None:
    shares = shares_of(weight)
    assert weight_of(shares) >= weight
    assert shares == 2 or weight_of(shares - 1) < weight


# ---- a tree that plays the v2 kernel ---------------------------------------------------------------------------------


class Kernel:
    """What cgroup v2 does when a group is made and when controllers are enabled, on a plain directory."""

    FILES = {
        "cpu": {"cpu.max": "max 100000\n", "cpu.weight": "100\n"},
        "memory": {
            "memory.current": "0\n",
            "memory.high": "max\n",
            "memory.max": "max\n",
            "memory.oom.group": "0\n",
            "memory.swap.max": "max\n",
        },
        "pids": {"pids.max": "max\n", "pids.current": "0\n"},
    }

    def __init__(self, root: Path, controllers: str) -> None:
        self.root = root
        self.writes: list[tuple[str, str]] = []
        self.real_mkdir = os.mkdir
        self.populate(root, set(controllers.split()))

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "mkdir", self.mkdir)
        for module in (cgroup.tree, cgroup.layout, cgroup.knobs):
            monkeypatch.setattr(module, "write", self.write)

    def populate(self, group: Path, controllers: set[str]) -> None:
        (group / "cgroup.controllers").write_text(" ".join(sorted(controllers)) + "\n")
        (group / "cgroup.subtree_control").write_text("\n")
        (group / "cgroup.procs").write_text("")
        self.offer(group, controllers)

    def offer(self, group: Path, controllers: set[str]) -> None:
        for controller in controllers:
            for file, text in self.FILES.get(controller, {}).items():
                (group / file).write_text(text)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self.real_mkdir(path, mode)
        parent = Path(path).parent
        if parent.is_relative_to(self.root):
            self.populate(Path(path), set((parent / "cgroup.subtree_control").read_text().split()))

    def write(self, path: str, text: str) -> None:
        file = Path(path)
        self.writes.append((str(file.relative_to(self.root)), text))
        if file.name == "cgroup.subtree_control":
            self.enable(file.parent, text.removeprefix("+"))
        elif file.name == "cgroup.procs":
            for other in self.root.rglob("cgroup.procs"):
                other.write_text("".join(f"{pid}\n" for pid in other.read_text().split() if pid != text))
            file.write_text(file.read_text() + f"{text}\n")
        else:
            assert file.exists(), path
            file.write_text(f"{text}\n")

    def enable(self, group: Path, controller: str) -> None:
        if controller not in (group / "cgroup.controllers").read_text().split():
            raise OSError(errno.ENOENT, "no such controller", str(group))
        is_root = group == self.root and not (group / "cgroup.type").exists()
        if not is_root and (group / "cgroup.procs").read_text():
            raise OSError(errno.EBUSY, "busy", str(group))
        control = group / "cgroup.subtree_control"
        control.write_text(f"{control.read_text().strip()} {controller}\n")
        for child in group.iterdir():
            if child.is_dir():
                has = child / "cgroup.controllers"
                has.write_text(f"{has.read_text().strip()} {controller}\n")
                self.offer(child, {controller})


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    played = Kernel(tmp_path, "cpuset cpu io memory pids")
    played.install(monkeypatch)
    return played


def v2(root: Path, *controllers: str) -> Layout:
    return Layout((Hierarchy(str(root), 2, frozenset(controllers or ("cpu", "memory", "pids"))),))


def test_controllers_are_enabled_from_the_top_down_and_only_once(kernel: Kernel) -> None:
    layout = v2(kernel.root)
    layout.group("podd/pods/p1").create()
    enabled = [(path.removesuffix("cgroup.subtree_control").rstrip("/"), text) for path, text in kernel.writes]
    assert enabled == [(group, c) for group in ("", "podd", "podd/pods") for c in ("+cpu", "+memory", "+pids")]
    kernel.writes.clear()
    layout.group("podd/pods/p2").create()
    layout.group("podd/pods/p2").create()
    assert kernel.writes == []
    assert (kernel.root / "podd/pods/p2/cgroup.controllers").read_text().split() == ["cpu", "memory", "pids"]


def test_a_group_with_processes_cannot_have_children_with_controllers(kernel: Kernel) -> None:
    layout = v2(kernel.root)
    pod = layout.group("podd/pods/p1")
    pod.create()
    (kernel.root / "podd/pods/p1/cgroup.procs").write_text(f"{os.getpid()}\n")
    with pytest.raises(Conflict, match=rf"p1: cannot enable cpu .* {os.getpid()} \(.*Delegate=yes"):
        pod.child("web").create()


def test_limits_go_to_the_v2_files_and_come_back(kernel: Kernel) -> None:
    group = v2(kernel.root).group("podd/p")
    group.create()
    limits: cgroup.Limits = {"cpu_quota_us": 20000, "cpu_shares": 205, "memory_bytes": 64 * MIB + 1, "pids": 7}
    assert group.apply(limits) == ()
    asked = {
        "cpu.max": "20000 100000",
        "cpu.weight": str(weight_of(205)),
        "memory.max": str(64 * MIB),
        "memory.swap.max": "0",
        "pids.max": "7",
    }
    assert {name: (kernel.root / "podd/p" / name).read_text().strip() for name in asked} == asked
    assert group.read_limits(limits) == {**limits, "cpu_period_us": 100_000}
    assert group.read_limits()["memory_bytes"] == 64 * MIB
    assert group.apply({}) == ()
    assert set(group.read_limits().values()) == {None, 100_000}
    assert (kernel.root / "podd/p/memory.swap.max").read_text() == "max\n"


@pytest.mark.parametrize("can_be_reclaimed", [True, False])
def test_v2_is_not_made_to_kill_by_a_limit_below_what_is_in_use(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, can_be_reclaimed: bool
) -> None:
    group = v2(kernel.root).group("p")
    group.create()
    group.apply({"memory_bytes": 64 * MIB, "cpu_quota_us": 20_000})
    (kernel.root / "p/memory.current").write_text(f"{48 * MIB}\n")

    def write(path: str, text: str) -> None:
        kernel.write(path, text)
        if can_be_reclaimed and path.endswith("/memory.high"):
            (kernel.root / "p/memory.current").write_text(f"{8 * MIB}\n")

    monkeypatch.setattr(cgroup.knobs, "write", write)
    smaller: cgroup.Limits = {"memory_bytes": 16 * MIB, "cpu_quota_us": 10_000}
    if can_be_reclaimed:
        assert group.change(smaller)["memory_bytes"] == 16 * MIB
    else:
        with pytest.raises(Conflict, match=r"memory\.max: more is in use"):
            group.change(smaller)
        assert (group.read_limits()["memory_bytes"], group.read_limits()["cpu_quota_us"]) == (64 * MIB, 20_000)
    assert (kernel.root / "p/memory.high").read_text() == "max\n"


def test_a_group_that_dies_together_is_marked_so(kernel: Kernel) -> None:
    group = v2(kernel.root).group("p")
    group.create()
    group.die_together()
    assert (kernel.root / "p/memory.oom.group").read_text() == "1\n"


def test_a_limit_without_its_controller_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Kernel(tmp_path, "cpu memory")
    played.install(monkeypatch)
    group = v2(tmp_path, "cpu", "memory").group("p")
    group.create()
    assert group.apply({"memory_bytes": MIB, "pids": 7}) == ("pids",)
    assert group.apply({"memory_bytes": MIB}) == ()
    assert "pids" not in group.read_limits()


def test_what_was_applied_before_is_left_alone(kernel: Kernel) -> None:
    group = v2(kernel.root).group("p")
    group.create()
    held: cgroup.Limits = {"cpu_quota_us": None, "memory_bytes": MIB, "pids": 7}
    assert group.apply(held) == ()
    for name in ("cpu.max", "pids.max"):
        (kernel.root / "p" / name).write_text("written by a test\n")
    assert group.apply({**held, "cpu_quota_us": 20_000}, before=held) == ()
    assert (kernel.root / "p/cpu.max").read_text().strip() == "20000 100000"
    assert (kernel.root / "p/pids.max").read_text().strip() == "written by a test"
    assert group.apply({**held, "cpu_quota_us": 20_000, "cpu_period_us": 50_000}, before=held) == ()
    assert (kernel.root / "p/cpu.max").read_text().strip() == "20000 50000"


# ---- whose tree it is ------------------------------------------------------------------------------------------------


def own_group(tmp_path: Path, text: str) -> str:
    file = tmp_path.parent / f"{tmp_path.name}.cgroup"
    file.write_text(text)
    return str(file)


def test_outside_of_a_delegated_unit_pods_go_to_the_top(kernel: Kernel) -> None:
    (kernel.root / "user.slice").mkdir()
    assert default_parent(v2(kernel.root), own_group(kernel.root, "0::/user.slice\n")) == "podd"
    assert default_parent(v2(kernel.root), own_group(kernel.root, "0::/\n")) == "podd"


@pytest.mark.parametrize("where", ["system.slice/podd.service", "system.slice/podd.service/supervisor"])
def test_in_a_delegated_unit_pods_stay_inside_and_the_daemon_makes_room(kernel: Kernel, where: str) -> None:
    layout = v2(kernel.root)
    layout.group(where).create()
    unit = kernel.root / "system.slice/podd.service"
    delegate(unit)
    (kernel.root / where / "cgroup.procs").write_text("41\n42\n")
    parent = default_parent(layout, own_group(kernel.root, f"0::/{where}\n"))
    assert parent == "system.slice/podd.service/pods"
    assert prepare_parent(layout, parent).path == parent
    assert (unit / "supervisor/cgroup.procs").read_text().split() == ["41", "42"]
    assert (unit / "cgroup.procs").read_text() == ""
    assert (unit / "pods/cgroup.subtree_control").read_text().split() == ["cpu", "memory", "pids"]


def delegate(unit: Path) -> None:
    """As systemd marks a group that it has handed over."""
    try:
        os.setxattr(unit, "user.delegate", b"1")
    except OSError as exc:
        pytest.skip(f"the file system of {unit} has no user xattrs: {exc}")


@pytest.mark.parametrize("podd_too", [False, True])
def test_where_pods_have_a_unit_beside_podds_they_and_supervisors_go_there(kernel: Kernel, podd_too: bool) -> None:
    layout = v2(kernel.root)
    podd, pods = (kernel.root / "system.slice" / name for name in ("podd.service", POD_UNIT))
    for unit in (podd, pods):
        layout.group(f"system.slice/{unit.name}").create()
        (unit / "cgroup.procs").write_text("41\n" if unit == podd else "7\n")
    delegate(pods)
    if podd_too:
        delegate(podd)
    parent = default_parent(layout, own_group(kernel.root, "0::/system.slice/podd.service\n"))
    assert parent == f"system.slice/{POD_UNIT}/pods"
    prepare_parent(layout, parent)
    place_supervisors(layout, parent, 42)
    assert (podd / "cgroup.procs").read_text() == "41\n"
    assert (podd / "cgroup.subtree_control").read_text().split() == []
    assert (pods / "cgroup.procs").read_text() == ""
    assert (pods / "supervisor/cgroup.procs").read_text().split() == ["7", "42"]
    assert (pods / "pods/cgroup.subtree_control").read_text().split() == ["cpu", "memory", "pids"]


def test_outside_of_a_delegated_unit_supervisors_stay_where_they_are(kernel: Kernel) -> None:
    layout = v2(kernel.root)
    for parent in ("podd", "elsewhere/podd"):
        prepare_parent(layout, parent)
        place_supervisors(layout, parent, 42)
    assert not list(kernel.root.rglob("supervisor"))


def test_in_a_container_the_daemon_makes_room_at_the_top(kernel: Kernel) -> None:
    """There the topmost group is some group of the host, with all processes of the container in it."""
    (kernel.root / "cgroup.type").write_text("domain\n")
    (kernel.root / "cgroup.procs").write_text("1\n7\n")
    layout = v2(kernel.root)
    with pytest.raises(Conflict, match="cannot enable cpu"):
        layout.group("podd").create()
    prepare_parent(layout, default_parent(layout, own_group(kernel.root, "0::/\n")))
    assert (kernel.root / "supervisor/cgroup.procs").read_text().split() == ["1", "7"]
    assert (kernel.root / "podd/cgroup.subtree_control").read_text().split() == ["cpu", "memory", "pids"]


# ---- the kernel itself -----------------------------------------------------------------------------------------------

FORK_BOMB = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        pass
"""
BUSY = "while True: pass"


def v1_view(tmp_path: Path) -> Layout:
    """This host as if it had no v2 hierarchy."""
    mountinfo = tmp_path / "mountinfo"
    lines = Path("/proc/self/mountinfo").read_text().splitlines(keepends=True)
    mountinfo.write_text("".join(line for line in lines if " - cgroup2 " not in line))
    return Layout.detect(str(mountinfo))


@pytest.fixture(params=["as it is", "v1"])
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Layout:
    if request.param == "as it is":
        return Layout.detect()
    try:
        return v1_view(tmp_path)
    except Unsupported:
        pytest.skip("this host has no v1 hierarchies")


@pytest.fixture
def group(layout: Layout) -> Iterator[Group]:
    top = layout.group(f"podd-test-{os.getpid()}")
    made = top.child("pod")
    made.create()
    yield made
    top.kill_all()
    top.remove()
    assert not top.exists()


@pytest.fixture
def run() -> Iterator[Callable[[Group, str], subprocess.Popen[bytes]]]:
    """Start a Python program in a group; it runs from the first instruction in there."""
    started: list[subprocess.Popen[bytes]] = []

    def start(group: Group, program: str) -> subprocess.Popen[bytes]:
        fds = group.entry_fds()
        enter = f"import os\nfor fd in {fds}: os.write(fd, b'0')\nprint(flush=True)\n"
        child = subprocess.Popen([sys.executable, "-c", enter + program], pass_fds=fds, stdout=subprocess.PIPE)
        for fd in fds:
            os.close(fd)
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


Run = Callable[[Group, str], "subprocess.Popen[bytes]"]


def until(what: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.root
def test_the_kernel_tells_the_limits_that_were_set(group: Group) -> None:
    limits: cgroup.Limits = {
        "cpu_quota_us": 20000,
        "cpu_period_us": 50000,
        "cpu_shares": 512,
        "memory_bytes": 64 * MIB + 5,
        "pids": 12,
    }
    unlimited = {"cpu_quota_us": None, "cpu_period_us": 100_000, "cpu_shares": None, "memory_bytes": None, "pids": None}
    assert group.read_limits() == unlimited
    assert group.apply(limits) == ()
    assert group.read_limits(limits) == limits
    lower: cgroup.Limits = {"memory_bytes": 32 * MIB, "cpu_shares": 1024, "cpu_period_us": 100_000}
    for change in (lower, limits, lower):
        assert group.apply(change) == ()
        assert group.read_limits(change) == {**unlimited, **change}
    group.apply({})
    assert group.read_limits() == unlimited


@pytest.mark.root
def test_limits_are_changed_all_or_none(group: Group, run: Run) -> None:
    before: cgroup.Limits = {"memory_bytes": 256 * MIB, "cpu_quota_us": 20_000, "pids": 12}
    group.apply(before)
    holder = run(group, f"held = b'x' * {64 * MIB}\nprint(flush=True)\nimport signal; signal.pause()")
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"\n"
    group.die_together()  # has no effect where v1 limits memory, and breaks nothing
    with pytest.raises(Conflict, match="more is in use"):
        group.change({"memory_bytes": 16 * MIB, "cpu_quota_us": 10_000, "pids": 11})
    assert group.read_limits(before) == {**before, "cpu_period_us": 100_000, "cpu_shares": None}
    larger: cgroup.Limits = {"memory_bytes": 300 * MIB, "cpu_quota_us": 30_000}
    assert group.change(larger) == {**larger, "cpu_period_us": 100_000, "cpu_shares": None, "pids": None}


@pytest.mark.root
@pytest.mark.parametrize("limits", [{"cpu_quota_us": 1}, {"cpu_quota_us": 5000, "cpu_period_us": 7}, {"pids": -5}])
def test_a_value_that_the_kernel_refuses_is_named(group: Group, limits: cgroup.Limits) -> None:
    with pytest.raises(Invalid, match=r"pod: (cpu|pids)\."):
        group.apply(limits)


@pytest.mark.root
def test_a_child_is_born_in_the_group_in_every_hierarchy(group: Group) -> None:
    directory = group.open_directory()
    if directory is None:
        pytest.skip("this host has no v2 hierarchy")
    fds = group.entry_fds(unified=False)
    reader, writer = os.pipe()
    pid = fork_into(directory)
    if pid == 0:
        born = Path("/proc/self/cgroup").read_text()
        for fd in fds:
            os.write(fd, b"0")
        os.write(writer, f"{born}--{Path('/proc/self/cgroup').read_text()}".encode())
        signal.pause()
    for fd in (directory, *fds, writer):
        os.close(fd)
    born, _, after = os.read(reader, 65536).decode().partition("--")
    os.close(reader)
    assert f"0::/{group.path}\n" in born
    for controller in ("cpu", "memory", "pids"):
        hierarchy = group.layout.of(controller)
        assert hierarchy is not None
        line = f":{controller}:/{group.path}\n" if hierarchy.version == 1 else f"0::/{group.path}\n"
        assert line in after
    assert group.pids() == [pid]
    group.kill_all()
    assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)


@pytest.mark.root
def test_no_child_is_born_in_a_group_that_is_gone(group: Group) -> None:
    gone = group.child("gone")
    gone.create()
    directory = gone.open_directory()
    if directory is None:
        pytest.skip("this host has no v2 hierarchy")
    gone.remove()
    with pytest.raises(OSError, match="clone3") as caught:
        fork_into(directory)
    os.close(directory)
    assert caught.value.errno in (errno.ENOENT, errno.ENODEV)
    with pytest.raises(NotFound, match="gone: it does not exist"):
        gone.entry_fds()


@pytest.mark.root
def test_a_fork_bomb_below_the_group_ends_and_nothing_is_left(group: Group, run: Run) -> None:
    group.apply({"pids": 60})
    member, nested = group.child("web"), group.child("side").child("nested")
    member.create()
    nested.create()
    for place in (member, nested):
        run(place, FORK_BOMB)
    until(lambda: len(group.pids()) > 20)
    assert set(nested.pids()) < set(group.pids())
    group.kill_all()
    assert group.pids() == []
    assert not group.populated()
    group.remove()
    assert not group.exists()


@pytest.mark.root
def test_frozen_and_stopped_processes_are_killed_too(group: Group, run: Run) -> None:
    frozen, stopped = run(group, "import signal; signal.pause()"), run(group, "import signal; signal.pause()")
    stopped.send_signal(signal.SIGSTOP)
    group.freeze()
    group.kill_all()
    assert (frozen.wait(), stopped.wait()) == (-signal.SIGKILL, -signal.SIGKILL)


@pytest.mark.root
def test_a_kernel_without_cgroup_kill_is_served(group: Group, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    group.apply({"pids": 40})
    run(group, FORK_BOMB)
    until(lambda: len(group.pids()) > 10)
    real = cgroup.files.write

    def write(path: str, text: str) -> None:
        if path.endswith("cgroup.kill"):
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        real(path, text)

    monkeypatch.setattr(cgroup.group, "write", write)
    group.kill_all()
    assert group.pids() == []


@pytest.mark.root
def test_killing_and_removing_what_is_not_there_is_quiet(layout: Layout) -> None:
    never = layout.group(f"podd-test-{os.getpid()}-never")
    never.kill_all()
    never.remove()
    assert never.pids() == []
    assert never.children() == []
    assert set(never.usage().values()) == {None}
    with pytest.raises(NotFound):
        never.freeze()


@pytest.mark.root
def test_a_frozen_group_stands_still_until_it_is_thawed(group: Group, run: Run) -> None:
    member = group.child("web")
    member.create()
    child = run(member, BUSY)

    def ticks() -> int:
        return int(Path(f"/proc/{child.pid}/schedstat").read_text().split()[0])

    group.freeze()
    assert group.frozen()
    assert member.frozen()
    still = ticks()
    for _ in range(20):
        os.sched_yield()
    time.sleep(0.03)  # the busy loop would have run
    assert ticks() == still
    group.thaw()
    until(lambda: ticks() > still)
    assert not group.frozen()


@pytest.mark.root
def test_usage_counts_what_runs_below(group: Group, run: Run) -> None:
    group.apply({"memory_bytes": 256 * MIB, "pids": 20})
    member = group.child("web")
    member.create()
    member.apply({"cpu_quota_us": 2000, "cpu_period_us": 10000})
    run(member, "held = bytearray(30 << 20)\n" + BUSY)
    until(lambda: (group.usage()["memory_usage_bytes"] or 0) >= 30 * MIB)
    until(lambda: (group.usage()["cpu_usage_ns"] or 0) > 10_000_000)
    until(lambda: (member.usage()["cpu_throttled_ns"] or 0) > 0)
    usage = group.usage()
    assert 30 * MIB <= (usage["memory_working_set_bytes"] or 0) <= (usage["memory_usage_bytes"] or 0) < 256 * MIB
    assert usage["memory_limit_bytes"] == 256 * MIB
    assert (usage["pids"], usage["pids_limit"]) == (1, 20)
    assert usage["oom_kills"] == 0
    assert member.usage()["memory_limit_bytes"] is None


@pytest.mark.root
@pytest.mark.parametrize("limited", ["pod", "member"])
def test_a_death_for_want_of_memory_is_the_members(group: Group, run: Run, limited: str) -> None:
    member, other = group.child("web"), group.child("other")
    member.create()
    other.create()
    (group if limited == "pod" else member).apply({"memory_bytes": 32 * MIB})
    greedy = run(member, "held = bytearray(b'x' * (100 << 20))")
    assert greedy.wait(20) == -signal.SIGKILL
    assert (member.oom_kills(), other.oom_kills(), group.oom_kills()) == (1, 0, 1)


@pytest.mark.root
def test_the_pids_limit_of_the_pod_binds_its_members(group: Group, run: Run) -> None:
    group.apply({"pids": 3})
    member = group.child("web")
    member.create()
    child = run(
        member,
        "import errno\nfor n in range(9):\n  try:\n    if os.fork() == 0: import signal; signal.pause()\n"
        "  except OSError as exc: print(n, exc.errno == errno.EAGAIN, flush=True); break\n",
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"2 True\n"


@pytest.mark.root
def test_a_group_in_use_is_not_removed_and_says_by_whom(group: Group, run: Run) -> None:
    child = run(group, "import signal; signal.pause()")
    with pytest.raises(Unavailable, match=rf"it holds {child.pid} \(python"):
        group.remove(timeout_s=0.02)
    assert group.pids() == [child.pid]


@pytest.mark.root
def test_children_are_listed_by_name(group: Group) -> None:
    for name in ("web", "db"):
        group.child(name).create()
    assert [child.name for child in group.children()] == ["db", "web"]
    assert [child.path for child in group.children()] == [f"{group.path}/db", f"{group.path}/web"]


@pytest.mark.root
def test_v2_itself_refuses_children_below_processes(run: Run) -> None:
    """With whatever controller this host's v2 hierarchy has, be it one that podd has no use for."""
    found = Layout.detect()
    if found.unified is None:
        pytest.skip("this host has no v2 hierarchy")
    offered = Path(f"{found.unified.mount}/cgroup.controllers").read_text().split()
    domain = sorted({"memory", "hugetlb", "io"} & set(offered))
    if not domain:
        pytest.skip("the v2 hierarchy of this host has no domain controller")
    layout = Layout((Hierarchy(found.unified.mount, 2, frozenset(domain[:1])),))
    before = Path(f"{found.unified.mount}/cgroup.subtree_control").read_text().split()
    top = layout.group(f"podd-test-{os.getpid()}")
    try:
        pod = top.child("pod")
        pod.create()
        child = run(pod, "import signal; signal.pause()")
        with pytest.raises(Conflict, match=rf"cannot enable {domain[0]} .* {child.pid} \(python"):
            pod.child("web").create()
        pod.kill_all()
        pod.child("web").create()
        assert Path(f"{found.unified.mount}/{pod.path}/cgroup.subtree_control").read_text().split() == domain[:1]
        with pytest.raises(OSError, match=f"Errno {errno.EBUSY}"):
            pod.add(os.getpid())
    finally:
        top.kill_all()
        top.remove()
        for controller in set(domain[:1]) - set(before):
            Path(f"{found.unified.mount}/cgroup.subtree_control").write_text(f"-{controller}")


def test_the_supervisor_can_afford_to_import_it() -> None:
    program = "import sys, podd.linux.cgroup; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "dataclasses", "inspect", "msgspec", "subprocess", "pathlib"} & set(modules)
