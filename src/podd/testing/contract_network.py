"""The driver contract's tests of a sandbox's network. See podd.testing.contract."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from podd.driver.contract import (
    CanNetwork,
    CanStats,
    Dns,
    HostAlias,
    NamespaceScopes,
    NetworkStatus,
    PortMapping,
)
from podd.errors import Conflict, NotFound, Unavailable, Unsupported
from podd.model.ids import SandboxId
from podd.testing.cancelling import cancelled_everywhere
from podd.testing.lab import FOREVER, SHARED, Act, Lab, needs, needs_processes

PORT = 47_011
"""Of the host, led to sandboxes by these tests alone."""

SHOW = Act(
    f"cd {SHARED}; cat /proc/sys/kernel/hostname > hostname.new; mv hostname.new hostname; "
    "for name in hosts resolv.conf; do cat /etc/$name > $name.new; mv $name.new $name; done; echo > all"
)


class Network:
    """Mixed into DriverContract."""

    async def test_a_network_that_is_not_ready_says_why_and_what_to_do(self, lab: Lab) -> None:
        status = await _network(lab).network_status()
        assert status.ready or (status.reason and status.remedy)

    async def test_sandboxes_have_addresses_of_their_own(self, lab: Lab) -> None:
        driver = _network(lab)
        config = lab.sandbox_config()
        made = await lab.driver.create_sandbox(config)
        again = await lab.driver.create_sandbox(config)
        other = await lab.sandbox()
        of_host = await lab.sandbox(namespaces=NamespaceScopes(net="node"))
        assert again.ips == made.ips
        assert of_host.ips == ()
        if (await driver.network_status()).ready:
            assert made.ips
            assert not {*made.ips} & {*other.ips}
            assert [str(ipaddress.ip_address(ip)) for ip in made.ips] == list(made.ips)
        else:
            assert made.ips == ()

    async def test_what_comes_and_goes_is_counted_by_interface(self, lab: Lab) -> None:
        _network(lab)
        needs(lab, "stats")
        assert isinstance(lab.driver, CanStats)
        made = await lab.sandbox()
        found = (await lab.driver.usage(made.handle, [])).interfaces
        assert bool(found) == bool(made.ips)
        assert "lo" not in [one.name for one in found]

    # ---- names

    async def test_a_sandbox_tells_its_names_and_resolver(self: Any, lab: Lab) -> None:
        _network(lab)
        needs_processes(self)
        made = await lab.sandbox(
            hostname="web",
            domain="sub.default.svc.cluster.local",
            host_aliases=(HostAlias(ip="192.0.2.7", names=("db", "db.example")),),
            dns=Dns(of_host=False, servers=("192.0.2.53",), searches=("a.example",), options=("ndots:2",)),
        )
        await lab.started(made.handle, SHOW)
        await lab.seen("all")
        hosts = [line.split() for line in (lab.shared / "hosts").read_text().splitlines()]
        assert (lab.shared / "hostname").read_text() == "web\n"
        assert ["192.0.2.7", "db", "db.example"] in hosts
        for ip in made.ips or ("127.0.0.1",):
            assert [ip, "web.sub.default.svc.cluster.local", "web"] in hosts
        resolver = [line.split() for line in (lab.shared / "resolv.conf").read_text().splitlines()]
        assert [line for line in resolver if line[0][0] != "#"] == [
            ["nameserver", "192.0.2.53"],
            ["search", "a.example"],
            ["options", "ndots:2"],
        ]

    # ---- ports of the host

    async def test_without_a_network_no_port_of_the_host_is_led(self, lab: Lab) -> None:
        driver = _network(lab)
        if (await driver.network_status()).ready:
            pytest.skip("the network is ready")
        with pytest.raises((Unavailable, Unsupported)):
            await lab.sandbox(ports=_ports(PORT))
        needs(lab, "publish")
        made = await lab.sandbox()
        with pytest.raises((Unavailable, Unsupported)):
            await driver.publish(made.handle, _ports(PORT))
        await driver.publish(made.handle, ())

    async def test_a_port_of_the_host_leads_to_one_sandbox(self, lab: Lab) -> None:
        await _ready(lab)
        first = await lab.sandbox(ports=_ports(PORT))
        with pytest.raises(Conflict):
            await lab.sandbox(ports=_ports(PORT))
        await lab.driver.destroy_sandbox(SandboxId(first.handle.id))
        await lab.sandbox(ports=_ports(PORT))

    async def test_other_ports_are_led_to_what_is_there_all_or_none(self, lab: Lab) -> None:
        await _ready(lab)
        needs(lab, "publish")
        driver = _network(lab)
        one, other = await lab.sandbox(ports=_ports(PORT)), await lab.sandbox()
        await lab.started(one.handle, FOREVER)
        with pytest.raises(Conflict):
            await driver.publish(other.handle, _ports(PORT + 1, PORT))
        for _ in range(2):
            await driver.publish(one.handle, _ports(PORT + 1))  # what was refused has taken nothing
        await driver.publish(other.handle, _ports(PORT))
        await driver.publish(one.handle, ())
        await driver.publish(other.handle, _ports(PORT, PORT + 1))

    async def test_ports_that_are_changed_are_so_after_a_restart_of_podd(self, lab: Lab) -> None:
        await _ready(lab)
        needs(lab, "publish")
        one = await lab.sandbox(ports=_ports(PORT))
        other = await lab.sandbox()
        await _network(lab).publish(one.handle, _ports(PORT + 1))
        async with lab.away():
            pass
        for made in (one, other):
            await lab.driver.recover(made.handle, ())
        with pytest.raises(Conflict):
            await _network(lab).publish(other.handle, _ports(PORT + 1))
        await _network(lab).publish(other.handle, _ports(PORT))

    async def test_publish_cancelled_anywhere(self, lab: Lab) -> None:
        await _ready(lab)
        needs(lab, "publish")
        driver, made = _network(lab), await lab.sandbox()
        async for _ in cancelled_everywhere(lambda: driver.publish(made.handle, _ports(PORT))):
            pass
        await driver.publish(made.handle, _ports(PORT))
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
        await lab.sandbox(ports=_ports(PORT))

    async def test_nothing_is_led_to_what_is_gone(self, lab: Lab) -> None:
        await _ready(lab)
        needs(lab, "publish")
        made = await lab.sandbox()
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
        with pytest.raises(NotFound):
            await _network(lab).publish(made.handle, _ports(PORT))


def _network(lab: Lab) -> CanNetwork:
    needs(lab, "network")
    assert isinstance(lab.driver, CanNetwork)
    return lab.driver


async def _ready(lab: Lab) -> NetworkStatus:
    status = await _network(lab).network_status()
    if not status.ready:
        pytest.skip(f"the network is not ready: {status.reason}")
    return status


def _ports(*numbers: int) -> tuple[PortMapping, ...]:
    return tuple(PortMapping(container_port=80, host_port=number) for number in numbers)
