"""What a pod is called in its own network."""

from __future__ import annotations

from podd.model.pod import Pod

MAX_HOSTNAME = 63
MAX_KERNEL_NAME = 64  # bytes that the kernel keeps of a host's name

CLUSTER_DOMAIN = "svc.cluster.local"
"""As in a cluster where nobody has chosen another: manifests have it in the addresses that they give themselves."""


def hostname(pod: Pod) -> str:
    """What programs are told by the kernel; "" where the pod has the host's."""
    spec = pod.spec
    if spec.host_network:
        return ""
    if spec.hostname_override:
        return spec.hostname_override
    return full_name(pod) if spec.set_hostname_as_fqdn else short_name(pod)


def short_name(pod: Pod) -> str:
    return pod.spec.hostname or pod.metadata.name[:MAX_HOSTNAME].rstrip("-.")


def domain(pod: Pod) -> str:
    """What comes after the short name in the full one; "" where there is no more than that."""
    spec = pod.spec
    if not spec.subdomain or spec.hostname_override or spec.host_network:
        return ""
    return f"{spec.subdomain}.{pod.metadata.namespace}.{CLUSTER_DOMAIN}"


def full_name(pod: Pod) -> str:
    rest = domain(pod)
    return f"{short_name(pod)}.{rest}" if rest else short_name(pod)
