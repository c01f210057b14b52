"""The plugins of the distribution, in a network namespace of the tests' own."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest
from ground import FULL, SHIPPED, Ground, must_have, own_network, pod_network, rules, tell

from podd.driver.contract import PortMapping
from podd.errors import PoddError, Unavailable
from podd.linux import namespaces
from podd.network.call import Wanted
from podd.network.network import Networks

pytestmark = [pytest.mark.root, pytest.mark.slow]

PORT = 8000
WEB = PortMapping(container_port=80, host_port=8080)
SMALL = [
    {
        "type": "bridge",
        "bridge": "podd0",
        "isGateway": True,
        "ipMasq": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.86.0.0/24"}]]},
    },
    {"type": "portmap", "capabilities": {"portMappings": True}},
    {"type": "saboteur"},
]
SABOTEUR = """\
#!/bin/sh
cat >"${0%/*}/stdin"
[ "$CNI_COMMAND" = ADD ] || exit 0
[ ! -e "${0%/*}/fails" ] || { echo '{"code": 999, "msg": "as scripted"}'; exit 1; }
sed -n 's/.*"prevResult": \\(.*\\)}$/\\1/p' "${0%/*}/stdin"
"""


@pytest.fixture(autouse=True)
def own() -> Iterator[None]:
    must_have("bridge", "host-local", "portmap", "firewall", "bandwidth")
    with own_network():
        yield


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def do(verb: Callable[[], object]) -> object:
    return anyio.run(verb)


def wanted(sandbox: str, netns: str, **more: object) -> Wanted:
    names = {"pod_uid": "u-1", "pod_name": "web", "pod_namespace": "default"}
    return Wanted(sandbox=sandbox, netns=netns, **names, **more)  # type: ignore[arg-type]


def attach(ground: Ground, sandbox: str, netns: str, **more: object) -> tuple[str, ...]:
    asked = wanted(sandbox, netns, **more)
    return anyio.run(lambda: Networks("setns", ground.places).attach(asked))


def detach(ground: Ground, sandbox: str) -> None:
    anyio.run(lambda: Networks("setns", ground.places).detach(sandbox))


def warm(ground: Ground, **more: object) -> list[str]:
    """What stays when a pod has come and gone: the bridge, and chains of the packet filter for all pods."""
    with pod_network() as netns:
        attach(ground, "f" * 16, netns, ports=[WEB], **more)
        detach(ground, "f" * 16)
    return ground.left()


@pytest.mark.parametrize(("shipped", "families"), [(SHIPPED, ["10"]), (FULL, ["10", "fd86"])])
def test_the_shipped_configurations(tmp_path: Path, shipped: Path, families: list[str]) -> None:
    ground = Ground(tmp_path, shipped=shipped)
    before = warm(ground)
    with pod_network() as netns:
        ips = attach(ground, "a" * 16, netns, ports=[WEB])
        assert [ip.split(".")[0].split(":")[0] for ip in ips] == families
        assert any("8080" in rule for rule in rules())
        assert attach(ground, "a" * 16, netns, ports=[WEB]) == ips
        assert f"{ips[0]}/16" in tell("nsenter", f"--net={netns}", "ip", "-o", "address", "show", "eth0")
        anyio.run(
            lambda: Networks("setns", ground.places).publish(
                "a" * 16, [PortMapping(container_port=80, host_port=8081, protocol="UDP")]
            )
        )
        assert not any("dport 8080" in rule for rule in rules())
        assert any("udp dport 8081" in rule for rule in rules())
        detach(ground, "a" * 16)
    assert ground.left() == before
    status = anyio.run(Networks("setns", ground.places).status)
    assert (status.ready, status.name) == (True, "podd")


def test_one_shipped_configuration_takes_the_others_place(tmp_path: Path) -> None:
    """On the same bridge, with the same leases: who was connected by one is let go by it when the other counts."""
    ground = Ground(tmp_path, shipped=SHIPPED)
    file = tmp_path / "conf" / "10.conflist"
    leases = json.loads(file.read_text())["plugins"][0]["ipam"]["dataDir"]
    with pod_network() as one, pod_network() as other:
        (first,) = attach(ground, "a" * 16, one)
        document = json.loads(FULL.read_text())
        document["plugins"][0]["ipam"]["dataDir"] = leases
        file.write_text(json.dumps(document))
        second, _ = attach(ground, "b" * 16, other)
        assert first != second
        with closing(listener(other, second)), socket_of(one) as client:
            client.connect((second, PORT))
        detach(ground, "a" * 16)
        detach(ground, "b" * 16)
    assert not [line for line in ground.left() if first in line or second in line]


RATE = 16_000_000
MEGABYTE = 10**6


def test_a_rate_is_a_rate(ground: Ground) -> None:
    """After a second's worth of it, which may pass at once, what is left takes its time; both ways."""
    with pod_network() as netns:
        (ip, _) = attach(ground, "a" * 16, netns, ingress_bits=RATE, egress_bits=RATE)
        with closing(listener(netns, ip)) as server, socket.create_connection((ip, PORT), 5) as outside:
            inside, _ = server.accept()
            with inside:
                for sender, receiver in ((outside, inside), (inside, outside)):
                    assert passing_s(sender, receiver, 3 * MEGABYTE) >= (3 * MEGABYTE * 8 - RATE) / RATE
        detach(ground, "a" * 16)


