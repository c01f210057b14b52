"""The rules of `podd.model.rules` on a pod's network: its names, its DNS, ports of the host, how fast it may be."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from podd.model import hostnames, quantity
from podd.model.annotations import EGRESS, INGRESS
from podd.model.pod import Container, ContainerPort, Pod, PodDNSConfig, PodSpec
from podd.model.problem import Path, Rules
from podd.model.shapes import SUBDOMAIN_TEXT, between, label, subdomain
from podd.model.totals import is_sidecar

MAX_NAMESERVERS, MAX_SEARCHES, MAX_SEARCH_TEXT = 3, 32, 2048  # what a resolver reads of its file

LEAST_BITS, MOST_BITS = 10**3, 10**15

_SEARCH = re.compile(r"[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*\.?|\.")
_OPTION = re.compile(r"[!-9;-~]+", re.ASCII)  # printable, without space and ":"
_VALUE = re.compile(r"[!-~]*", re.ASCII)


def check(rules: Rules, pod: Pod) -> None:
    _names(rules, pod)
    _dns(rules, pod.spec)
    _host_ports(rules, pod.spec)
    _bandwidths(rules, pod)


# ---- names -----------------------------------------------------------------------------------------------------------


def _names(rules: Rules, pod: Pod) -> None:
    spec, at = pod.spec, ("spec",)
    for field in ("hostname", "subdomain"):
        if getattr(spec, field):
            label(rules, (*at, field), getattr(spec, field))
            if spec.host_network:
                rules.warning((*at, field), "has no effect: with hostNetwork a pod has the host's name")
    if spec.hostname_override:
        _override(rules, (*at, "hostnameOverride"), spec)
    elif spec.set_hostname_as_fqdn and len(hostnames.full_name(pod)) > hostnames.MAX_KERNEL_NAME:
        message = f"{hostnames.full_name(pod)} has more than {hostnames.MAX_KERNEL_NAME} characters"
        rules.error((*at, "setHostnameAsFQDN"), message, "shorten hostname, subdomain or namespace")
    for number, alias in enumerate(spec.host_aliases):
        place: Path = (*at, "hostAliases", number)
        _address(rules, (*place, "ip"), alias.ip)
        for n, name in enumerate(alias.hostnames):
            subdomain(rules, (*place, "hostnames", n), name)


def _override(rules: Rules, at: Path, spec: PodSpec) -> None:
    assert spec.hostname_override
    if spec.set_hostname_as_fqdn:
        rules.error(at, "excludes setHostnameAsFQDN: either of them is the whole name", "keep one")
    if spec.host_network:
        rules.error(at, "excludes hostNetwork: with it a pod has the host's name", "keep one")
    if len(spec.hostname_override) > hostnames.MAX_KERNEL_NAME:
        rules.error(at, f"has more than {hostnames.MAX_KERNEL_NAME} characters")
    else:
        subdomain(rules, at, spec.hostname_override)


def _address(rules: Rules, at: Path, text: str) -> None:
    try:
        ipaddress.ip_address(text if "%" not in text else "")  # a zone is of one host's interfaces
    except ValueError:
        rules.error(at, f'"{text}" is not an IPv4 or IPv6 address')


# ---- DNS -------------------------------------------------------------------------------------------------------------


def _dns(rules: Rules, spec: PodSpec) -> None:
    at: Path = ("spec", "dnsConfig")
    config = spec.dns_config or PodDNSConfig()
    if spec.dns_policy == "None" and not config.nameservers:
        rules.error((*at, "nameservers"), "required with dnsPolicy None: at least one", "or leave dnsPolicy out")
    if len(config.nameservers) > MAX_NAMESERVERS:
        rules.error((*at, "nameservers"), f"has {len(config.nameservers)}, at most {MAX_NAMESERVERS} are asked")
    for number, server in enumerate(config.nameservers):
        _address(rules, (*at, "nameservers", number), server)
    if len(config.searches) > MAX_SEARCHES or len(" ".join(config.searches)) > MAX_SEARCH_TEXT:
        text = f"at most {MAX_SEARCHES}, of {MAX_SEARCH_TEXT} characters together"
        rules.error((*at, "searches"), "is longer than a resolver reads", text)
    for number, search in enumerate(config.searches):
        if len(search) > 254 or not _SEARCH.fullmatch(search):
            rules.error((*at, "searches", number), f'"{search}" is not a domain', SUBDOMAIN_TEXT)
    for number, option in enumerate(config.options):
        if not _OPTION.fullmatch(option.name):
            rules.error((*at, "options", number, "name"), f'"{option.name}" is not an option of resolv.conf(5)')
        if not _VALUE.fullmatch(option.value or ""):
            rules.error((*at, "options", number, "value"), f'"{option.value}" is not the value of such an option')


# ---- ports of the host -----------------------------------------------------------------------------------------------


def _host_ports(rules: Rules, spec: PodSpec) -> None:
    taken: dict[tuple[int, str, str], Path] = {}
    for at, container in _containers(spec):
        mapped = at[1] == "containers" or is_sidecar(container)
        for number, port in enumerate(container.ports):
            place = (*at, "ports", number)
            if port.host_ip:
                _address(rules, (*place, "hostIP"), port.host_ip)
            if port.host_port is None or not _host_port(rules, (*place, "hostPort"), port, spec):
                continue
            if not mapped:
                why = "has no effect: ports of init containers are not reached from outside"
                rules.warning((*place, "hostPort"), why)
                continue
            key = (port.host_port, port.protocol, port.host_ip or "0.0.0.0")  # every address
            if taken.setdefault(key, place) is not place:
                message = f"{port.host_port}/{port.protocol} is given twice: a port of the host leads to one place"
                rules.error((*place, "hostPort"), message, rests_on=taken[key])


def _host_port(rules: Rules, at: Path, port: ContainerPort, spec: PodSpec) -> bool:
    assert port.host_port is not None
    if not between(rules, at, port.host_port, 1, 65535):
        return False
    if spec.host_network and port.host_port != port.container_port:
        rules.error(at, "must equal containerPort with hostNetwork")
        return False
    return True


def _containers(spec: PodSpec) -> Iterator[tuple[Path, Container]]:
    for kind, containers in (("initContainers", spec.init_containers), ("containers", spec.containers)):
        for number, container in enumerate(containers):
            yield ("spec", kind, number), container


# ---- how fast it may be ----------------------------------------------------------------------------------------------


def _bandwidths(rules: Rules, pod: Pod) -> None:
    for key in (INGRESS, EGRESS):
        text = pod.metadata.annotations.get(key)
        if text is None:
            continue
        at: Path = ("metadata", "annotations", key)
        try:
            bits = quantity.parse(text)
        except ValueError as exc:
            rules.error(at, str(exc), "bits a second, as in 10M")
            continue
        if not LEAST_BITS <= bits <= MOST_BITS:
            rules.error(at, f"{text} is not between 1k and 1P bits a second")
        elif pod.spec.host_network:
            rules.warning(at, "has no effect: with hostNetwork a pod has no network of its own")
