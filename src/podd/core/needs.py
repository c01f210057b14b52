"""What a pod asks of its driver beyond the contract's core, so that it can be refused before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from podd.driver.contract import Capabilities
from podd.errors import Unsupported
from podd.model.pod import ROOTFS, Container, Lifecycle, LifecycleHandler, Pod, Probe


def needs(pod: Pod) -> Iterator[tuple[str, str]]:
    """Field and the capability that it needs, as podd.driver.contract.Capabilities names it."""
    spec = pod.spec
    for where, containers in (("containers", spec.containers), ("initContainers", spec.init_containers)):
        for n, container in enumerate(containers):
            is_directory = container.image.startswith(ROOTFS)
            yield f"spec.{where}[{n}].image", "rootfs_directory" if is_directory else "images"
            yield from _handler_needs(f"spec.{where}[{n}]", container)
    if spec.share_process_namespace:
        yield "spec.shareProcessNamespace", "pid_pod"
    if spec.host_pid:
        yield "spec.hostPID", "pid_node"


def _handler_needs(at: str, container: Container) -> Iterator[tuple[str, str]]:
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
                yield f"{at}.{name}.{_SHOWN[field]}", capability


_REACH = {"exec": "exec", "http_get": "connect", "tcp_socket": "connect", "grpc": "connect"}
_SHOWN = {"exec": "exec", "http_get": "httpGet", "tcp_socket": "tcpSocket", "grpc": "grpc"}


def check(pod: Pod, driver: str, drivers: Mapping[str, Capabilities]) -> None:
    """Raises Unsupported: the driver of that name lacks something; it names the field, and the drivers that have it."""
    for field, capability in needs(pod):
        if not getattr(drivers[driver], capability):
            able = [name for name, capabilities in drivers.items() if getattr(capabilities, capability)]
            raise Unsupported(
                f"{field}: needs capability {capability.replace('_', '-')}; driver {driver} lacks it",
                remedy=f"set spec.runtimeClassName: {able[0]}" if able else "no driver here has it",
                field=field,
                capability=capability,
            )