def listener(netns: str, ip: str) -> socket.socket:
    server = socket_of(netns)
    server.bind((ip, PORT))
    server.listen()
    return server


def socket_of(netns: str) -> socket.socket:
    made = socket.socket(fileno=namespaces.open_socket(netns, socket.AF_INET, socket.SOCK_STREAM))
    made.settimeout(5)
    return made


def passing_s(sender: socket.socket, receiver: socket.socket, size: int) -> float:
    began = time.monotonic()
    sending = threading.Thread(target=sender.sendall, args=(bytes(size),))
    sending.start()
    while size:
        size -= len(receiver.recv(size))
    sending.join()
    return time.monotonic() - began


def test_a_pods_namespace_that_has_vanished(ground: Ground) -> None:
    """As after a reboot that was none for the packet filter: masquerading is ended all the same."""
    before = warm(ground)
    with pod_network() as netns:
        attach(ground, "a" * 16, netns, ports=[WEB])
    detach(ground, "a" * 16)
    assert ground.left() == before


def test_a_pods_interface_that_has_vanished(ground: Ground) -> None:
    before = warm(ground)
    with pod_network() as netns:
        attach(ground, "a" * 16, netns)
        tell("nsenter", f"--net={netns}", "ip", "link", "del", "eth0")
        detach(ground, "a" * 16)
    assert ground.left() == before


def test_no_address_is_left(tmp_path: Path) -> None:
    small = json.loads(json.dumps(SMALL[:2]))
    small[0]["ipam"]["ranges"] = [[{"subnet": "10.86.0.0/30"}]]
    ground = Ground(tmp_path, small)
    with pod_network() as one, pod_network() as other:
        attach(ground, "a" * 16, one)
        with pytest.raises(Unavailable, match="no IP addresses available"):
            attach(ground, "b" * 16, other)
        detach(ground, "b" * 16)
        detach(ground, "a" * 16)
        attach(ground, "b" * 16, other)
        detach(ground, "b" * 16)


@pytest.mark.timeout(600)
def test_two_hundred_rounds_leave_everything_as_it_was(tmp_path: Path) -> None:
    ground = Ground(tmp_path, json.loads(json.dumps(SMALL)))
    saboteur = tmp_path / "bin" / "saboteur"
    saboteur.write_text(SABOTEUR)
    saboteur.chmod(0o755)
    before = warm(ground)
    dice = random.Random(3)
    for number in range(200):
        _round(ground, dice, f"{number:016x}")
    assert ground.left() == before
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def _round(ground: Ground, dice: random.Random, sandbox: str) -> None:
    ports = [WEB] if dice.random() < 0.2 else []
    fails = ground.top / "bin" / "fails"
    story = dice.choice(["whole", "fails", "killed", "killed undoing", "cancelled", "vanished"])
    with pod_network() as netns:
        if story == "fails":
            fails.touch()
        asked = wanted(sandbox, netns, ports=ports)
        if story == "killed":
            _killed(dice, lambda: Networks("setns", ground.places).attach(asked))
        elif story == "cancelled":
            anyio.run(_cancelled, ground, dice.random() * 0.1, asked)
        else:
            with suppress(PoddError):
                attach(ground, sandbox, netns, ports=ports)
        fails.unlink(missing_ok=True)
        if story == "killed undoing":
            _killed(dice, lambda: Networks("setns", ground.places).detach(sandbox))
        if story != "vanished":
            detach(ground, sandbox)
    detach(ground, sandbox)
    assert anyio.run(_held, ground) == []


async def _held(ground: Ground) -> list[str]:
    return Networks("setns", ground.places).held()


async def _cancelled(ground: Ground, after_s: float, asked: Wanted) -> None:
    with anyio.move_on_after(after_s):
        await Networks("setns", ground.places).attach(asked)


def _killed(dice: random.Random, verb: Callable[[], object]) -> None:
    """Another podd is killed while it does that; the plugin that it runs then goes on."""
    child = os.fork()
    if child == 0:
        try:
            anyio.run(verb)
        finally:
            os._exit(0)
    time.sleep(dice.random() * 0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
