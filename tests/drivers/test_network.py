"""Sandboxes of the drivers with shims and their network: made together, undone together, whatever fails."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from ground import SHIPPED, Ground, must_have, own_network, tell
from real import until
from scripted import Scripted
from structlog.testing import capture_logs

from podd.driver.contract import CanConnect, CanNetwork, CanStats, NamespaceScopes, PortMapping
from podd.driver.hookspecs import DriverPaths
from podd.errors import NotFound, Unavailable
from podd.model.ids import SandboxId
from podd.testing.contract import DriverContract
from podd.testing.lab import Lab

pytestmark = [pytest.mark.anyio, pytest.mark.root]

WEB = PortMapping(container_port=80, host_port=48080)
ALSO = PortMapping(container_port=80, host_port=48081)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def net(tmp_path: Path) -> Scripted:
    (tmp_path / "net").mkdir()
    return Scripted(tmp_path / "net")


@pytest.fixture
def paths(net: Scripted, tmp_path: Path) -> DriverPaths:
    places = {f"{kind}_dir": f"{tmp_path}/{kind}" for kind in ("run", "state", "log")}
    return DriverPaths(**places, network=net.places)


@pytest.fixture(params=["setns", "runc"])
async def lab(request: pytest.FixtureRequest, net: Scripted, tmp_path: Path) -> AsyncIterator[Lab]:
    """Afterwards nothing is left of any sandbox, nor of what plugins have done for it."""
    make: Any = request.getfixturevalue(f"make_{request.param}")
    shared = tmp_path / "shared"
    shared.mkdir()
    lab = Lab(make if request.param == "setns" else make("runc"), DriverContract().arrange, shared)
    await lab.enter()
    yield lab
    await lab.close()
    assert (net.kept(), net.records()) == ([], [])


async def test_addresses_come_with_the_sandbox_and_stay(lab: Lab, net: Scripted) -> None:
    config = lab.sandbox_config(ports=[WEB])
    made = await lab.driver.create_sandbox(config)
    assert made.ips == ("10.0.0.9",)
    assert net.stdin("second", "ADD")["runtimeConfig"]["portMappings"][0]["hostPort"] == 48080
    async with lab.away():
        pass
    net.calls()
    assert await lab.driver.create_sandbox(config) == made
    assert net.calls() == []
    await lab.driver.destroy_sandbox(config.id)
    pin = f"{made.handle.state['run_dir']}/ns/net"
    assert net.calls() == [f"DEL second {pin}", f"DEL first {pin}"], "while its namespace is there"


async def test_the_hosts_network_is_no_plugins_matter(lab: Lab, net: Scripted) -> None:
    made = await lab.sandbox(namespaces=NamespaceScopes(net="node"), ports=[WEB])
    assert (made.ips, net.calls()) == ((), [])


async def test_without_a_network_a_sandbox_is_alone(lab: Lab, net: Scripted) -> None:
    (net.top / "conf" / "10.conflist").unlink()
    assert (await lab.sandbox()).ips == ()
    assert isinstance(lab.driver, CanNetwork)
    assert not (await lab.driver.network_status()).ready


@pytest.mark.parametrize("plugin", ["first", "second"])
@pytest.mark.parametrize("fault", ["fail", "late", "garbage"])
async def test_what_cannot_be_connected_is_not_there(lab: Lab, net: Scripted, plugin: str, fault: str) -> None:
    net.fault(plugin, "ADD", fault)
    config = lab.sandbox_config()
    with pytest.raises(Unavailable, match=f"CNI plugin {plugin}: ADD"):
        await lab.driver.create_sandbox(config)
    assert await lab.driver.owned() == []
    assert (net.kept(), net.records()) == ([], [])


async def test_processes_end_though_the_network_does_not_let_go(lab: Lab, net: Scripted) -> None:
    made = await lab.sandbox()
    await lab.started(made.handle)
    sandbox = SandboxId(made.handle.id)
    net.fault("second", "DEL", "fail", "fail")
    for _ in range(2):
        with pytest.raises(Unavailable, match="CNI plugin second: DEL: as scripted"):
            await lab.driver.destroy_sandbox(sandbox)
        (left,) = await lab.driver.owned()
        assert (left.sandbox_id, left.handle) == (sandbox, None), "that is all there is of it"
        with pytest.raises(NotFound):
            await lab.driver.sandbox_status(made.handle)
        async with lab.away():
            pass
    await lab.driver.destroy_sandbox(sandbox)
    assert await lab.driver.owned() == []


async def test_other_ports(lab: Lab, net: Scripted) -> None:
    made = await lab.sandbox(ports=[WEB])
    assert isinstance(lab.driver, CanNetwork)
    await lab.driver.publish(made.handle, [ALSO])
    assert net.stdin("second", "ADD")["runtimeConfig"]["portMappings"][0]["hostPort"] == 48081


async def test_a_network_that_was_damaged_is_told(lab: Lab, net: Scripted) -> None:
    made = await lab.sandbox()
    net.fault("first", "CHECK", "fail")
    with capture_logs() as told:
        await lab.driver.recover(made.handle, [])
        told_of = lambda: any(one["event"] == "network.damaged" for one in told)  # noqa: E731
        await anyio.to_thread.run_sync(until, told_of, "it is told")


# ---- what passes through an interface --------------------------------------------------------------------------------


@pytest.fixture
def real(net: Scripted, tmp_path: Path) -> Iterator[None]:
    """The shipped network, in a namespace of the test's own."""
    must_have("bridge", "host-local", "portmap", "firewall")
    (tmp_path / "ground").mkdir()
    (net.top / "conf" / "10.conflist").unlink()
    ground = Path(Ground(tmp_path / "ground", shipped=SHIPPED).places.conf_dir) / "10.conflist"
    ground.rename(net.top / "conf" / "10.conflist")
    with own_network():
        tell("ip", "link", "add", "podd0", "type", "bridge")  # it stays, and is none of a sandbox's
        yield


async def test_what_passes_is_counted(real: None, lab: Lab) -> None:
    made = await lab.sandbox(ports=[WEB])
    assert isinstance(lab.driver, CanConnect | CanStats)
    before = {one.name: one for one in (await lab.driver.usage(made.handle, [])).interfaces}
    assert list(before) == ["eth0"]
    fd = await lab.driver.open_socket(made.handle, socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket(fileno=fd) as inside:
        inside.sendto(b"x" * 1000, ("10.86.0.1", 9))
    (after,) = (await lab.driver.usage(made.handle, [])).interfaces
    assert after.sent_bytes - before["eth0"].sent_bytes >= 1000
    assert (after.received_errors, after.sent_errors) == (0, 0)
