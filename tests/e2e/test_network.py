"""Pods with addresses: who reaches whom, by what, and what is left when podd, pods or plugins come to a sudden end."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ground import must_have, tell
from networked import HOST, Place, before_nf_tables, networked, place, write_network
from real import Podd, kill, manifest, sh, sleeper, until
from test_reboot import reboot

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

both = pytest.mark.parametrize("driver", ["setns", "runc"])
WEB = "mkdir /tmp/www; echo {name} >/tmp/www/index.html; exec busybox httpd -f -p 80 -h /tmp/www"


@pytest.fixture
def there() -> Iterator[Place]:
    must_have("bridge", "host-local", "portmap", "firewall", "bandwidth")
    with place() as made:
        yield made


@pytest.fixture
def podd(there: Place, driver: str) -> Iterator[Podd]:
    if shutil.which("runc") is None and driver == "runc":
        pytest.skip("runc is not installed")
    yield from networked(there, driver)


def web(name: str, *ports: dict[str, Any], **more: Any) -> str:
    serves = sh("web", WEB.format(name=name), ports=list(ports), readinessProbe={"tcpSocket": {"port": 80}})
    return manifest(
        name, serves, sleeper("beside"), **{"terminationGracePeriodSeconds": 1, **more}
    )  # sh hears no SIGTERM


def ips(podd: Podd, name: str) -> list[str]:
    return [one["ip"] for one in podd.status(name)["podIPs"]]


def netns(podd: Podd, name: str) -> str:
    return f"/proc/{next(iter(podd.pids(name).values()))}/ns/net"


def they_talk(podd: Podd, there: Place) -> None:
    """Two pods and a client, over IPv4 and IPv6."""
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
    podd.apply(web("b"))
    a, b = netns(podd, "a"), netns(podd, "b")
    for ip in (*ips(podd, "a"), *HOST):
        port = 8080 if ip in HOST else 80
        assert there.get(ip, port) == "a", f"from outside by {ip}:{port}"
        assert there.get(ip, port, of=b) == "a", f"from another pod by {ip}:{port}"
        assert there.get(ip, port, of=a) == "a", f"from the pod itself by {ip}:{port}"
        assert there.get(ip, port, of=there.host) == "a", f"from the host by {ip}:{port}"
    for ip in ips(podd, "b"):
        assert there.get(ip, of=a) == "b"
    for localhost in ("127.0.0.1", "::1"):
        assert there.get(localhost, of=a) == "a"
    assert there.get("127.0.0.1", 8080, of=there.host) == "a"
    assert podd.cli("exec", "a", "-c", "beside", "--", "busybox", "wget", "-qO-", "http://127.0.0.1/") == "a\n"
    assert there.refuses(HOST[0], 80), "only the port that is asked for"


@both
def test_two_pods_and_a_client(podd: Podd, there: Place) -> None:
    they_talk(podd, there)
    assert [ip.split(":")[0].split(".")[0] for ip in ips(podd, "a")] == ["10", "fd86"]
    assert podd.cli("exec", "a", "-c", "web", "--", "grep", "-w", "a", "/etc/hosts").split() == [
        word for ip in ips(podd, "a") for word in (ip, "a")
    ]
    podd.cli("delete", "pod", "a", "--now")
    assert there.refuses(HOST[0], 8080)


@pytest.mark.parametrize("driver", ["setns"])
def test_the_same_without_nf_tables(tmp_path: Path, there: Place, driver: str) -> None:
    with before_nf_tables(tmp_path):
        for podd in networked(there, driver):
            they_talk(podd, there)


@both
def test_addresses_outlive_podd(podd: Podd, there: Place) -> None:
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
    before = ips(podd, "a")
    podd.kill()
    assert there.get(before[0]) == "a"
    podd.start()
    assert ips(podd, "a") == before
    assert there.get(HOST[0], 8080) == "a"
    assert "eth0" in podd.cli("stats", "a", "-o", "json")


@both
def test_other_ports_of_a_pod_that_runs(podd: Podd, there: Place) -> None:
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
    pids = podd.pids("a")
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8081}))
    until(lambda: not there.refuses(HOST[0], 8081), "the new port leads to it")
    assert there.refuses(HOST[0], 8080)
    assert podd.pids("a") == pids, "nothing was started anew"


@both
def test_a_pod_that_takes_the_place_of_another_has_its_port(podd: Podd, there: Place) -> None:
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
    new = web("a", {"containerPort": 80, "hostPort": 8080}).replace("echo a >", "echo new >")
    assert podd.apply(new) == "pod/a recreated: Running\n"
    until(lambda: not there.refuses(HOST[0], 8080), "the port leads to it")
    assert there.get(HOST[0], 8080) == "new"
    assert [c for c in podd.status("a")["conditions"] if c["type"].startswith("PodPublish")] == []


@both
def test_what_comes_and_goes_is_shown(podd: Podd, there: Place) -> None:
    podd.apply(web("a"))
    for _ in range(20):
        there.get(ips(podd, "a")[0])
    (usage,) = json.loads(podd.cli("stats", "a", "-o", "json"))
    (eth0,) = usage["interfaces"]
    assert eth0["name"] == "eth0"
    assert eth0["received_bytes"] > 1000 < eth0["sent_bytes"]
    assert "Network:         ready: podd" in podd.cli("info")
    assert ", ".join(ips(podd, "a")) in podd.cli("get", "pods", "-o", "wide")


@both
def test_a_port_leads_to_one_pod(podd: Podd, there: Place) -> None:
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
    said = podd.cli(
        "apply", "-f", "-", "--wait", "--timeout", "3", status=None,
        stdin=web("b", {"containerPort": 80, "hostPort": 8080}, restartPolicy="Never"),
    )  # fmt: skip
    assert "8080" in said
    assert "default/a" in said
    assert there.get(HOST[0], 8080) == "a"


@pytest.mark.parametrize("driver", ["setns"])
def test_a_pod_whose_bandwidth_is_limited(podd: Podd, there: Place) -> None:
    pod = json.loads(web("a"))
    pod["metadata"]["annotations"] = {"kubernetes.io/ingress-bandwidth": "10M"}
    podd.apply(json.dumps(pod))
    assert there.get(ips(podd, "a")[0]) == "a"
    assert "rate 10Mbit" in tell("nsenter", f"--net={there.host}", "tc", "qdisc")


@both
def test_without_a_network(there: Place, driver: str) -> None:
    for podd in networked(there, driver, configure=False):
        podd.apply(manifest("alone", sleeper("a")))
        assert podd.status("alone").get("podIPs", []) == []
        links = podd.cli("exec", "alone", "--", "ls", "/sys/class/net")
        assert "eth0" not in links
        said = podd.cli("apply", "-f", "-", stdin=web("a", {"containerPort": 80, "hostPort": 8080}), status=None)
        assert "no network configuration in" in said
        assert "containernetworking-plugins" in said
        write_network(podd.folder)
        podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
        until(lambda: not there.refuses(HOST[0], 8080), "it counts as soon as it is there")
        assert there.get(HOST[0], 8080) == "a"


@both
def test_a_supervisor_that_is_killed(podd: Podd, there: Place) -> None:
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
    pids, shim = podd.pids("a"), podd.shim("a")
    kill(shim)
    until(lambda: podd.pids("a") not in ({}, pids) and not there.refuses(HOST[0], 8080), "another is there")
    assert there.get(ips(podd, "a")[0]) == "a"


@pytest.mark.parametrize("driver", ["setns"])
def test_a_reboot(podd: Podd, there: Place) -> None:
    """The namespaces are gone, the leases are not."""
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
    podd.apply(web("b"))
    reboot(podd)
    until(lambda: not there.refuses(HOST[0], 8080), "it is back")
    until(lambda: len(ips(podd, "b")) == 2, "the other, too")
    leases = [path for path in (podd.folder / "leases/podd").iterdir() if path.name[0] in "1f"]
    assert sorted(path.name for path in leases) == sorted([*ips(podd, "a"), *ips(podd, "b")])


@both
@pytest.mark.parametrize("seed", range(2))
def test_podd_is_killed_anywhere(podd: Podd, there: Place, seed: int) -> None:
    dice = random.Random(seed)
    for n, point in enumerate(sorted(dice.sample(range(1, 40), 3))):
        podd.stop()
        podd.start(PODD_FAILPOINT=f"any:{point}")
        pod = web(f"p{n}", {"containerPort": 80, "hostPort": 8080 + n})
        podd.cli("apply", "-f", "-", "--wait", status=None, stdin=pod)
        podd.cli("delete", "pod", f"p{n}", "--now", status=None)
        podd.ensure_running()
        podd.cli("delete", "pod", f"p{n}", "--now", status=None)


@pytest.mark.parametrize("driver", ["setns"])
def test_podd_is_killed_while_a_plugin_runs(podd: Podd, there: Place) -> None:
    dice = random.Random(5)
    for n in range(4):
        podd.cli("apply", "-f", "-", stdin=web(f"p{n}", {"containerPort": 80, "hostPort": 8080}))
        until(lambda: any((podd.folder / "state/cni/results").glob("podd-*")), "it is being connected")
        time.sleep(dice.random() * 0.2)
        podd.kill()
        podd.start()
        podd.cli("delete", "pod", f"p{n}", "--now")
        until(lambda: not any((podd.folder / "state/cni/results").glob("podd-*")), "it is disconnected")


@pytest.mark.parametrize("driver", ["setns"])
def test_rules_that_somebody_has_flushed(podd: Podd, there: Place) -> None:
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
    tell("nsenter", f"--net={there.host}", "nft", "flush", "ruleset")
    assert there.refuses(HOST[0], 8080)
    podd.cli("restart", "a", "--grace-period", "0")
    until(lambda: not there.refuses(HOST[0], 8080), "a restart leads the port to it again")
