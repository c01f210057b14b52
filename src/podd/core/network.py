"""What the manifest of a pod says of its network, as drivers are told it. Pure; the manifest was checked before."""

from __future__ import annotations

from collections.abc import Sequence

from podd.driver.contract import Dns, HostAlias, PortMapping
from podd.model.pod import Container, Pod, PodDNSConfig
from podd.model.quantity import whole
from podd.model.totals import is_sidecar


def port_mappings(pod: Pod) -> tuple[PortMapping, ...]:
    """Of what runs as long as the pod does. With the host's network every port is the host's already."""
    if pod.spec.host_network:
        return ()
    return tuple(
        PortMapping(
            container_port=port.container_port,
            host_port=port.host_port,
            protocol=port.protocol,
            host_ip=port.host_ip,
        )
        for container in _lasting(pod)
        for port in container.ports
        if port.host_port is not None
    )


def _lasting(pod: Pod) -> Sequence[Container]:
    return (*filter(is_sidecar, pod.spec.init_containers), *pod.spec.containers)


def dns(pod: Pod) -> Dns:
    config = pod.spec.dns_config or PodDNSConfig()
    options = [(option.name, option.value) for option in config.options]
    return Dns(
        of_host=pod.spec.dns_policy != "None",
        servers=config.nameservers,
        searches=config.searches,
        options=tuple(name if value is None else f"{name}:{value}" for name, value in options),
    )


def host_aliases(pod: Pod) -> tuple[HostAlias, ...]:
    return tuple(HostAlias(ip=alias.ip, names=alias.hostnames) for alias in pod.spec.host_aliases if alias.hostnames)


def bits(pod: Pod, annotation: str) -> int | None:
    """A second; None: not limited."""
    text = pod.metadata.annotations.get(annotation)
    return None if text is None or pod.spec.host_network else whole(text)
