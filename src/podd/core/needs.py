"""What a pod asks of its driver beyond the contract's core, so that it can be refused before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from podd.driver.contract import Capabilities
from podd.errors import Unsupported
from podd.model.pod import ROOTFS, Pod


def needs(pod: Pod) -> Iterator[tuple[str, str]]:
    """Field and the capability that it needs, as podd.driver.contract.Capabilities names it."""
    spec = pod.spec
    for n, container in enumerate(spec.containers):
        is_directory = container.image.startswith(ROOTFS)
        yield f"spec.containers[{n}].image", "rootfs_directory" if is_directory else "images"
    if spec.share_process_namespace:
        yield "spec.shareProcessNamespace", "pid_pod"
    if spec.host_pid:
        yield "spec.hostPID", "pid_node"


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
