"""Pods on a dockerd that has bridges: their addresses, ports of the host that lead to them, and their names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from networked import HOST, Place, place
from real import Podd, manifest, sh, sleeper
from running import running_on

from dockerd import IMAGE, Dockerd, a_dockerd

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(180)]

SUBNETS = ("--bip=10.87.0.1/24", "--ipv6", "--fixed-cidr-v6=fd87:706f::/64")


@pytest.fixture(scope="module")
def there() -> Iterator[Place]:
    with place() as made:
        yield made


@pytest.fixture(scope="module")
def bridged(there: Place) -> Iterator[Dockerd]:
    yield from a_dockerd(*SUBNETS, network=there.host)


@pytest.fixture(scope="module")
def shared_podd(bridged: Dockerd, there: Place) -> Iterator[Podd]:
    yield from running_on(bridged, 'runtime = "podd"', network=there.host)


@pytest.fixture
def podd(shared_podd: Podd) -> Iterator[Podd]:
    """One for all, with the leak audit after each test."""
    before = shared_podd.snapshot()
    yield shared_podd
    shared_podd.cli("delete", "pods", "--all", "--now")
    shared_podd.assert_clean(before)


@contextmanager
def connected_to(network: str, bridged: Dockerd, there: Place) -> Iterator[Podd]:
    """Another podd, on the same dockerd."""
    bridged.network = network
    try:
        with contextmanager(running_on)(bridged, network=there.host) as other:
            yield other
    finally:
        bridged.network = "bridge"


def web(name: str, *ports: dict[str, Any], **more: Any) -> str:
    serve = f"mkdir /www; echo {name} > /www/index.html; exec busybox httpd -f -p 80 -h /www"
    ready = {"tcpSocket": {"port": 80}, "periodSeconds": 1}
    members = [sh("web", serve, ports=list(ports), readinessProbe=ready), sleeper("beside")]
    return manifest(name, *({**one, "image": IMAGE} for one in members), terminationGracePeriodSeconds=0, **more)


def ips(podd: Podd, name: str) -> list[str]:
    return [one["ip"] for one in podd.status(name)["podIPs"]]


def test_two_pods_and_a_client(podd: Podd, there: Place) -> None:
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
    podd.apply(web("b"))
    a, b = (f"/proc/{podd.pids(name)['beside']}/ns/net" for name in "ab")
    assert [ip.partition(".")[0].partition(":")[0] for ip in ips(podd, "a")] == ["10", "fd87"]
    assert podd.status("a")["podIP"] == ips(podd, "a")[0]
    assert there.get(ips(podd, "a")[0], of=b) == "a"
    assert there.get(ips(podd, "b")[0], of=a) == "b"
    assert there.get("127.0.0.1", of=a) == "a"
    assert there.get(HOST[0], 8080) == "a", "from outside"
    assert there.get("127.0.0.1", 8080, of=there.host) == "a", "from the host"
    assert there.refuses(HOST[0], 80), "only the port that is asked for"
    hosts = podd.cli("exec", "a", "-c", "web", "--", "grep", "-w", "a", "/etc/hosts").split()
    assert hosts == [word for ip in ips(podd, "a") for word in (ip, "a")]
    stats = json.loads(podd.cli("stats", "a", "-o", "json"))
    assert "eth0" in json.dumps(stats)
    podd.cli("delete", "pod", "a", "--now")
    assert there.refuses(HOST[0], 8080)


def test_a_port_leads_to_one_pod(podd: Podd, there: Place, bridged: Dockerd) -> None:
    """Also where somebody else's container has it, of whom podd does not know."""
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
    wait = ("apply", "-f", "-", "--wait", "--timeout", "3")
    second = web("b", {"containerPort": 80, "hostPort": 8080}, restartPolicy="Never")
    assert "8080" in podd.cli(*wait, status=None, stdin=second)
    assert there.get(HOST[0], 8080) == "a"
    podd.cli("delete", "pods", "--all", "--now")
    bridged.publish("strangers", IMAGE, 8080)
    try:
        said = podd.cli(*wait, status=None, stdin=second)
        assert "port is already allocated" in said
        assert "choose another hostPort" in said
    finally:
        bridged.remove("strangers")


def test_other_ports_take_another_pod(podd: Podd, there: Place) -> None:
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}))
    uid = podd.pod("a")["metadata"]["uid"]
    podd.apply(web("a", {"containerPort": 80, "hostPort": 8081}))
    assert podd.pod("a")["metadata"]["uid"] != uid
    assert there.get(HOST[0], 8081) == "a"
    assert there.refuses(HOST[0], 8080)


def test_bandwidth_is_refused(podd: Podd) -> None:
    pod = json.loads(web("a", restartPolicy="Never"))
    pod["metadata"]["annotations"] = {"kubernetes.io/ingress-bandwidth": "10M"}
    assert "dockerd limits no network" in podd.cli(
        "apply", "-f", "-", "--wait", "--timeout", "3", status=None, stdin=json.dumps(pod)
    )


def test_a_network_of_dockerds_has_its_own_names(bridged: Dockerd, there: Place) -> None:
    bridged.create_network("named")
    try:
        with connected_to("named", bridged, there) as podd:
            podd.apply(web("a", dnsConfig={"searches": ["a.example"]}))
            said = podd.cli("exec", "a", "-c", "beside", "--", "cat", "/etc/resolv.conf")
            assert "nameserver 127.0.0.11" in said
            assert "search a.example" in said
    finally:
        bridged.remove_network("named")


@pytest.mark.parametrize(
    ("network", "why"), [("nowhere", "dockerd has no network nowhere"), ("none", "needs capability network")]
)
def test_without_a_network_ports_are_refused(bridged: Dockerd, there: Place, network: str, why: str) -> None:
    with connected_to(network, bridged, there) as podd:
        assert why in podd.apply(web("a", {"containerPort": 80, "hostPort": 8080}), status=1)
