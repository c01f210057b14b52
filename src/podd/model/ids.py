"""Names of things, chosen before the thing is made, so that a crash in between can be undone by name."""

from __future__ import annotations

import re
from typing import NewType

PodUid = NewType("PodUid", str)
"""A pod as long as it exists: an RFC 4122 UUID, as Kubernetes gives it."""

SandboxId = NewType("SandboxId", str)
"""One sandbox of a pod: 16 lower-case hexadecimal digits. A pod that loses its sandbox gets another with a new id."""

ContainerId = NewType("ContainerId", str)
"""One instance of a container: 16 lower-case hexadecimal digits. Each restart is a new instance with a new id."""

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
INSTANCE_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)


def is_dns_label(name: str) -> bool:
    """RFC 1123 label: what Kubernetes asks of container and volume names."""
    return DNS_LABEL.fullmatch(name) is not None


def is_dns_subdomain(name: str) -> bool:
    """RFC 1123 subdomain of at most 253 characters: what Kubernetes asks of pod names."""
    return len(name) <= 253 and DNS_SUBDOMAIN.fullmatch(name) is not None
