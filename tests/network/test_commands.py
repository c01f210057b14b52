"""What is asked of a network beside connecting pods: ports of one that runs, CHECK, STATUS, GC."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import pytest
from msgspec.structs import replace
from scripted import Scripted, wanted

from podd.driver.contract import PortMapping
from podd.errors import Conflict, Unavailable, Unsupported

pytestmark = pytest.mark.anyio

A, B = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
WEB = PortMapping(container_port=80, host_port=48080)
ALSO = PortMapping(container_port=80, host_port=48081)


# ---- ports -----------------------------------------------------------------------------------------------------------


async def test_a_port_leads_to_one_pod(net: Scripted) -> None:
    await net.networks("setns").attach(wanted(A, ports=[WEB]))
    with pytest.raises(Conflict, match="host port 48080/TCP is led to pod default/web"):
        await net.networks("runc").attach(wanted(B, ports=[ALSO, WEB]))
    assert net.networks("runc").held() == []
    await net.networks("setns").detach(A)
    await net.networks("runc").attach(wanted(B, ports=[ALSO, WEB]))
    await net.networks("runc").detach(B)


async def test_a_port_that_a_program_of_the_host_has(net: Scripted) -> None:
    with socket.socket() as program:
        program.bind(("127.0.0.1", 0))
        program.listen()
        port = PortMapping(container_port=80, host_port=program.getsockname()[1])
        with pytest.raises(Conflict, match="a program of the host listens there"):
            await net.networks().attach(wanted(A, ports=[port]))
        for ip in ("127.0.0.2", "::1"):
            await net.networks().attach(wanted(B, ports=[replace(port, host_ip=ip)]))
            await net.networks().detach(B)
        with socket.create_connection(program.getsockname()) as client:
            mine = PortMapping(container_port=80, host_port=client.getsockname()[1])
            await net.networks().attach(wanted(B, ports=[mine]))  # what a program has only connected from
            await net.networks().detach(B)
    assert net.records() == []
    await net.networks().attach(wanted(A, ports=[port]))
    await net.networks().detach(A)


async def test_ports_change_while_a_pod_runs(net: Scripted) -> None:
    networks = net.networks()
    await networks.attach(wanted(A, ports=[WEB]))
    net.calls()
    await networks.publish(A, [ALSO])
    assert net.calls() == ["DEL second /nowhere", "ADD second /nowhere"], "only the plugin that maps ports"
    assert _ports(net.stdin("second", "DEL")) == [48080]
    assert _ports(net.stdin("second", "ADD")) == [48081]
    assert net.stdin("second", "ADD")["prevResult"]["ips"], "it is told the address"
    await networks.attach(wanted(B, ports=[WEB]))
    await networks.detach(B)
    await net.networks().detach(A)
    assert _ports(net.stdin("second", "DEL")) == [48081]


async def test_the_same_ports_again_are_no_change(net: Scripted) -> None:
    networks = net.networks()
    await networks.attach(wanted(A, ports=[WEB]))
    net.calls()
    await networks.publish(A, [WEB])
    assert net.calls() == []
    await networks.detach(A)


async def test_ports_that_cannot_be_had_leave_those_that_are(net: Scripted) -> None:
    networks = net.networks()
    await networks.attach(wanted(A, ports=[WEB]))
    await networks.attach(wanted(B, ports=[ALSO]))
    with pytest.raises(Conflict):
        await networks.publish(A, [ALSO])
    net.fault("second", "ADD", "late")
    with pytest.raises(Unavailable, match=r"done, and failed$"):
        await networks.publish(A, [])
    assert _ports(net.stdin("second", "ADD")) == [48080], "they are led to it again"
    with pytest.raises(Conflict, match="led to pod"):
        await networks.publish(B, [WEB])
    net.fault("second", "ADD", "fail", "fail")
    with pytest.raises(Unavailable, match="could not be led to the pod again"):
        await networks.publish(A, [])
    for sandbox in (A, B):
        await networks.detach(sandbox)
    assert (net.kept(), net.records()) == ([], [])


async def test_ports_of_what_is_not_connected(net: Scripted) -> None:
    await net.networks().publish(A, [])
    with pytest.raises(Unsupported, match="it was made when there was no network"):
        await net.networks().publish(A, [WEB])
    net.configure(plugins=[{"type": "first"}])
    await net.networks().attach(wanted(A))
    with pytest.raises(Unsupported):
        await net.networks().publish(A, [WEB])
    await net.networks().publish(A, [])
    await net.networks().detach(A)


def _ports(stdin: dict[str, Any]) -> list[int]:
    return [mapping["hostPort"] for mapping in stdin.get("runtimeConfig", {}).get("portMappings", [])]


# ---- CHECK, STATUS, GC -----------------------------------------------------------------------------------------------


async def test_check(net: Scripted) -> None:
    networks = net.networks()
    await networks.attach(wanted(A))
    net.calls()
    await networks.check(A)
    assert net.calls() == ["CHECK first /nowhere", "CHECK second /nowhere"]
    assert net.stdin("first", "CHECK")["prevResult"]["by"] == "second"
    net.fault("second", "CHECK", "fail", "word")
    with pytest.raises(Unavailable, match="as scripted"):
        await networks.check(A)
    await networks.check(A)  # a plugin that breaks tells nothing
    await networks.detach(A)
    net.calls()
    await networks.check(A)
    assert net.calls() == []


@pytest.mark.parametrize("keys", [{"disableCheck": True}, {"cniVersion": "0.3.1"}], ids=["disabled", "too old"])
async def test_no_check(net: Scripted, keys: dict[str, Any]) -> None:
    net.configure(**keys)
    await net.networks().attach(wanted(A))
    net.calls()
    await net.networks().check(A)
    assert net.calls() == []
    await net.networks().detach(A)


async def test_status(net: Scripted) -> None:
    assert (await net.networks().status()).ready
    assert net.calls() == [], "before 1.1.0 there is no such command"
    net.configure(cniVersion="1.1.0")
    status = await net.networks().status()
    assert (status.ready, status.name) == (True, "net")
    assert net.calls() == ["STATUS first -", "STATUS second -"]
    net.fault("first", "STATUS", "fail")
    status = await net.networks().status()
    assert (status.ready, status.reason) == (False, "CNI plugin first: STATUS: as scripted")


async def test_garbage_collection(net: Scripted) -> None:
    networks = net.networks()
    await networks.collect()
    assert net.calls() == [], "before 1.1.0 there is no such command"
    net.configure(cniVersion="1.1.0")
    await networks.attach(wanted(A))
    await net.networks("runc").attach(wanted(B))
    net.calls()
    net.fault("first", "GC", "fail")
    await networks.collect()
    assert net.calls() == ["GC first -", "GC second -"], "each is asked, whatever the others say"
    valid = net.stdin("second", "GC")["cni.dev/valid-attachments"]
    assert valid == [{"containerID": one, "ifname": "eth0"} for one in (A, B)], "of all drivers"
    net.configure(cniVersion="1.1.0", disableGC=True)
    await networks.collect()
    assert net.calls() == []
    await networks.detach(A)
    await net.networks("runc").detach(B)


async def test_nothing_is_collected_while_a_pod_is_being_connected(net: Scripted) -> None:
    net.configure(cniVersion="1.1.0")
    net.fault("first", "ADD", "wait")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(net.networks().attach, wanted(A))
        await anyio.to_thread.run_sync(net.until_called)
        net.calls()
        await net.networks().collect()
        assert net.calls() == []
        (net.top / "go").touch()
    await net.networks().detach(A)
