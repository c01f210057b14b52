"""What a pod has of a network, on the fake driver and a clock that jumps."""

from __future__ import annotations

import socket
from pathlib import Path

import anyio
import pytest
from harness import apply, engine
from msgspec.structs import replace

from podd.driver.contract import NetworkStatus
from podd.engine.engine import Engine
from podd.errors import Conflict, Unavailable
from podd.testing.fake import CAPABILITIES, FakeDriver, FakeHost

pytestmark = pytest.mark.anyio

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "rootfs:/", command: [/bin/a], ports: [{containerPort: 80, hostPort: 8080}]}
"""
OTHER_PORT = POD.replace("8080", "8081")
OTHER_PROGRAM = POD.replace("/bin/a", "/bin/b")
PLAIN = POD.replace(", hostPort: 8080", "")
DOWN = NetworkStatus(ready=False, name="fake", reason="no plugin", remedy="install one")


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


def led(host: FakeHost) -> dict[str, list[int]]:
    """Ports of the host, by the pod that they lead to."""
    return {box.config.pod_name: [port.host_port for port in box.ports] for box in host.sandboxes.values()}


async def told(one: Engine) -> list[tuple[str, str]]:
    batches = [batch async for batch in one.events(None, None, since=None, follow=False)]
    return [(event.reason, event.message) for batch in batches for event in batch]


async def conditions(one: Engine) -> dict[str, str]:
    shown = (await one.get("web", None)).status.conditions
    return {c.type: c.message for c in shown if c.type.startswith("PodPublish")}


# ---- addresses -------------------------------------------------------------------------------------------------------


async def test_a_pod_has_addresses_and_tells_them(tmp_path: Path, host: FakeHost) -> None:
    env = "env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}], ports"
    async with engine(tmp_path, host, addresses=lambda: ["192.0.2.1", "2001:db8::1"]) as one:
        await apply(one, POD.replace("ports", env))
        status = (await one.get("web", None)).status
        assert [ip.ip for ip in status.pod_ips] == ["10.88.0.2", "fd88::2"]
        assert (status.pod_ip, status.host_ip) == ("10.88.0.2", "192.0.2.1")
        assert [ip.ip for ip in status.host_ips] == ["192.0.2.1", "2001:db8::1"]
        assert dict(host.container("a").config.env)["IP"] == "10.88.0.2,fd88::2"
        await one.stop("web", None, grace_period_s=0, wait=True)
        assert (await one.get("web", None)).status.pod_ips == ()


async def test_with_the_hosts_network_they_are_the_hosts(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host, addresses=lambda: ["192.0.2.1"]) as one:
        await apply(one, PLAIN.replace("spec:", "spec:\n  hostNetwork: true"))
        status = (await one.get("web", None)).status
        assert (status.pod_ip, [ip.ip for ip in status.pod_ips]) == ("192.0.2.1", ["192.0.2.1"])
        assert "NetworkNotReady" not in [reason for reason, _ in await told(one)]


async def test_without_a_network_a_pod_has_loopback_and_says_so_once(tmp_path: Path, host: FakeHost) -> None:
    host.network = DOWN
    async with engine(tmp_path, host) as one:
        assert (await apply(one, PLAIN)).phase == "Running"
        assert (await one.get("web", None)).status.pod_ip == ""
        said = [message for reason, message in await told(one) if reason == "NetworkNotReady"]
        assert said == ["the pod has no address but its own loopback: no plugin; install one"]
        (report,) = await one.drivers()
        assert report.network == DOWN


async def test_a_driver_that_gives_no_addresses_need_not_say_so(tmp_path: Path, host: FakeHost) -> None:
    host.network = DOWN
    async with engine(tmp_path, host, driver=Unconnected) as one:
        await apply(one, PLAIN)
        assert "NetworkNotReady" not in [reason for reason, _ in await told(one)]
        (report,) = await one.drivers()
        assert report.network is None


class Unconnected(FakeDriver):
    def __init__(self, host: FakeHost) -> None:
        super().__init__(host, capabilities=replace(CAPABILITIES, network=False))


async def test_a_network_that_does_not_answer_is_not_ready(tmp_path: Path, host: FakeHost) -> None:
    host.fault("network_status", hang=True)
    async with engine(tmp_path, host) as one:
        (report,) = await one.drivers()
        assert report.network is not None
        assert not report.network.ready
        assert "no answer within 10" in report.network.reason


# ---- ports of the host -----------------------------------------------------------------------------------------------


async def test_ports_of_the_host_are_refused_where_nothing_would_lead_them(tmp_path: Path, host: FakeHost) -> None:
    host.network = DOWN
    async with engine(tmp_path, host) as one:
        result = await apply(one, POD)
        field = "spec.containers[0].ports[0].hostPort"
        assert (result.action, result.reason) == ("refused", "Unavailable")
        assert result.message == f"pod.yaml:8:91: {field}: the network is not ready: no plugin; install one"
        assert (await apply(one, POD, dry_run=True)).action == "refused"
        assert host.sandboxes == {}
        await apply(one, PLAIN)
        assert (await apply(one, POD)).action == "refused"
        host.network = NetworkStatus(ready=True)
        await one.restart("web", None, grace_period_s=0, wait=True)
        assert (await apply(one, POD)).action == "published"
        host.network = DOWN
        assert (await apply(one, POD)).action == "unchanged"


async def test_another_port_leads_to_a_pod_that_runs_on(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        first = await apply(one, POD)
        assert led(host) == {"web": [8080]}
        shown = await apply(one, OTHER_PORT, dry_run=True)
        assert (shown.action, [(c.path, c.means, c.note) for c in shown.changes]) == (
            "published",
            [("spec.containers[0].ports[0].hostPort", "publish", "in place: the pod runs on")],
        )
        result = await apply(one, OTHER_PORT)
        assert (result.action, result.uid, result.phase, result.reason) == ("published", first.uid, "Running", "")
        assert led(host) == {"web": [8081]}
        assert [e.of for e in host.journal if e.name == "released"] == ["a"]
        assert (await told(one))[-1] == ("PublishCompleted", "ports of the host lead to it as its manifest says")
        assert (await apply(one, OTHER_PORT)).action == "unchanged"
        assert (await apply(one, PLAIN)).action == "published"
        assert led(host) == {"web": []}
        assert (await one.get("web", None)).pod.spec.containers[0].ports[0].host_port is None
    host.verify()


async def test_a_port_that_leads_nowhere_else_is_only_said(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        more = POD.replace("}]}", "}, {containerPort: 81}]}")
        assert (await apply(one, more)).action == "amended"
        assert host.calls("publish") == []
        assert (await apply(one, more)).action == "unchanged"


async def test_a_port_that_is_taken_leaves_those_before_and_is_tried_again_when_asked(
    tmp_path: Path, host: FakeHost
) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await apply(one, OTHER_PORT.replace("name: web", "name: other"))
        result = await apply(one, OTHER_PORT)
        assert (result.action, result.phase, result.reason) == ("published", "Running", "NotPublished")
        assert result.message == "8081/TCP: leads to pod other"
        assert led(host) == {"web": [8080], "other": [8081]}
        assert await conditions(one) == {"PodPublishPending": "8081/TCP: leads to pod other"}
        assert ("PublishError", "8081/TCP: leads to pod other") in await told(one)
        await one.delete("other", None, grace_period_s=0, wait=True)
        again = await apply(one, OTHER_PORT)
        assert (again.action, again.reason) == ("published", "")
        assert led(host) == {"web": [8081]}
        assert await conditions(one) == {}
        assert (await apply(one, OTHER_PORT)).action == "unchanged"


async def test_a_port_that_is_taken_is_tried_again_by_itself(tmp_path: Path, host: FakeHost) -> None:
    """After 10 s, then twice as long each time; also while the pod is paused, and by the next podd."""
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await apply(one, OTHER_PORT.replace("name: web", "name: other"))
        await apply(one, OTHER_PORT)
        await anyio.sleep(9)
        assert len(host.calls("publish")) == 1
        await anyio.sleep(2)
        assert len(host.calls("publish")) == 2
        await one.pause("web", None)
        await anyio.sleep(20)
        assert len(host.calls("publish")) == 3
        assert await conditions(one) == {"PodPublishPending": "8081/TCP: leads to pod other"}
        assert led(host) == {"web": [8080], "other": [8081]}
    async with engine(tmp_path, host) as one:
        await one.delete("other", None, grace_period_s=0, wait=True)
        await anyio.sleep(90)
        assert led(host) == {"web": [8081]}
        assert await conditions(one) == {}
        assert (await told(one))[-1] == ("PublishCompleted", "ports of the host lead to it as its manifest says")
        assert (await apply(one, OTHER_PORT)).action == "unchanged"


async def test_a_driver_that_does_not_answer_is_not_waited_for_for_ever(tmp_path: Path, host: FakeHost) -> None:
    host.fault("publish", call=1, hang=True)
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        result = await apply(one, OTHER_PORT)
        assert (result.reason, result.message) == ("NotPublished", "publish: no answer within 60 s")
        assert (await apply(one, OTHER_PORT)).reason == ""
        assert led(host) == {"web": [8081]}


async def test_while_ports_are_being_changed_the_next_change_waits(tmp_path: Path, host: FakeHost) -> None:
    host.fault("publish", call=1, delay_s=5)
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await apply(one, OTHER_PORT, wait=False)
        await anyio.sleep(1)
        assert await conditions(one) == {"PodPublishInProgress": ""}
        assert (await apply(one, POD.replace("8080", "8082"))).action == "published"
        assert [e.detail for e in host.journal if e.name == "published"] == ["8081", "8082"]
        assert led(host) == {"web": [8082]}


async def test_a_change_that_podd_did_not_live_to_finish_is_finished_by_the_next(
    tmp_path: Path, host: FakeHost
) -> None:
    host.fault("publish", call=1, hang=True)
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await apply(one, OTHER_PORT, wait=False)
        await anyio.sleep(1)
    assert led(host) == {"web": [8080]}
    async with engine(tmp_path, host) as one:
        await one._registry.find("web", None).until(lambda s: s.ports == "led")
        assert led(host) == {"web": [8081]}


async def test_ports_and_limits_change_together(tmp_path: Path, host: FakeHost) -> None:
    limits = "resources: {{limits: {{cpu: {}}}}}, ports"
    async with engine(tmp_path, host) as one:
        first = await apply(one, POD.replace("ports", limits.format(1)))
        result = await apply(one, OTHER_PORT.replace("ports", limits.format(2)))
        assert (result.action, result.uid) == ("resized", first.uid)
        assert led(host) == {"web": [8081]}
        assert host.container("a").observed.limits.cpu_quota_us == 200_000


async def test_a_pod_that_is_paused_gets_them_at_once(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await one.pause("web", None)
        assert (await apply(one, OTHER_PORT)).action == "published"
        assert led(host) == {"web": [8081]}


async def test_a_pod_that_is_stopped_gets_them_when_it_starts(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await one.stop("web", None, grace_period_s=0, wait=True)
        assert (await apply(one, OTHER_PORT)).action == "published"
        assert host.calls("publish") == []
        await one.start("web", None, wait=True)
        assert led(host) == {"web": [8081]}


# ---- who has a port while one pod takes the place of another ---------------------------------------------------------


async def test_a_successor_is_prepared_and_gets_the_port_when_it_is_free(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        first = await apply(one, POD)
        result = await apply(one, OTHER_PROGRAM)
        assert (result.action, result.phase) == ("recreated", "Running")
        assert result.uid != first.uid
        await one._registry.find("web", None).until(lambda s: s.ports == "led")
        assert led(host) == {"web": [8080]}
        made = [e.name for e in host.journal if e.name in ("sandbox_made", "sandbox_removed", "published")]
        assert made == ["sandbox_made", "sandbox_made", "sandbox_removed", "published"]
    host.verify()


class Stiff(FakeDriver):
    """It can lead no port to what is there."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__(host, capabilities=replace(CAPABILITIES, publish=False))


