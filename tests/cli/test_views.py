"""ns, tree, stats, events, drivers, info and version: what they show of canned answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import yaml

from cli.conftest import Run
from cli.fake_daemon import NOW, Answer, Call, FakeDaemon, Json, Refusal
from cli.samples import ago
from podd.cli import stats, tree

MI = 1024 * 1024


# ---- ns


def row(kind: str, inode: int, scope: str, members: list[str], pinned_by: str, pod: str = "hello") -> Json:
    rest = {"pod": pod, "namespace": "default", "uid": "u"}
    return {**rest, "type": kind, "inode": inode, "scope": scope, "members": members, "pinned_by": pinned_by}


NS_ROWS = [
    row("net", 4026532001, "pod", ["web", "db"], "/run/podd/pods/0011/ns/net"),
    row("uts", 4026531838, "node", ["web", "db"], ""),
    row("mnt", 4026532002, "container", ["web"], "pid 4711 (web)"),
]
NS_TABLE = """\
NAMESPACE   INODE        SCOPE                         MEMBERS   PINNED BY
net         4026532001   pod                           web,db    /run/podd/pods/0011/ns/net
uts         4026531838   node (shared with the host)   web,db    <none>
mnt         4026532002   container                     web       pid 4711 (web)
"""


def test_namespaces(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Namespaces"] = lambda _: {"rows": NS_ROWS}
    assert run("ns", "pod/hello") == (0, NS_TABLE, "")
    assert daemon.asked("Namespaces") == [{"name": "hello"}]
    assert json.loads(run("ns", "hello", "-o", "json").out) == NS_ROWS


def test_namespaces_of_all_pods(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Namespaces"] = lambda _: {"rows": NS_ROWS[:1]}
    assert run("ns", "-A").lines[0].split()[:2] == ["POD", "NAMESPACE"]
    assert run("ns", "-A").lines[1].split()[:2] == ["default/hello", "net"]
    assert run("ns").lines[1].split()[:2] == ["hello", "net"]
    assert daemon.asked("Namespaces") == [{}, {}, {"namespace": "default"}]


# ---- tree


def usage(**known: int) -> Json:
    keys = (
        "cpu_usage_ns", "cpu_throttled_ns", "memory_usage_bytes", "memory_working_set_bytes", "memory_limit_bytes",
        "pids", "pids_limit", "oom_kills",
    )  # fmt: skip
    return dict.fromkeys(keys) | known


def node(depth: int, name: str, limits: Json, used: Json, *processes: tuple[int, str]) -> Json:
    none = {"cpu_quota_us": None, "cpu_period_us": 100_000, "cpu_shares": None, "memory_bytes": None, "pids": None}
    return {
        "pod": "hello", "namespace": "default", "uid": "u", "depth": depth, "path": "/podd/pods/0011", "name": name,
        "limits": none | limits, "usage": used, "processes": [{"pid": pid, "command": text} for pid, text in processes],
    }  # fmt: skip


NODES = [
    node(
        0, "0011", {"cpu_quota_us": 150_000, "memory_bytes": 64 * MI, "pids": 100},
        usage(cpu_usage_ns=1_234_000_000, memory_usage_bytes=12 * MI + MI // 2, pids=4),
    ),
    node(1, "web", {"cpu_quota_us": 25_000}, usage(memory_usage_bytes=900), (4711, "python3 -m http"), (4712, "sh")),
    node(2, "child", {}, usage(pids=1), (4713, "sleep \x1b[2J inf")),
    node(1, "supervisor", {}, usage(), (4700, "podd-shim")),
]  # fmt: skip

TREE = """\
pod/hello (default) /podd/pods/0011  [cpu 1.23s (limit 1.5), memory 12.5Mi (limit 64Mi), pids 4 (limit 100)]
├─web  [cpu - (limit 250m), memory 900]
│ ├─4711 python3 -m http
│ ├─4712 sh
│ └─child  [pids 1]
│   └─4713 sleep \\x1b[2J inf
└─supervisor
  └─4700 podd-shim
"""


def test_tree(run: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.answers["Tree"] = lambda _: {"nodes": NODES}
    monkeypatch.setattr(tree, "box_characters", lambda: True)
    assert run("tree", "hello") == (0, TREE, "")
    monkeypatch.setattr(tree, "box_characters", lambda: False)
    ascii_tree = TREE.replace("├─", "|-").replace("└─", "`-").replace("│", "|")
    assert run("tree") == (0, ascii_tree, "")
    assert daemon.asked("Tree") == [{"name": "hello"}, {"namespace": "default"}]


def test_tree_is_cut_to_the_terminal(run: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.answers["Tree"] = lambda _: {"nodes": NODES}
    monkeypatch.setattr(tree, "terminal_columns", lambda: 24)
    assert max(map(len, run("tree", "hello").lines)) == 24


# ---- stats


def sample(at_s: float, cpu_s: float) -> Json:
    whole = usage(
        cpu_usage_ns=int(cpu_s * 1e9), memory_usage_bytes=20 * MI, memory_working_set_bytes=int(12.34 * MI),
        memory_limit_bytes=64 * MI, pids=5, pids_limit=100, oom_kills=1,
    )  # fmt: skip
    return {
        "name": "hello", "namespace": "default", "uid": "u", "time": f"2026-11-23T12:00:{at_s:09.6f}Z", "pod": whole,
        "containers": {"web": usage(cpu_usage_ns=int(cpu_s * 0.75e9), memory_usage_bytes=900, pids=4), "db": usage()},
        "overhead": usage(cpu_usage_ns=0, memory_usage_bytes=MI), "layers": {"web": 3 * MI, "db": 0},
        "interfaces": [
            {"name": name, "received_bytes": 1024, "received_packets": 1, "received_errors": 0,
             "sent_bytes": 3 * MI // 2, "sent_packets": 2, "sent_errors": 0} for name in ("eth0", "eth1")
        ],
    }  # fmt: skip


STATS = """\
POD     CONTAINER   CPU    MEMORY        DISK   NET I/O     PIDS    OOM KILLS
hello   (pod)       1.2    12.3Mi/64Mi   3Mi    2Ki / 3Mi   5/100   1
hello   web         900m   900           3Mi    -           4       -
hello   db          -      -             0      -           -       -
hello   (podd)      0m     1Mi           -      -           -       -
"""


@pytest.fixture
def sampled(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    """Two looks, half a second and 0.6 s of CPU time apart."""
    samples = iter([sample(0, 10), sample(0.5, 10.6)])
    daemon.answers["Stats"] = lambda _: {"pods": [next(samples)]}
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return daemon


def test_stats(run: Run, sampled: FakeDaemon) -> None:
    assert run("stats", "hello") == (0, STATS, "")
    assert sampled.asked("Stats") == [{"name": "hello"}, {"name": "hello"}]


def test_stats_of_all_namespaces(run: Run, sampled: FakeDaemon) -> None:
    assert run("stats", "-A").lines[1].split()[:3] == ["default", "hello", "(pod)"]


def test_stats_for_programs_are_the_counters(run: Run, sampled: FakeDaemon) -> None:
    assert json.loads(run("stats", "-o", "json").out) == [sample(0, 10)]


def test_stats_again_and_again(run: Run, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_at_third(_: float) -> None:
        if len(daemon.calls) >= 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(stats.time, "sleep", stop_at_third)
    daemon.answers["Stats"] = lambda _: {"pods": [sample(len(daemon.calls), 1)]}
    result = run("stats", "-w")
    assert result.status == 130
    assert result.out.count("POD ") == 2
    assert "\033" not in result.out


# ---- events


def event(name: str, **more: object) -> Json:
    rest = {
        "time": ago(days=12, hours=1),
        "type": "Normal",
        "reason": "Started",
        "pod": "hello",
        "namespace": "default",
    }
    return {**rest, "uid": "u", "message": f"it {name}", "container": "", "count": 1, **more}


EVENTS = [event("began"), event("failed", type="Warning", container="web", count=4)]
EVENTS_TABLE = """\
LAST SEEN   TYPE      REASON    OBJECT          MESSAGE
12d         Normal    Started   pod/hello       it began
12d (x4)    Warning   Started   pod/hello/web   it failed
"""


def test_events(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Events"] = lambda _: [{"events": EVENTS}, {"events": []}]
    assert run("events") == (0, EVENTS_TABLE, "")
    assert run("events", "-A").lines[0].startswith("NAMESPACE ")
    assert yaml.safe_load(run("events", "pod/hello", "--since", "1h30m", "-o", "yaml").out) == EVENTS
    assert daemon.asked("Events") == [
        {"namespace": "default", "follow": False},
        {"follow": False},
        {"name": "hello", "since": "5400s", "follow": False},
    ]


@pytest.mark.parametrize(
    ("argv", "method", "key", "said"),
    [
        (("events",), "Events", "events", "no events\n"),
        (("ns",), "Namespaces", "rows", "no running pods\n"),
        (("tree",), "Tree", "nodes", "no running pods\n"),
        (("stats",), "Stats", "pods", "no running pods\n"),
    ],
)
def test_nothing_to_show(argv: tuple[str, ...], method: str, key: str, said: str, run: Run, daemon: FakeDaemon) -> None:
    daemon.answers[method] = lambda _: [{key: []}]
    assert run(*argv) == (0, "", said)
    assert run(*argv, "-o", "json") == (0, "[]\n", "")


def test_events_to_come(run: Run, daemon: FakeDaemon) -> None:
    def follow(_: Call) -> Iterator[Answer | Json]:
        yield {"events": EVENTS}
        yield NOW
        yield {"events": [event("ended")]}
        yield NOW
        raise Refusal("Unavailable", "events: too slow to keep up")

    daemon.answers["Events"] = follow
    result = run("events", "-f")
    assert result.status == 1
    assert result.out == f"{EVENTS_TABLE}12d         Normal    Started   pod/hello       it ended\n"
    shown = run("events", "-f", "-o", "json").lines
    assert [json.loads(line)["message"] for line in shown] == ["it began", "it failed", "it ended"]


# ---- drivers, info, version

DRIVERS = [
    {
        "name": "setns", "driver": "setns",
        "is_default": True, "usable": True, "reason": "", "remedy": "", "version": "0.1.0",
        "notes": ["oom_score_adj: CAP_SYS_RESOURCE is missing"],
        "capabilities": {"exec": True, "attach": True, "resize": False},
        "network": {"ready": False, "name": "", "reason": "no configuration", "remedy": "install one"},
    },
    {
        "name": "small", "driver": "setns", "is_default": False, "usable": True, "reason": "", "remedy": "",
        "version": "0.1.0", "notes": [], "capabilities": {"exec": True, "attach": True, "resize": True},
        "network": {"ready": True, "name": "podd", "reason": "", "remedy": ""},
    },
    {
        "name": "docker", "driver": "docker",
        "is_default": False, "usable": False, "reason": "/run/docker.sock: no such file",
        "remedy": "start docker.service", "version": "", "notes": [], "capabilities": {}, "network": None,
    },
]  # fmt: skip

DRIVERS_TABLE = """\
NAME     DRIVER   DEFAULT   USABLE   NETWORK     VERSION   NOTES
setns    setns    yes       yes      not ready   0.1.0     oom_score_adj: CAP_SYS_RESOURCE is missing. \
the network is not ready: no configuration; install one
small    setns    no        yes      podd        0.1.0     <none>
docker   docker   no        no       none        <none>    /run/docker.sock: no such file; start docker.service
"""

DRIVERS_MATRIX = """\

CAPABILITY   SETNS   SMALL
exec         yes     yes
attach       yes     yes
resize       no      yes
"""


def test_drivers(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Drivers"] = lambda _: {"drivers": DRIVERS}
    assert run("drivers") == (0, DRIVERS_TABLE, "")
    assert run("drivers", "-o", "wide") == (0, DRIVERS_TABLE + DRIVERS_MATRIX, "")
    assert json.loads(run("drivers", "-o", "json").out) == DRIVERS


def test_drivers_none_of_which_can_be_loaded(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Drivers"] = lambda _: {"drivers": DRIVERS[2:]}
    assert "CAPABILITY" not in run("drivers", "-o", "wide").out


INFO = {
    "version": "0.1.0", "pid": 4000, "started_at": "2026-11-23T12:00:00Z", "kernel": "6.1.0", "cgroups": "v2",
    "default_driver": "setns", "config_file": "", "run_dir": "/run/podd", "state_dir": "/var/lib/podd",
    "log_dir": "/var/log/podd", "pods": {"Running": 3, "Failed": 1, "Pending": 0}, "problems": ["record 7: damaged"],
    "network": {"ready": True, "name": "podd", "reason": "", "remedy": ""},
}  # fmt: skip

INFO_PAGE = """\
Version:         0.1.0
PID:             4000
Started:         2026-11-23T12:00:00Z
Kernel:          6.1.0
Cgroups:         v2
Default driver:  setns
Configuration:   <none>
Run directory:   /run/podd
State directory: /var/lib/podd
Log directory:   /var/log/podd
Network:         ready: podd
Pods:            3 Running, 1 Failed
Problems:
  record 7: damaged
"""


def test_info(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Info"] = lambda _: INFO
    assert run("info") == (0, INFO_PAGE, "")
    assert yaml.safe_load(run("info", "-o", "yaml").out) == INFO


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (None, "none: the default driver gives pods no addresses"),
        ({"ready": True, "name": "", "reason": "", "remedy": ""}, "ready"),
        (
            {"ready": False, "name": "podd", "reason": "no plugin", "remedy": "install it"},
            "the network is not ready: no plugin; install it",
        ),
    ],
)
def test_info_of_the_network(run: Run, daemon: FakeDaemon, network: Json | None, said: str) -> None:
    daemon.answers["Info"] = lambda _: INFO | {"network": network}
    assert f"Network:         {said}" in run("info").lines


def test_version(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Info"] = lambda _: INFO | {"version": "0.9.9"}
    assert run("version") == (0, "Client: 0.1.0\nDaemon: 0.9.9\n", "")
    assert json.loads(run("version", "-o", "json").out) == {"client": "0.1.0", "daemon": "0.9.9"}


def test_version_without_a_daemon(run: Run) -> None:
    result = run("version")
    assert (result.status, result.out) == (1, "Client: 0.1.0\n")
    assert "no such socket" in result.err
