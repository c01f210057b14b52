"""Pods on a real dockerd, told the same story as on podd's own driver; and what only dockerd can do to them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real import MOUNT, Podd, alive, kill, manifest, namespaces, sh, shared, sleeper, until
from running import running_on

from dockerd import IMAGE, Dockerd, a_dockerd, busybox
from podd.linux.cgroup import Layout
from registry import registry

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(180)]

BOTH = pytest.mark.parametrize("runtime", ["", "podd"], ids=["plain", "held"])
"""With dockerd's own OCI runtime, and with podd's."""

COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"
STUBBORN = "trap '' TERM INT HUP; while :; do sleep 1000; done"


def image(container: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**container, "image": IMAGE, **more}


@BOTH
def test_members_share_what_they_can_on_dockerd(on_docker: Podd, runtime: str) -> None:
    podd = on_docker
    podd.apply(manifest("p", *[image(sleeper(name)) for name in "abc"], hostname="name-of-the-pod"))
    members = [namespaces(pid) for pid in podd.pids("p").values()]
    host = namespaces("self")
    shared = {"net", "ipc", "uts"} if runtime else {"net", "ipc"}
    for name in ("net", "ipc", "uts", "mnt", "pid", "cgroup"):
        assert len({m[name] for m in members} | {host[name]}) == (2 if name in shared else 4), name
    for name in "abc":
        assert podd.cli("exec", "p", "-c", name, "--", "hostname") == "name-of-the-pod\n"
    (pod_cgroup,) = {
        Path(f"/proc/{pid}/cgroup").read_text().split()[0].rpartition("/")[0] for pid in podd.pids("p").values()
    }
    assert podd.folder.name in pod_cgroup
    assert podd.status("p")["podd"]["startSkewUs"] >= 0


def test_a_pod_has_its_own_names_and_resolver(on_docker: Podd) -> None:
    podd = on_docker
    wanted = {
        "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["db"]}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["192.0.2.53"], "searches": ["a.example"]},
    }
    podd.apply(manifest("p", image(sleeper("a")), image(sleeper("b")), subdomain="sub", **wanted))

    def cat(member: str, name: str) -> list[str]:
        return podd.cli("exec", "p", "-c", member, "--", "cat", f"/etc/{name}").splitlines()

    assert cat("a", "hostname") == ["p"]
    assert cat("a", "hosts")[-3:] == [
        *("127.0.0.1\tp.sub.default.svc.cluster.local\tp", "# of hostAliases", "192.0.2.7\tdb")
    ]
    assert cat("a", "resolv.conf")[1:] == ["nameserver 192.0.2.53", "search a.example"]
    podd.cli("exec", "p", "-c", "a", "--", "sh", "-c", "echo 192.0.2.8 later >> /etc/hosts")
    assert cat("b", "hosts")[-1] == "192.0.2.8 later", "one file for all"


def test_members_talk_over_localhost_and_dev_shm(on_docker: Podd) -> None:
    podd = on_docker
    server = sh("server", "while :; do echo over localhost | nc -l -p 8080; done")
    podd.apply(manifest("p", image(server), image(sleeper("client")), terminationGracePeriodSeconds=0))

    def ask() -> str:
        return podd.cli("exec", "p", "-c", "client", "--", "nc", "127.0.0.1", "8080", status=None, stdin="")

    until(lambda: ask() == "over localhost\n", "the server answers")
    podd.cli("exec", "p", "-c", "server", "--", "sh", "-c", "echo over shm > /dev/shm/f")
    assert podd.cli("exec", "p", "-c", "client", "--", "cat", "/dev/shm/f") == "over shm\n"


def test_a_shared_pid_namespace_has_an_init_that_reaps(on_docker: Podd) -> None:
    podd = on_docker
    orphan = "sh -c 'sleep 0.1 & exec true'; "
    first = sh("a", f"{orphan} trap 'exit 0' TERM; sleep 1000000 & wait")
    podd.apply(manifest("p", image(first), image(sleeper("b")), shareProcessNamespace=True))
    assert podd.cli("exec", "p", "-c", "b", "--", "cat", "/proc/1/comm") == "podd-init\n"
    look = "grep -l '^State:.Z' /proc/[0-9]*/status || true"
    until(lambda: podd.cli("exec", "p", "-c", "b", "--", "sh", "-c", look) == "", "the orphan was reaped")


@BOTH
def test_exec_logs_stats_pause_and_what_is_shown(on_docker: Podd) -> None:
    podd = on_docker
    limits = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    podd.apply(manifest("p", image(sh("counts", COUNT), resources=limits), image(sleeper("b"), resources=limits)))
    assert podd.cli("exec", "p", "-c", "b", "--", "sh", "-c", "exit 7", status=7) == ""
    assert "no-such" in podd.cli("exec", "p", "-c", "b", "--", "no-such", status=None)
    until(lambda: len(podd.cli("logs", "p", "-c", "counts").split()) > 20, "it has counted")
    lines = podd.cli("logs", "p", "-c", "counts").split()
    assert lines == [str(n) for n in range(1, len(lines) + 1)]
    podd.cli("exec", "p", "-c", "b", "--", "dd", "if=/dev/zero", "of=/written", "bs=1048576", "count=1")
    (stats,) = json.loads(podd.cli("stats", "p", "-o", "json"))
    assert stats["layers"]["b"] >= 1 << 20 > stats["layers"]["counts"]
    nodes = json.loads(podd.cli("tree", "p", "-o", "json"))
    nodes = nodes["nodes"] if isinstance(nodes, dict) else nodes
    assert {n["name"]: n["limits"]["memory_bytes"] for n in nodes if n["name"] in ("counts", "b")} == {
        "counts": 64 << 20,
        "b": 64 << 20,
    }
    group = Layout.detect().group(min((n["path"] for n in nodes), key=len))  # the pod's, above its members'
    podd.cli("pause", "p")
    assert group.frozen()
    before = len(podd.cli("logs", "p", "-c", "counts").split())
    podd.cli("resume", "p")
    assert not group.frozen()
    until(lambda: len(podd.cli("logs", "p", "-c", "counts").split()) > before + 10, "it goes on")
    rows = podd.cli("ns", "p")
    assert "holder" in rows
    assert podd.pod("p")["status"]["containerStatuses"][0]["imageID"].startswith("sha256:")


@BOTH
@pytest.mark.parametrize("scope", [{}, {"shareProcessNamespace": True}, {"hostPID": True}], ids=["own", "pod", "node"])
def test_everything_is_gone_within_the_grace_period(on_docker: Podd, scope: dict[str, bool]) -> None:
    podd = on_docker
    daemonizes = "setsid sh -c 'echo $$ > /shared/daemon; trap \"\" TERM HUP; while :; do sleep 1000; done' & "
    podd.apply(
        manifest(
            "p",
            image(sleeper("polite")),
            image(sh("stubborn", STUBBORN)),
            image(sh("forks", daemonizes + "trap 'exit 0' TERM; sleep 1000000 & wait", **MOUNT)),
            terminationGracePeriodSeconds=1,
            **shared(podd),
            **scope,
        )
    )
    until((podd.shared / "daemon").exists, "the daemon runs")
    pids = podd.pids("p").values()
    began = time.monotonic()
    podd.cli("stop", "p")
    assert not [pid for pid in pids if alive(pid)]
    assert time.monotonic() - began < 6
    codes = {c["name"]: c["state"]["terminated"]["exitCode"] for c in podd.status("p")["containerStatuses"]}
    assert codes == {"polite": 0, "stubborn": 137, "forks": 0}
    podd.cli("start", "p")
    assert podd.status("p")["phase"] == "Running"


@BOTH
def test_the_restart_policy(on_docker: Podd) -> None:
    podd = on_docker
    once = "test -e /shared/ran && exec sleep 1000; : > /shared/ran; echo first; exit 3"
    podd.apply(manifest("p", image(sh("a", once, **MOUNT)), image(sleeper("b")), **shared(podd)))
    until(lambda: podd.status("p")["containerStatuses"][0]["restartCount"] == 1, "it is restarted")
    until(lambda: "running" in podd.status("p")["containerStatuses"][0]["state"], "it runs")
    assert podd.status("p")["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3
    assert podd.cli("logs", "p", "-c", "a", "--previous") == "first\n"


@BOTH
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"command": ["/no/such/program"]}, "/no/such/program"),
        ({"command": ["nowhere-in-path"]}, "nowhere-in-path"),
        ({"command": ["/etc/passwd"]}, "permission denied"),
        ({"command": ["/etc"]}, "is a directory"),
        ({"command": ["/bin/sh"], "securityContext": {"runAsNonRoot": True}}, "runAsNonRoot"),
        ({"command": ["/bin/sh"], "image": "rootfs:/"}, "needs capability rootfs-directory"),
    ],
    ids=["path", "name", "mode", "directory", "root", "rootfs"],
)
def test_one_member_that_cannot_run_undoes_all(on_docker: Podd, bad: dict[str, Any], why: str) -> None:
    podd = on_docker
    marks = image(sh("a", ": > /shared/a; sleep 1000", **MOUNT))
    before = podd.snapshot()
    wrong = {"name": "bad", "image": IMAGE, **bad}
    out = podd.apply(manifest("p", marks, wrong, restartPolicy="Never", **shared(podd)), status=1)
    assert why in out
    assert list(podd.shared.iterdir()) == []
    podd.assert_clean(before)


@pytest.mark.parametrize(
    ("policy", "why"),
    [("IfNotPresent", "the registry does not answer"), ("Never", "ErrImageNeverPull")],
)
def test_an_image_that_is_not_there(on_docker: Podd, policy: str, why: str) -> None:
    podd = on_docker
    nowhere = sh("a", "sleep 1000", image="127.0.0.1:1/nowhere:1", imagePullPolicy=policy)
    out = podd.apply(manifest("p", nowhere, image(sleeper("b")), restartPolicy="Never"), status=1)
    assert why in out
    assert "127.0.0.1:1/nowhere:1" in out


def test_an_image_is_pulled_as_its_policy_says(on_docker: Podd) -> None:
    podd = on_docker
    with registry(busybox()) as there:
        app = {"image": there.image, "imagePullPolicy": "IfNotPresent"}
        podd.apply(manifest("p", {"name": "a", **app}, {"name": "b", **app}, terminationGracePeriodSeconds=0))
        assert there.asked == 1, "one pull for both"
        assert {c["imageID"] for c in podd.status("p")["containerStatuses"]} == {there.image_id}
        podd.apply(manifest("q", {"name": "a", **app}, terminationGracePeriodSeconds=0))
        assert there.asked == 1, "it is present"
        always = {"name": "a", **app, "imagePullPolicy": "Always"}
        podd.apply(manifest("r", always, terminationGracePeriodSeconds=0))
        assert there.asked == 2


@BOTH
def test_a_pod_does_not_notice_that_podd_is_killed(on_docker: Podd) -> None:
    podd = on_docker
    os.mkfifo(podd.shared / "go", 0o666)
    ends = image(sh("ends", "read x < /shared/go; exit 7", **MOUNT))
    counts = image(sh("counts", COUNT))
    podd.apply(manifest("p", counts, image(sleeper("stays")), ends, restartPolicy="Never", **shared(podd)))
    pids = podd.pids("p")
    podd.kill()
    with (podd.shared / "go").open("w") as fifo:
        fifo.write("go\n")
    until(lambda: not alive(pids["ends"]), "a member ends while nobody watches")
    podd.start()
    until(lambda: "terminated" in podd.status("p")["containerStatuses"][2]["state"], "its end is known")
    now = podd.pids("p")
    assert (now["counts"], now["stays"]) == (pids["counts"], pids["stays"])
    assert podd.status("p")["containerStatuses"][2]["state"]["terminated"]["exitCode"] == 7
    seen = len(podd.cli("logs", "p", "-c", "counts").split())
    until(lambda: len(podd.cli("logs", "p", "-c", "counts").split()) > seen + 20, "its log goes on")
    lines = podd.cli("logs", "p", "-c", "counts").split()
    assert lines == [str(n) for n in range(1, len(lines) + 1)], "the log has no gap, and nothing twice"
    assert podd.cli("exec", "p", "-c", "stays", "--", "echo", "hello") == "hello\n"


def test_a_dead_holder_is_replaced_with_all_its_members(on_docker: Podd, dockerd: Dockerd) -> None:
    podd = on_docker
    podd.apply(manifest("p", image(sleeper("a")), image(sleeper("b"))))
    pids = podd.pids("p")
    (holder,) = [c["Id"] for c in dockerd.containers() if c["Labels"]["io.podd.kind"] == "holder"]
    dockerd.remove(holder)
    until(lambda: is_renewed(podd, pids), "it is back")
    until(lambda: podd.status("p")["phase"] == "Running", "it runs")
    assert not any(map(alive, pids.values()))
    members = [namespaces(pid) for pid in podd.pids("p").values()]
    assert len({m["net"] for m in members}) == 1


def test_a_member_that_was_removed_behind_its_back_is_made_again(on_docker: Podd, dockerd: Dockerd) -> None:
    podd = on_docker
    podd.apply(manifest("p", image(sleeper("a")), image(sleeper("b"))))
    pids = podd.pids("p")
    (member,) = [c["Id"] for c in dockerd.containers() if c["Labels"].get("io.podd.name") == "a"]
    dockerd.remove(member)
    until(lambda: podd.pids("p").get("a", pids["a"]) != pids["a"], "it is back")
    assert podd.pids("p")["b"] == pids["b"]


def is_renewed(podd: Podd, before: dict[str, int]) -> bool:
    now = podd.pids("p")
    return now.keys() == before.keys() and not {*now.values()} & {*before.values()}


@pytest.mark.parametrize("runtime", ["podd"])
def test_twenty_pods_at_once(on_docker: Podd) -> None:
    podd = on_docker
    documents = [manifest(f"p{n}", *[image(sleeper(c)) for c in "abc"]) for n in range(20)]
    podd.apply("\n---\n".join(documents))
    statuses = [pod["status"] for pod in podd.pods()]
    assert [s["phase"] for s in statuses] == ["Running"] * 20
    assert [c["restartCount"] for s in statuses for c in s["containerStatuses"]] == [0] * 60
    podd.cli("delete", "pods", "--all", "--now")


# ---- dockerd itself


@pytest.fixture
def own_dockerd(request: pytest.FixtureRequest) -> Iterator[Dockerd]:
    """One that the test may end."""
    yield from a_dockerd(*getattr(request, "param", ()))


@pytest.mark.parametrize("own_dockerd", [["--live-restore"]], indirect=True)
def test_pods_do_not_notice_a_restart_of_a_dockerd_with_live_restore(own_dockerd: Dockerd) -> None:
    for podd in running_on(own_dockerd):
        podd.apply(manifest("p", image(sh("counts", COUNT)), image(sleeper("b"))))
        pids = podd.pids("p")
        own_dockerd.stop()
        podd.cli("exec", "p", "-c", "b", "--", "true")
        own_dockerd.start()
        seen = len(podd.cli("logs", "p", "-c", "counts").split())
        until(lambda: len(podd.cli("logs", "p", "-c", "counts").split()) > seen + 20, "its log goes on")  # noqa: B023
        lines = podd.cli("logs", "p", "-c", "counts").split()
        assert lines == [str(n) for n in range(1, len(lines) + 1)]
        assert podd.pids("p") == pids


def test_pods_come_back_after_a_restart_of_dockerd(own_dockerd: Dockerd) -> None:
    """While it stops, podd starts again what has ended. In a shared pid namespace that hears signals from the first."""
    for podd in running_on(own_dockerd):
        podd.apply(manifest("p", image(sleeper("a")), image(sleeper("b")), shareProcessNamespace=True))
        pids = podd.pids("p")
        own_dockerd.stop()
        own_dockerd.start()
        until(lambda: is_renewed(podd, pids), "it is back")  # noqa: B023
        until(lambda: podd.status("p")["phase"] == "Running", "it runs")  # noqa: B023


def test_a_dockerd_that_hangs_costs_no_other_driver(own_dockerd: Dockerd) -> None:
    for podd in running_on(own_dockerd, "deadline_s = 1"):
        podd.apply(manifest("p", image(sleeper("a"))))
        own_dockerd.freeze()
        try:
            assert "did not answer" in podd.cli("drivers", "-o", "wide", status=None)
            podd.apply(manifest("other", sh("a", "sleep 1000"), runtimeClassName="setns"))
            assert podd.status("other")["phase"] == "Running"
        finally:
            own_dockerd.thaw()
        assert podd.cli("exec", "p", "--", "echo", "hello") == "hello\n"


def test_a_killed_holder_process(on_docker: Podd, dockerd: Dockerd) -> None:
    podd = on_docker
    podd.apply(manifest("p", image(sleeper("a")), restartPolicy="Never"))
    nodes = json.loads(podd.cli("tree", "p", "-o", "json"))
    nodes = nodes["nodes"] if isinstance(nodes, dict) else nodes
    ((holder, _),) = [(p["pid"], n["name"]) for n in nodes if n["name"] == "holder" for p in n["processes"]]
    kill(holder)
    until(lambda: podd.status("p")["phase"] == "Failed", "it is seen")
    assert dockerd.containers() == []
