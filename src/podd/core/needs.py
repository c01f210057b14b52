"""What a pod asks of its driver beyond the contract's core, so that it can be refused before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from podd.driver.contract import Capabilities
from podd.errors import Unsupported
from podd.model.annotations import EGRESS, INGRESS
from podd.model.pod import ROOTFS, Container, Lifecycle, LifecycleHandler, Pod, Probe
from podd.model.totals import is_sidecar

HOST = f"{ROOTFS}/"


class Need(NamedTuple):
    """A field and the capability that it needs, as podd.driver.contract.Capabilities names it.

    given: what the field says, where it is not the field that asks for something but its value, or that it is left out.
    """

    field: str
    capability: str
    given: str = ""


def needs(pod: Pod) -> Iterator[Need]:
    spec = pod.spec
    if spec.share_process_namespace:
        yield Need("spec.shareProcessNamespace", "pid_pod")
    if spec.host_pid:
        yield Need("spec.hostPID", "pid_node")
    for where, containers in (("containers", spec.containers), ("initContainers", spec.init_containers)):
        for n, container in enumerate(containers):
            at = f"spec.{where}[{n}]"
            yield from _image_needs(at, container)
            yield from _stream_needs(at, container)
            yield from _handler_needs(at, container)
    yield from _network_needs(pod)
    yield from _isolation_needs(pod)


def _network_needs(pod: Pod) -> Iterator[Need]:
    """What is led to a pod, or limited, comes by an address of its own."""
    if pod.spec.host_network:
        return
    for where, containers in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers)):
        for n, container in enumerate(containers):
            for number, port in enumerate(container.ports):
                if port.host_port is not None and (where == "containers" or is_sidecar(container)):
                    yield Need(f"spec.{where}[{n}].ports[{number}].hostPort", "network")
    for annotation in (INGRESS, EGRESS):
        if annotation in pod.metadata.annotations:
            yield Need(f"metadata.annotations[{annotation}]", "network")


def _image_needs(at: str, container: Container) -> Iterator[Need]:
    yield Need(f"{at}.image", "rootfs_directory" if container.image.startswith(ROOTFS) else "images")


def _stream_needs(at: str, container: Container) -> Iterator[Need]:
    """Who types, or sees a terminal, is attached."""
    for field in ("stdin", "tty"):
        if getattr(container, field):
            yield Need(f"{at}.{field}", "attach")


def _isolation_needs(pod: Pod) -> Iterator[Need]:
    """All but what a program of the host has: whoever wants no more than that must say so."""
    spec = pod.spec
    shared = {"hostNetwork": spec.host_network, "hostIPC": spec.host_ipc, "hostPID": spec.host_pid}
    yield from (Need(f"spec.{field}", "isolation", "false") for field, of_host in shared.items() if not of_host)
    for where, containers in (("containers", spec.containers), ("initContainers", spec.init_containers)):
        for n, container in enumerate(containers):
            at, security = f"spec.{where}[{n}]", container.security_context
            if not security.privileged:
                yield Need(f"{at}.securityContext.privileged", "isolation", "false")
            if security.read_only_root_filesystem:
                yield Need(f"{at}.securityContext.readOnlyRootFilesystem", "isolation")
            if container.volume_mounts:
                yield Need(f"{at}.volumeMounts", "isolation")
            if container.image.startswith(ROOTFS) and container.image != HOST:
                yield Need(f"{at}.image", "isolation", container.image)


def _handler_needs(at: str, container: Container) -> Iterator[Need]:
    """Of its probes and hooks: a command runs in the container, the others reach it by the pod's network."""
    lifecycle = container.lifecycle or Lifecycle()
    handlers: dict[str, Probe | LifecycleHandler | None] = {
        "livenessProbe": container.liveness_probe,
        "readinessProbe": container.readiness_probe,
        "startupProbe": container.startup_probe,
        "lifecycle.postStart": lifecycle.post_start,
        "lifecycle.preStop": lifecycle.pre_stop,
    }
    for name, handler in handlers.items():
        for field, capability in _REACH.items():
            if getattr(handler, field, None) is not None:
                yield Need(f"{at}.{name}.{_SHOWN[field]}", capability)


_REACH = {"exec": "exec", "http_get": "connect", "tcp_socket": "connect", "grpc": "connect"}
_SHOWN = {"exec": "exec", "http_get": "httpGet", "tcp_socket": "tcpSocket", "grpc": "grpc"}


def check(pod: Pod, driver: str, drivers: Mapping[str, Capabilities]) -> None:
    """Raises Unsupported: the driver of that name lacks something; it names the field, and the drivers that have it."""
    for field, capability, given in needs(pod):
        if not getattr(drivers[driver], capability):
            raise Unsupported(
                f"{field}: {_asks(given)} capability {capability.replace('_', '-')}; driver {driver} lacks it",
                remedy=_who([name for name, has in drivers.items() if getattr(has, capability)]),
                field=field,
                capability=capability,
            )


def _asks(given: str) -> str:
    return f"{given} needs" if given else "needs"


def _who(able: list[str]) -> str:
    if not able:
        return "no driver here has it"
    *most, last = able
    names = f"{', '.join(most)} and {last} have it" if most else f"{last} has it"
    return f"{names}: set spec.runtimeClassName"
