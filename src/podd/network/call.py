"""What a plugin is told: its environment and its standard input. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from podd.driver.contract import Dns, PortMapping
from podd.model.value import Value
from podd.network.conflist import Network, Plugin
from podd.network.result import Result

INTERFACE = "eth0"
"""The name of a pod's interface, by agreement of all runtimes."""

BURST_S = 1
LEAST_BURST_BITS, MOST_BURST_BITS = 8 * 65536, 2**31 - 1
"""How much may pass at once before a rate counts: a second's worth of it; but a whole segment as the kernel hands them
on, and no more than plugins can count. (A kubelet says the most, always: a quarter of a gigabyte has passed before a
pod is limited.)"""


class Wanted(Value):
    """What a pod is to be connected with, and how."""

    sandbox: str
    netns: str  # a path
    pod_uid: str
    pod_name: str
    pod_namespace: str
    ports: Sequence[PortMapping] = ()
    ingress_bits: int | None = None
    egress_bits: int | None = None
    dns: Dns = Dns()
    annotations: Mapping[str, str] = {}


class Attachment(Value):
    """One pod's connection with one network: all that ADD was told, and all that DEL will be told."""

    driver: str
    sandbox: str
    network: Network
    netns: str
    args: Sequence[tuple[str, str]] = ()
    capability_args: Mapping[str, Any] = {}
    result: Result | None = None  # as far as the chain has come
    complete: bool = False  # ADD has come to its end


def attachment(driver: str, network: Network, wanted: Wanted) -> Attachment:
    return Attachment(
        driver=driver,
        sandbox=wanted.sandbox,
        network=network,
        netns=wanted.netns,
        args=(
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", wanted.pod_namespace),
            ("K8S_POD_NAME", wanted.pod_name),
            ("K8S_POD_INFRA_CONTAINER_ID", wanted.sandbox),
            ("K8S_POD_UID", wanted.pod_uid),
        ),
        capability_args=_capability_args(wanted),
    )


def _capability_args(wanted: Wanted) -> dict[str, Any]:
    """By capability; a plugin gets those that its configuration declares."""
    args: dict[str, Any] = {"portMappings": port_mappings(wanted.ports)} if wanted.ports else {}
    rates = {"ingress": wanted.ingress_bits, "egress": wanted.egress_bits}
    bandwidth = {
        key: value
        for name, bits in rates.items()
        if bits is not None
        for key, value in ((f"{name}Rate", bits), (f"{name}Burst", burst_bits(bits)))
    }
    if bandwidth:
        args["bandwidth"] = bandwidth
    dns = {"servers": wanted.dns.servers, "searches": wanted.dns.searches, "options": wanted.dns.options}
    if any(dns.values()):
        args["dns"] = {key: list(value) for key, value in dns.items() if value}
    if wanted.annotations:
        args["io.kubernetes.cri.pod-annotations"] = dict(wanted.annotations)
    return args


def burst_bits(rate: int) -> int:
    return min(max(BURST_S * rate, LEAST_BURST_BITS), MOST_BURST_BITS)


def port_mappings(ports: Sequence[PortMapping]) -> list[dict[str, Any]]:
    return [
        {
            "hostPort": port.host_port,
            "containerPort": port.container_port,
            "protocol": port.protocol.lower(),
            **({"hostIP": port.host_ip} if port.host_ip else {}),
        }
        for port in ports
    ]


def environment(command: str, path: Sequence[str], made: Attachment | None, netns: str = "") -> dict[str, str]:
    """Without what the plugin has of podd's own. made: None for commands that are about no pod. netns: "" for none."""
    told = {"CNI_COMMAND": command, "CNI_PATH": ":".join(path)}
    if made is not None:
        told["CNI_CONTAINERID"] = made.sandbox
        told["CNI_IFNAME"] = INTERFACE
        told["CNI_NETNS"] = netns
        told["CNI_ARGS"] = ";".join(f"{key}={value}" for key, value in made.args)
    return told


def stdin(network: Network, plugin: Plugin, made: Attachment | None = None, **more: Any) -> bytes:
    """The plugin's part of the configuration, with what the runtime adds. more: "prevResult" and the like."""
    conf = {**plugin.conf, "name": network.name, "cniVersion": network.version}
    if made is not None:
        runtime = {key: value for key, value in made.capability_args.items() if plugin.can(key)}
        if runtime:
            conf["runtimeConfig"] = runtime
        if made.result is not None:
            conf["prevResult"] = made.result
    return json.dumps(conf | more).encode()


def valid_attachments(sandboxes: Sequence[str]) -> dict[str, Any]:
    """For GC. Some plugins read the name that the specification gives, some the one that it gave by mistake."""
    valid = [{"containerID": sandbox, "ifname": INTERFACE} for sandbox in sandboxes]
    return {"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}
