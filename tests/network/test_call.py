"""What plugins are told, and what is made of what they answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from podd.driver.contract import Dns, PortMapping
from podd.errors import PoddError, Unavailable, Unsupported
from podd.network import call, conflist, ports, result
from podd.network.call import Wanted

SANDBOX = "0123456789abcdef"
NETWORK = conflist.parse(
    json.dumps(
        {
            "name": "net",
            "cniVersion": "1.0.0",
            "plugins": [
                {"type": "bridge", "bridge": "b0", "name": "not this"},
                {"type": "portmap", "capabilities": {"portMappings": True}},
                {"type": "bandwidth", "capabilities": {"bandwidth": True}},
                {"type": "all", "capabilities": {"dns": True, "io.kubernetes.cri.pod-annotations": True}},
            ],
        }
    ).encode()
)
BRIDGE, PORTMAP, BANDWIDTH, ALL = NETWORK.plugins


def wanted(**more: Any) -> Wanted:
    names = {"pod_uid": "u-1", "pod_name": "web", "pod_namespace": "default"}
    return Wanted(sandbox=SANDBOX, netns="/run/ns", **names, **more)


def told(plugin: conflist.Plugin, **more: Any) -> dict[str, Any]:
    made = call.attachment("setns", NETWORK, wanted(**more))
    return json.loads(call.stdin(NETWORK, plugin, made))  # type: ignore[no-any-return]


def test_the_environment() -> None:
    made = call.attachment("setns", NETWORK, wanted())
    assert call.environment("ADD", ["/a", "/b"], made, "/run/ns") == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": SANDBOX,
        "CNI_NETNS": "/run/ns",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;"
        f"K8S_POD_INFRA_CONTAINER_ID={SANDBOX};K8S_POD_UID=u-1",
        "CNI_PATH": "/a:/b",
    }
    assert call.environment("STATUS", ["/a"], None) == {"CNI_COMMAND": "STATUS", "CNI_PATH": "/a"}


def test_a_plugin_gets_its_part_under_the_name_of_the_whole() -> None:
    assert told(BRIDGE) == {"type": "bridge", "bridge": "b0", "name": "net", "cniVersion": "1.0.0"}


def test_capabilities_reach_those_who_declare_them() -> None:
    asked = {
        "ports": [
            PortMapping(container_port=80, host_port=8080),
            PortMapping(container_port=53, host_port=53, protocol="UDP", host_ip="127.0.0.1"),
        ],
        "ingress_bits": 1000,
        "dns": Dns(servers=("10.0.0.1",)),
        "annotations": {"a": "b"},
    }
    assert "runtimeConfig" not in told(BRIDGE, **asked)
    assert told(PORTMAP, **asked)["runtimeConfig"] == {
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
        ]
    }
    assert told(BANDWIDTH, **asked)["runtimeConfig"] == {"bandwidth": {"ingressRate": 1000, "ingressBurst": 8 * 65536}}
    assert told(ALL, **asked)["runtimeConfig"] == {
        "dns": {"servers": ["10.0.0.1"]},
        "io.kubernetes.cri.pod-annotations": {"a": "b"},
    }


@pytest.mark.parametrize(("rate", "burst"), [(1000, 8 * 65536), (10**6, 10**6), (10**9, 10**9), (10**15, 2**31 - 1)])
def test_how_much_may_pass_at_once(rate: int, burst: int) -> None:
    assert call.burst_bits(rate) == burst


def test_valid_attachments_under_both_names() -> None:
    both = call.valid_attachments([SANDBOX])
    assert list(both.values()) == [[{"containerID": SANDBOX, "ifname": "eth0"}]] * 2
    assert set(both) == {"cni.dev/valid-attachments", "cni.dev/attachments"}


# ---- results ---------------------------------------------------------------------------------------------------------

INTERFACES = [{"name": "b0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/run/ns"}]
DUAL = {
    "cniVersion": "1.0.0",
    "interfaces": INTERFACES,
    "ips": [
        {"address": "10.1.0.1/16", "interface": 0},
        {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 2},
        {"address": "fd00::5/64", "interface": 2},
        {"address": "fd00::6/64", "interface": 2},
    ],
}


def test_the_addresses_of_the_pod() -> None:
    assert result.interface_addresses(DUAL, "eth0") == ["10.1.0.5/16", "fd00::5/64", "fd00::6/64"]
    assert result.pod_ips(DUAL, "eth0") == ("10.1.0.5", "fd00::5")


def test_addresses_without_an_interface_are_the_pods() -> None:
    assert result.pod_ips({"ips": [{"address": "10.1.0.5/16"}, {"address": "::1/64", "interface": 9}]}, "eth0") == (
        "10.1.0.5",
        "::1",
    )
    assert result.pod_ips({}, "eth0") == ()


def test_a_result_is_brought_to_the_version_of_the_network() -> None:
    old = {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.0.5/16"}]}
    new = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16"}]}
    assert result.parse_result(json.dumps(old).encode(), "1.0.0", "x") == new
    assert result.parse_result(json.dumps(new).encode(), "0.4.0", "x") == old
    assert result.parse_result(b'{"ips": []}', "0.4.0", "x") == {"ips": []}, "none is said: as it was asked"


@given(some.sampled_from(conflist.VERSIONS), some.sampled_from(conflist.VERSIONS), some.lists(some.ip_addresses()))
def test_there_and_back(one: str, other: str, ips: list[Any]) -> None:
    given = {"cniVersion": one, "ips": [{"address": f"{ip}/8", "gateway": str(ip)} for ip in ips], "routes": [1]}
    first = result.convert(given, one)
    assert result.convert(result.convert(first, other), one) == first


NO_RESULTS = {
    "nothing": b"",
    "garbage": b"\xff\x00garbage",
    "a list": b"[]",
    "a version that is not spoken": b'{"cniVersion": "7.0.0"}',
    "ips that are no list": b'{"ips": 3}',
    "an address that is none": b'{"ips": [{"address": "10.0.0.300/8"}]}',
    "an address that is a number": b'{"ips": [{"address": 7}]}',
    "an index that is a word": b'{"ips": [{"address": "10.0.0.3/8", "interface": "eth0"}]}',
    "interfaces that are words": b'{"interfaces": ["eth0"]}',
}


@pytest.mark.parametrize("text", NO_RESULTS.values(), ids=NO_RESULTS)
def test_what_is_no_result(text: bytes) -> None:
    with pytest.raises(Unavailable) as refused:
        result.parse_result(text, "1.0.0", "bridge")
    assert refused.value.message.startswith("CNI plugin bridge: ADD: ")


REFUSALS: dict[str, tuple[bytes, bytes, int, type[PoddError], str]] = {
    "an error": (
        b'{"code": 999, "msg": "no IP addresses available", "details": "range 1"}', b"", 1,
        Unavailable, "CNI plugin x: ADD: no IP addresses available: range 1",
    ),
    "without details": (b'{"code": 11, "msg": "busy"}', b"", 1, Unavailable, "CNI plugin x: ADD: busy"),
    "a wrong configuration": (b'{"code": 7, "msg": "no bridge"}', b"", 1, Unsupported, "CNI plugin x: ADD: no bridge"),
    "words": (b"", b"\n  oops\nmore\n", 2, Unavailable, "CNI plugin x: ADD: it ended with status 2: oops"),
    "killed": (b"half a", b"", -9, Unavailable, "CNI plugin x: ADD: it ended with signal 9: half a"),
    "silence": (b"", b"", 1, Unavailable, "CNI plugin x: ADD: it ended with status 1: it said nothing"),
    "no message": (b'{"code": 1}', b"", 1, Unavailable, 'CNI plugin x: ADD: it ended with status 1: {"code": 1}'),
}  # fmt: skip


@pytest.mark.parametrize(("out", "err", "status", "kind", "message"), REFUSALS.values(), ids=REFUSALS)
def test_why_a_plugin_failed(out: bytes, err: bytes, status: int, kind: type[PoddError], message: str) -> None:
    refused = result.refusal("x", "ADD", out, err, status)
    assert type(refused) is kind
    assert refused.message == message


# ---- ports -----------------------------------------------------------------------------------------------------------

CLASHES: dict[str, tuple[PortMapping, PortMapping, bool]] = {
    "the same": (PortMapping(container_port=1, host_port=80), PortMapping(container_port=2, host_port=80), True),
    "another port": (PortMapping(container_port=1, host_port=80), PortMapping(container_port=1, host_port=81), False),
    "another protocol": (
        PortMapping(container_port=1, host_port=80), PortMapping(container_port=1, host_port=80, protocol="UDP"), False,
    ),
    "one address of all": (
        PortMapping(container_port=1, host_port=80), PortMapping(container_port=1, host_port=80, host_ip="10.0.0.1"),
        True,
    ),
    "two addresses": (
        PortMapping(container_port=1, host_port=80, host_ip="10.0.0.2"),
        PortMapping(container_port=1, host_port=80, host_ip="10.0.0.1"), False,
    ),
    "all of a family": (
        PortMapping(container_port=1, host_port=80, host_ip="0.0.0.0"),
        PortMapping(container_port=1, host_port=80, host_ip="10.0.0.1"), True,
    ),
    "all of the other family": (
        PortMapping(container_port=1, host_port=80, host_ip="::"),
        PortMapping(container_port=1, host_port=80, host_ip="10.0.0.1"), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other", "clash"), CLASHES.values(), ids=CLASHES)
def test_ports_that_cannot_be_both(one: PortMapping, other: PortMapping, clash: bool) -> None:
    assert (ports.clash([one], call.port_mappings([other])) is one) is clash
    assert (ports.clash([other], call.port_mappings([one])) is other) is clash


def test_ports_for_people() -> None:
    assert ports.shown(PortMapping(container_port=1, host_port=80)) == "80/TCP"
    assert ports.shown(PortMapping(container_port=1, host_port=53, protocol="UDP", host_ip="::1")) == "[::1]:53/UDP"
