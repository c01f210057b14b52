"""What the kernel says about a sandbox: usage, namespaces, the tree of its cgroups. Blocks: for worker threads."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from podd.driver.contract import (
    CgroupNode,
    Handle,
    NamespaceName,
    NamespaceRow,
    SandboxUsage,
    Scope,
    Usage,
)
from podd.errors import NotFound
from podd.linux import process
from podd.linux.cgroup import Group
from podd.linux.disk import tree_bytes
from podd.supervision import handles
from podd.supervision.groups import interfaces_of, node, usage_of
from podd.supervision.host import open_socket

_TICKS_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_SHOWN: tuple[NamespaceName, ...] = ("net", "ipc", "uts", "pid", "mnt", "cgroup", "user")


# ---- usage -----------------------------------------------------------------------------------------------------------


def usage(pod: Group, sandbox: Handle, containers: Sequence[Handle], layers_dir: str) -> SandboxUsage:
    """layers_dir: of the sandbox's writable layers. Raises NotFound: the pod has no cgroup."""
    _must_exist(pod, sandbox)
    state = handles.sandbox_state(sandbox)
    return SandboxUsage(
        at_ns=time.time_ns(),
        pod=usage_of(pod),
        containers={container.id: usage_of(pod.child(container.id)) for container in containers},
        overhead=_overhead(state.pid),
        layers={container.id: tree_bytes(f"{layers_dir}/{container.id}/upper") for container in containers},
        interfaces=[] if state.net == "node" else interfaces_of(partial(open_socket, sandbox)),
    )


def _overhead(shim: int) -> Usage | None:
    """The shim shares most of its memory with all others, so its part of it is counted (PSS)."""
    try:
        with open(f"/proc/{shim}/smaps_rollup", encoding="ascii") as file:
            pss = next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
        with open(f"/proc/{shim}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        return None
    return Usage(cpu_usage_ns=(int(fields[11]) + int(fields[12])) * _TICKS_NS, memory_usage_bytes=pss, pids=1)


# ---- namespaces ------------------------------------------------------------------------------------------------------


def namespaces(sandbox: Handle, containers: Sequence[Handle]) -> list[NamespaceRow]:
    """One row for each namespace that a live member is in, in a fixed order of types."""
    members = [(handle, found) for handle in containers if (found := _namespaces_of(handle))]
    pins = _pins(handles.sandbox_state(sandbox).run_dir)
    hosts = process.own_namespaces()
    rows: list[NamespaceRow] = []
    for kind in _SHOWN:
        for inode in sorted({found[kind] for _, found in members} | _pinned(pins, kind)):
            inside = [handle for handle, found in members if found[kind] == inode]
            rows.append(_row(kind, inode, inside, pins, hosts))
    return rows


def _row(
    kind: NamespaceName, inode: int, inside: Sequence[Handle], pins: Mapping[int, str], hosts: Mapping[str, int]
) -> NamespaceRow:
    states = [handles.container_state(handle) for handle in inside]
    scope: Scope = "node" if hosts[kind] == inode else "pod" if inode in pins else "container"
    holder = {
        "node": "the host",
        "pod": pins.get(inode, ""),
        "container": f"pid {states[0].pid} ({states[0].name})" if states else "",
    }
    return NamespaceRow(
        type=kind, inode=inode, scope=scope, members=sorted(state.name for state in states), pinned_by=holder[scope]
    )


def _namespaces_of(container: Handle) -> dict[str, int]:
    """Empty for one that has ended."""
    state = handles.container_state(container)
    try:
        found = process.namespaces(state.pid)
        return found if process.identity(state.pid) == state.process else {}
    except ProcessLookupError:
        return {}


def _pins(run_dir: str) -> dict[int, str]:
    """Paths of the pinned namespaces, by inode."""
    with suppress(FileNotFoundError), os.scandir(f"{run_dir}/ns") as entries:
        return {os.stat(entry.path).st_ino: entry.path for entry in entries}
    return {}


def _pinned(pins: Mapping[int, str], kind: str) -> set[int]:
    return {inode for inode, path in pins.items() if path.endswith(f"/{kind}")}


# ---- cgroups ---------------------------------------------------------------------------------------------------------


def cgroups(pod: Group, sandbox: Handle, containers: Sequence[Handle]) -> CgroupNode:
    """Raises NotFound: the pod has no cgroup."""
    _must_exist(pod, sandbox)
    names = {container.id: handles.container_state(container).name for container in containers}
    return node(pod, names)


def _must_exist(pod: Group, sandbox: Handle) -> None:
    if not pod.exists():
        raise NotFound(f"sandbox {sandbox.id}: it does not exist")