async def test_where_ports_cannot_be_led_later_the_successor_is_made_later(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host, driver=Stiff) as one:
        await apply(one, POD)
        shown = await apply(one, OTHER_PORT, dry_run=True)
        assert (shown.action, shown.changes[0].note) == (
            "recreated",
            "the driver cannot lead other ports of the host to what runs",
        )
        assert (await apply(one, OTHER_PROGRAM)).action == "recreated"
        assert led(host) == {"web": [8080]}
        made = [e.name for e in host.journal if e.name in ("sandbox_made", "sandbox_removed", "published")]
        assert made == ["sandbox_made", "sandbox_removed", "sandbox_made"]
        assert (await one.get("web", None)).status.phase == "Running"
    host.verify()


async def test_a_successor_whose_ports_podd_did_not_live_to_lead(tmp_path: Path, host: FakeHost) -> None:
    host.fault("publish", call=1, hang=True)
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await apply(one, OTHER_PROGRAM, wait=False)
        await anyio.sleep(1)
        assert led(host) == {"web": []}
    async with engine(tmp_path, host) as one:
        await one._registry.find("web", None).until(lambda s: s.ports == "led")
        assert led(host) == {"web": [8080]}


async def test_two_pods_cannot_have_one_port(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        result = await apply(one, POD.replace("name: web", "name: other"))
        assert (result.phase, result.reason) == ("Pending", "FailedCreatePodSandBox")
        assert "8080/TCP: leads to pod web" in result.message
        await one.delete("web", None, grace_period_s=0, wait=True)
        await anyio.sleep(30)
        assert led(host) == {"other": [8080]}


# ---- a connection from outside ---------------------------------------------------------------------------------------


async def test_a_port_is_reached_from_inside_the_pods_network(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, PLAIN)
        for address in ("127.0.0.1", "::1"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.create_server((address, 0), family=family) as server:
                port = server.getsockname()[1]
                fd = await one.forward("web", None, port)
                with socket.socket(fileno=fd) as ours, server.accept()[0] as theirs:
                    theirs.sendall(b"hello")
                    await anyio.wait_readable(ours)
                    assert ours.recv(10) == b"hello"
        with pytest.raises(Unavailable, match=rf"port {port}: dial tcp 127.0.0.1:{port}: connect: connection refused"):
            await one.forward("web", None, port)
        await one.pause("web", None)
        with pytest.raises(Conflict, match="pod web: is paused"):
            await one.forward("web", None, port)
        await one.resume("web", None)
        await one.stop("web", None, grace_period_s=0, wait=True)
        with pytest.raises(Conflict, match="is not running"):
            await one.forward("web", None, port)


async def test_a_driver_that_does_not_open_sockets_is_not_waited_for_for_ever(tmp_path: Path, host: FakeHost) -> None:
    host.fault("open_socket", hang=True)
    async with engine(tmp_path, host) as one:
        await apply(one, PLAIN)
        with pytest.raises(Unavailable, match="port 80: no answer within 10 s"):
            await one.forward("web", None, 80)
