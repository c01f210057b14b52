"""Connecting pods by plugins that go wrong in every way, and by podds that die: nothing may be left."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from contextlib import suppress

import anyio
import msgspec
import pytest
from real import alive, until
from scripted import Scripted, wanted

from podd.driver.contract import PortMapping
from podd.errors import PoddError, Unavailable, Unsupported
from podd.network import network, orphans, plugins
from podd.testing.cancelling import cancelled_everywhere

pytestmark = pytest.mark.anyio

A, B = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
WEB = PortMapping(container_port=80, host_port=48080)


# ---- the chain -------------------------------------------------------------------------------------------------------


async def test_a_chain_and_back(net: Scripted) -> None:
    networks = net.networks()
    assert await networks.attach(wanted(A)) == ("10.0.0.9",)
    assert net.calls() == ["ADD first /nowhere", "ADD second /nowhere"]
    assert "prevResult" not in net.stdin("first", "ADD")
    assert net.stdin("second", "ADD")["prevResult"]["by"] == "first"
    assert networks.held() == [A]
    await networks.detach(A)
    assert net.calls() == ["DEL second -", "DEL first -"], "its namespace is not there"
    assert net.stdin("first", "DEL")["prevResult"]["by"] == "second", "the last result"
    assert (net.kept(), net.records(), networks.held()) == ([], [], [])


async def test_asked_again_it_is_the_same(net: Scripted) -> None:
    first = await net.networks().attach(wanted(A))
    net.calls()
    assert await net.networks().attach(wanted(A)) == first, "also by a podd that was started since"
    assert net.calls() == []
    await net.networks().detach(A)
    net.calls()
    await net.networks().detach(A)
    assert net.calls() == []


async def test_it_is_on_the_disk_before_the_first_plugin_runs(net: Scripted) -> None:
    net.fault("first", "ADD", "wait")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(net.networks().attach, wanted(A, ports=[WEB]))
        await anyio.to_thread.run_sync(net.until_called)
        (name,) = net.records()
        assert name == f"net-{A}-eth0"
        record = json.loads((net.top / "cache/results" / name).read_bytes())
        assert record["kind"] == "cniCacheV1"
        assert record["capabilityArgs"]["portMappings"][0]["hostPort"] == 48080
        assert "result" not in record
        (net.top / "go").touch()
    await net.networks().detach(A)


async def test_what_has_changed_since_does_not_matter(net: Scripted) -> None:
    await net.networks().attach(wanted(A))
    net.configure(name="other", plugins=[{"type": "gone"}])
    await net.networks().detach(A)
    assert net.stdin("first", "DEL")["colour"] == "red"
    assert net.kept() == []
    (net.top / "conf" / "10.conflist").unlink()
    assert await net.networks().attach(wanted(A)) == ()


async def test_a_changed_configuration_counts_from_the_next_pod_on(net: Scripted) -> None:
    networks = net.networks()
    await networks.attach(wanted(A))
    net.configure(plugins=[{"type": "first", "colour": "blue"}])
    await networks.attach(wanted(B))
    assert net.stdin("first", "ADD")["colour"] == "blue"
    await networks.detach(A)
    assert net.stdin("first", "DEL")["colour"] == "red"
    await networks.detach(B)
    assert (net.kept(), net.records()) == ([], [])


# ---- what goes wrong -------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[str, str]] = {
    "fail": ("as scripted", "it fails before it has done anything"),
    "late": ("done, and failed", "it fails afterwards"),
    "word": ("it ended with status 3: oops", "it says so in words"),
    "dies": ("it ended with signal 9", "it is killed when it is done"),
    "garbage": ("it succeeded and printed no result", "it prints half an answer"),
    "flood": ("it printed more than 1048576 bytes", "it prints without end"),
    "hang": ("no answer within", "it never comes back"),
}


@pytest.mark.parametrize("plugin", ["first", "second"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_plugin_that_fails_to_connect(
    net: Scripted, plugin: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "ADD_S", 1.0)
    monkeypatch.setattr(plugins, "END_S", 0.1)
    net.fault(plugin, "ADD", fault)
    networks = net.networks()
    with pytest.raises(Unavailable) as refused:
        await networks.attach(wanted(A))
    assert FAULTS[fault][0] in refused.value.message
    assert networks.held() == [A], "it is not forgotten"
    await networks.detach(A)
    assert (net.kept(), net.records()) == ([], [])


@pytest.mark.parametrize("plugin", ["first", "second"])
@pytest.mark.parametrize("fault", ["fail", "late", "word", "dies"])
async def test_a_plugin_that_fails_twice_to_disconnect(net: Scripted, plugin: str, fault: str) -> None:
    networks = net.networks()
    await networks.attach(wanted(A))
    net.fault(plugin, "DEL", fault, fault)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await networks.detach(A)
        networks = net.networks()  # and podd was started again
        assert networks.held() == [A]
    await networks.detach(A)
    assert (net.kept(), net.records()) == ([], [])


async def test_where_disconnecting_fails_the_plugins_before_it_wait(net: Scripted) -> None:
    networks = net.networks()
    await networks.attach(wanted(A))
    net.calls()
    net.fault("second", "DEL", "fail")
    with pytest.raises(Unavailable):
        await networks.detach(A)
    assert net.calls() == ["DEL second -"], "the address is not given away while a port may lead to it"
    await networks.detach(A)


async def test_a_half_made_one_is_undone_before_it_is_made_anew(net: Scripted) -> None:
    net.fault("second", "ADD", "late")
    with pytest.raises(Unavailable):
        await net.networks().attach(wanted(A))
    net.calls()
    assert await net.networks().attach(wanted(A)) == ("10.0.0.9",)
    assert [call.split()[0] for call in net.calls()] == ["DEL", "DEL", "ADD", "ADD"]
    await net.networks().detach(A)


async def test_no_plugins_and_no_configuration(net: Scripted) -> None:
    (net.top / "bin" / "second").unlink()
    with pytest.raises(Unavailable, match="CNI plugin second: not found in") as refused:
        await net.networks().attach(wanted(A))
    assert "containernetworking-plugins" in refused.value.remedy
    status = await net.networks().status()
    assert (status.ready, status.name) == (False, "net")
    with pytest.raises(Unavailable):
        await net.networks().detach(A)
    net.configure(plugins=[{"type": "first"}])
    with pytest.raises(Unavailable):
        await net.networks().detach(A)
    (net.top / "bin" / "second").symlink_to("first")
    await net.networks().detach(A)
    (net.top / "conf" / "10.conflist").unlink()
    status = await net.networks().status()
    assert (status.ready, status.reason) == (False, f"no network configuration in {net.top / 'conf'}")
    assert await net.networks().attach(wanted(A)) == ()
    with pytest.raises(Unsupported, match="host ports: no network configuration"):
        await net.networks().attach(wanted(A, ports=[WEB]))
    assert (net.kept(), net.records()) == ([], [])


async def test_a_configuration_that_makes_no_sense_says_why(net: Scripted) -> None:
    (net.top / "conf" / "10.conflist").write_text("{")
    status = await net.networks().status()
    assert not status.ready
    assert "10.conflist: is not JSON" in status.reason


async def test_what_a_network_cannot_give_is_refused(net: Scripted) -> None:
    net.configure(plugins=[{"type": "first"}])
    with pytest.raises(Unsupported, match="no plugin of it has the capability portMappings"):
        await net.networks().attach(wanted(A, ports=[WEB]))
    with pytest.raises(Unsupported, match="no plugin of it has the capability bandwidth"):
        await net.networks().attach(wanted(A, egress_bits=1000))
    assert (net.calls(), net.records()) == ([], [])


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"kind": "cniCacheV1", "podd": 3}', b"\0" * 100])
async def test_a_damaged_record_is_not_forgotten(net: Scripted, damage: bytes) -> None:
    await net.networks().attach(wanted(A))
    path = net.top / "cache/results" / f"net-{A}-eth0"
    whole = path.read_bytes()
    path.write_bytes(damage)
    assert net.networks().held() == [A]
    with pytest.raises(Unavailable, match="makes no sense"):
        await net.networks().detach(A)
    path.write_bytes(whole)
    await net.networks().detach(A)
    assert net.kept() == []


async def test_a_full_disk_runs_no_plugin(net: Scripted) -> None:
    (net.top / "cache" / "results").write_text("in the way")
    with pytest.raises(Unavailable):
        await net.networks().attach(wanted(A))
    assert net.calls() == []


async def test_drivers_see_their_own(net: Scripted) -> None:
    await net.networks("setns").attach(wanted(A))
    await net.networks("runc").attach(wanted(B))
    assert (net.networks("setns").held(), net.networks("runc").held()) == ([A], [B])
    for driver, sandbox in (("setns", A), ("runc", B)):
        await net.networks(driver).detach(sandbox)


# ---- cancelled, killed -----------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
async def test_cancelled_anywhere_it_can_be_undone(net: Scripted) -> None:
    async for _ in cancelled_everywhere(lambda: net.networks().attach(wanted(A))):
        await net.networks().detach(A)
        assert (net.kept(), net.records()) == ([], [])


@pytest.mark.timeout(180)
async def test_undoing_cancelled_anywhere_can_be_done_again(net: Scripted) -> None:
    await net.networks().attach(wanted(A))
    async for _ in cancelled_everywhere(lambda: net.networks().detach(A)):
        await net.networks().detach(A)
        assert (net.kept(), net.records()) == ([], [])
        await net.networks().attach(wanted(A))
    await net.networks().detach(A)


async def test_a_plugin_that_hangs_is_killed_with_what_it_has_started(
    net: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "END_S", 0.1)
    script = f"#!/bin/sh\nsleep 600 & echo $! >{net.top}/child; wait\n"
    (net.top / "bin" / "first").write_text(script)
    with anyio.move_on_after(1):
        await net.networks().attach(wanted(A))
    child = (net.top / "child").read_text().strip()
    until(lambda: not alive(int(child)), "it is killed")


async def test_a_plugin_of_an_earlier_podd_comes_to_its_end_first(net: Scripted) -> None:
    """podd was killed while it ran a plugin, and the next one is to undo what that is still about to do."""
    net.fault("first", "ADD", "wait")
    await anyio.to_thread.run_sync(_killed_in_the_middle, net)
    net.calls()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(net.networks().detach, A)
        await anyio.sleep(0.2)
        assert net.calls() == [], "it waits"
        (net.top / "go").touch()
    assert net.calls()[-1] == "DEL first -"
    assert (net.kept(), net.records()) == ([], [])


async def test_a_plugin_of_an_earlier_podd_that_hangs_is_killed(net: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "WAIT_S", 0.2)
    net.fault("first", "ADD", "hang")
    await anyio.to_thread.run_sync(_killed_in_the_middle, net)
    await net.networks().detach(A)
    assert (net.kept(), net.records()) == ([], [])


def _killed_in_the_middle(net: Scripted) -> None:
    """Another podd that is killed once a plugin of it runs."""
    code = (
        "import anyio, sys; from pathlib import Path; from podd.network.network import Networks\n"
        "from podd.driver.hookspecs import NetworkPlaces; import msgspec; from podd.network.call import Wanted\n"
        "places = msgspec.json.decode(sys.argv[1], type=NetworkPlaces)\n"
        "wanted = msgspec.json.decode(sys.argv[2], type=Wanted)\n"
        "anyio.run(Networks('setns', places).attach, wanted)\n"
    )
    arguments = [msgspec.json.encode(net.places), msgspec.json.encode(wanted(A))]
    podd = subprocess.Popen([sys.executable, "-c", code, *arguments])
    net.until_called()
    podd.kill()
    podd.wait()


# ---- and all of it, at random ----------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
async def test_whatever_happens_nothing_is_left(net: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "END_S", 0.02)
    dice = random.Random(7)
    for _ in range(200):
        await _round(net, dice)
    assert (net.kept(), net.records(), net.networks().held()) == ([], [], [])


async def _round(net: Scripted, dice: random.Random) -> None:
    faults = ["-", "-", "fail", "late", "word", "dies", "garbage"]
    for plugin in ("first", "second"):
        net.fault(plugin, "ADD", dice.choice(faults))
        net.fault(plugin, "DEL", *dice.choices(faults, k=2))
    sandbox = f"{dice.getrandbits(64):016x}"
    for verb in (lambda: net.networks().attach(wanted(sandbox)), lambda: net.networks().detach(sandbox)):
        with anyio.move_on_after(dice.choice([dice.random() / 30, 5])), suppress(PoddError):
            await verb()
    for plugin in ("first", "second"):
        net.fault(plugin, "DEL", "-")
    for left in net.networks().held():
        await net.networks().detach(left)
