"""Members share what a pod shares and nothing else; what podd tells of it is what the kernel says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from real import MOUNT, Podd, manifest, namespaces, sh, shared, sleeper, until

pytestmark = [pytest.mark.root, pytest.mark.parametrize("driver", ["setns", "runc"])]

SHARED = ("net", "ipc", "uts")
OWN = ("mnt", "pid", "cgroup")


def of_members(podd: Podd, name: str) -> list[dict[str, int]]:
    return [namespaces(pid) for pid in podd.pids(name).values()]


def test_three_members_share_net_ipc_and_uts_and_nothing_else(podd: Podd) -> None:
    out = podd.apply(manifest("p", sleeper("a"), sleeper("b"), sleeper("c")))
    assert out == "pod/p created: Running\n"
    members, host = of_members(podd, "p"), namespaces("self")
    assert len(members) == 3
    for name in SHARED:
        assert len({m[name] for m in members} | {host[name]}) == 2, name
    for name in OWN:
        assert len({m[name] for m in members} | {host[name]}) == 4, name
    assert {m["user"] for m in members} == {host["user"]}


@pytest.mark.parametrize(
    ("field", "hosts"),
    [({"hostNetwork": True}, {"net", "uts"}), ({"hostIPC": True}, {"ipc"}), ({"hostPID": True}, {"pid"})],
)
def test_namespaces_of_the_host(podd: Podd, field: dict[str, bool], hosts: set[str]) -> None:
    podd.apply(manifest("p", sleeper("a"), sleeper("b"), **field))
    host = namespaces("self")
    for member in of_members(podd, "p"):
        assert {n for n in (*SHARED, *OWN) if member[n] == host[n]} == hosts


def test_a_shared_pid_namespace_has_an_init_that_reaps(podd: Podd) -> None:
    orphan = "sh -c 'sleep 0.1 & exec true'; "
    podd.apply(
        manifest(
            "p",
            sh("a", f"{orphan} trap 'exit 0' TERM; sleep infinity & wait"),
            sleeper("b"),
            shareProcessNamespace=True,
        )
    )
    assert len({m["pid"] for m in of_members(podd, "p")}) == 1
    first = podd.cli("exec", "p", "-c", "b", "--", "cat", "/proc/1/comm")
    assert first == "podd-init\n"

    def zombies() -> str:
        return podd.cli("exec", "p", "-c", "b", "--", "sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status || true")

    until(lambda: zombies() == "", "the orphan was reaped")
    assert podd.cli("exec", "p", "-c", "b", "--", "ls", "/proc/1/root", status=2) != ""
    both = podd.cli("exec", "p", "-c", "b", "--", "sh", "-c", "cat /proc/[0-9]*/comm")
    assert both.split().count("sleep") >= 2


def test_members_talk_over_localhost_dev_shm_and_sysv(podd: Podd) -> None:
    server = "import http.server as h; h.HTTPServer(('127.0.0.1', 8080), h.SimpleHTTPRequestHandler).serve_forever()"
    podd.apply(
        manifest(
            "p",
            {"name": "server", "command": ["/usr/bin/python3", "-c", server], "workingDir": "/etc"},
            sleeper("client"),
            terminationGracePeriodSeconds=0,
        )
    )
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/hostname').read().decode())"
    quietly = (
        f'/usr/bin/python3 -c "{ask}" 2>/dev/null'  # until the server is there it has nothing to say but a traceback
    )
    until(
        lambda: podd.cli("exec", "p", "-c", "client", "--", "sh", "-c", quietly, status=None).strip() == "p",
        "the server answers",
    )
    podd.cli("exec", "p", "-c", "server", "--", "sh", "-c", "echo over shm > /dev/shm/f")
    assert podd.cli("exec", "p", "-c", "client", "--", "cat", "/dev/shm/f") == "over shm\n"
    podd.cli("exec", "p", "-c", "server", "--", "ipcmk", "-M", "4096")
    segments = podd.cli("exec", "p", "-c", "client", "--", "ipcs", "-m")
    assert "4096" in segments
    assert not Path("/dev/shm/f").exists()


def test_ns_and_tree_and_describe_tell_the_truth(podd: Podd) -> None:
    limits = {"limits": {"cpu": "250m", "memory": "32Mi"}}
    podd.apply(manifest("p", sleeper("a", resources=limits), sleeper("b", resources=limits), hostIPC=True))
    pids, host = podd.pids("p"), namespaces("self")
    rows = json.loads(podd.cli("ns", "p", "-o", "json"))
    rows = rows["rows"] if isinstance(rows, dict) else rows
    for name, pid in pids.items():
        for kind, inode in namespaces(pid).items():
            (row,) = [r for r in rows if r["inode"] == inode and r["type"] == kind] or [None]
            if row is None:
                assert kind == "user"
                continue
            assert name in row["members"]
            expected = "node" if inode == host[kind] else "pod" if kind in SHARED else "container"
            assert row["scope"] == expected
            if expected == "pod":
                assert Path(row["pinned_by"]).stat().st_ino == inode
    nodes = json.loads(podd.cli("tree", "p", "-o", "json"))
    nodes = nodes["nodes"] if isinstance(nodes, dict) else nodes
    by_name = {n["name"]: n for n in nodes}
    for name, pid in pids.items():
        node = by_name[name]
        assert pid in [p["pid"] for p in node["processes"]]
        assert node["limits"]["memory_bytes"] == 32 << 20
        assert node["path"] in Path(f"/proc/{pid}/cgroup").read_text()
    described = podd.cli("describe", "pod", "p")
    for pid in pids.values():
        assert f"PID:            {pid}" in described


def test_a_member_finds_its_pod_and_nothing_of_the_host(podd: Podd) -> None:
    podd.apply(
        manifest(
            "p",
            sleeper(
                "a", env=[{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}], workingDir="/usr/lib", **MOUNT
            ),
            hostname="name-of-the-pod",
            **shared(podd),
        )
    )

    def run(*words: str) -> str:
        return podd.cli("exec", "p", "--", *words)

    assert run("hostname") == "name-of-the-pod\n"
    environment = dict(line.split("=", 1) for line in run("env").splitlines())
    assert {k: environment.get(k) for k in ("A", "B", "HOSTNAME")} == {
        "A": "1",
        "B": "12",
        "HOSTNAME": "name-of-the-pod",
    }
    assert set(environment) <= {"A", "B", "HOSTNAME", "HOME", "PATH", "PWD", "SHLVL", "_"}
    assert run("pwd") == "/usr/lib\n"
    assert "name-of-the-pod" in run("cat", "/etc/hosts")
    descriptors = run("sh", "-c", "ls /proc/1/fd")
    assert set(descriptors.split()) == {"0", "1", "2"}
    run("touch", "/shared/from-inside", "/only-inside")
    assert (podd.shared / "from-inside").exists()
    assert not Path("/only-inside").exists()
    processes = run("sh", "-c", "cat /proc/[0-9]*/comm")
    assert "podd" not in processes
