"""Is what the kernel says of a member what was planned for it? Sharing is verified, never assumed."""

from __future__ import annotations

from podd.driver.contract import Limits, NamespaceScopes, Observed

PAGE_BYTES = 4096  # the smallest; limits in bytes are kept by the kernel in whole pages


def differences(
    *,
    scopes: NamespaceScopes,
    limits: Limits,
    sandbox: Observed,
    sandbox_cgroup: str,
    member: Observed,
    others: dict[str, Observed],
) -> list[str]:
    """Every way in which a held member is not as planned; empty when it is.

    sandbox.namespaces has the inodes of the namespaces that are the pod's or the node's; others: the members before it.
    """
    found = []
    for name in ("net", "ipc", "uts", "pid"):
        scope = getattr(scopes, name)
        inode = member.namespaces.get(name)
        shared = sandbox.namespaces.get(name)
        if scope in ("pod", "node") and shared is not None and inode != shared:
            found.append(f"{name} namespace: is {inode}, planned is {shared} of the {scope}")
        if scope == "container":
            found += _not_private(name, inode, sandbox, others)
    for name in ("mnt", "cgroup"):
        found += _not_private(name, member.namespaces.get(name), sandbox, others)
    if sandbox_cgroup and not member.cgroup.startswith(sandbox_cgroup.rstrip("/") + "/"):
        found.append(f"cgroup: is {member.cgroup}, planned is one below {sandbox_cgroup}")
    return found + _limits(limits, member.limits)


def _not_private(name: str, inode: int | None, sandbox: Observed, others: dict[str, Observed]) -> list[str]:
    if inode is None:
        return []
    if sandbox.namespaces.get(name) == inode:
        return [f"{name} namespace: is {inode} of the sandbox, planned is its own"]
    return [
        f"{name} namespace: is {inode} of {other}, planned is its own"
        for other, observed in others.items()
        if observed.namespaces.get(name) == inode
    ]


def _limits(planned: Limits, kernel: Limits) -> list[str]:
    """A limit that is not there, or looser than planned by more than the kernel's rounding."""
    found = []
    if planned.memory_bytes is not None and _looser(kernel.memory_bytes, planned.memory_bytes + PAGE_BYTES):
        found.append(f"memory limit: is {kernel.memory_bytes}, planned is {planned.memory_bytes} bytes")
    if planned.pids is not None and _looser(kernel.pids, planned.pids):
        found.append(f"pids limit: is {kernel.pids}, planned is {planned.pids}")
    if planned.cpu_quota_us is not None:
        share = planned.cpu_quota_us / planned.cpu_period_us
        is_share = None if kernel.cpu_quota_us is None else kernel.cpu_quota_us / kernel.cpu_period_us
        if is_share is None or is_share > share * 1.01:
            found.append(f"cpu limit: is {is_share}, planned is {share} processors")
    return found


def _looser(kernel: int | None, planned: int) -> bool:
    return kernel is None or kernel > planned
