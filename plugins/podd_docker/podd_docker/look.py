"""What the kernel says about sandboxes and containers. Blocks: for worker threads, but for `open_socket`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from podd.driver.contract import (
    CgroupNode,
    Handle,
    NamespaceName,
    NamespaceRow,
    Observed,
    SandboxUsage,
    Scope,
)
from podd.errors import NotFound, Unavailable
from podd.linux import namespaces, process
from podd.linux.cgroup import Group, Layout
from podd.linux.disk import tree_bytes
from podd.supervision.groups import interfaces_of, limits_of, node, usage_of
from podd_docker import groups, handles
from podd_docker.handles import SandboxState

_SHOWN: tuple[NamespaceName, ...] = ("net", "ipc", "uts", "pid", "mnt", "cgroup", "user")


# ---- observed --------------------------------------------------------------------------------------------------------


def sandbox(state: SandboxState, group: Group) -> Observed:
    """The namespaces that members share, as far as dockerd lets them. Raises ProcessLookupError: the holder is gone."""
    found, hosts, scopes = process.namespaces(state.pid), process.own_namespaces(), state.namespaces
    shown = {name: found[name] for name in ("net", "ipc")}
    if scopes.uts == "node" or state.shares_uts:
        shown["uts"] = found["uts"]
    if scopes.pid != "container":
        shown["pid"] = hosts["pid"] if scopes.pid == "node" else found["pid"]
    return Observed(namespaces=shown, cgroup=group.path, limits=limits_of(group))


def container(pid: int, group: Group) -> Observed | None:
    """None: it has ended."""
    try:
        found = process.namespaces(pid)
        paths = process.cgroups(pid)
    except ProcessLookupError:
        return None
    own = next((path for key, path in paths.items() if "pids" in key.split(",")), paths.get("", ""))
    return Observed(namespaces=found, cgroup=own.lstrip("/"), limits=limits_of(group))


# ---- usage -----------------------------------------------------------------------------------------------------------


def sizes(layers: Mapping[str, str]) -> dict[str, int]:
    """In bytes, of directories that may go meanwhile."""
    return {of: tree_bytes(path) for of, path in layers.items()}


def usage(layout: Layout, pod: Handle, containers: Sequence[Handle], layers: Mapping[str, int]) -> SandboxUsage:
    """layers: by the id of a container, the bytes in its writable layer. Raises NotFound: the pod has no cgroup."""
    group, state = _existing(layout, pod), handles.sandbox_state(pod)
    holder = layout.group(groups.of_container(group.path, state.docker_id))
    return SandboxUsage(
        at_ns=time.time_ns(),
        pod=usage_of(group),
        containers={one.id: usage_of(layout.group(handles.container_state(one).cgroup)) for one in containers},
        overhead=usage_of(holder),
        layers=layers,
        interfaces=[] if state.namespaces.net == "node" else interfaces_of(partial(open_socket, pod)),
    )


def _existing(layout: Layout, pod: Handle) -> Group:
    group = layout.group(handles.sandbox_state(pod).cgroup)
    if not group.exists():
        raise NotFound(f"sandbox {pod.id}: it does not exist")
    return group


# ---- namespaces ------------------------------------------------------------------------------------------------------


def rows(pod: Handle, members: Mapping[str, int]) -> list[NamespaceRow]:
    """One for each namespace that a live member, or the holder, is in. members: the pid of each, by its name."""
    state = handles.sandbox_state(pod)
    shared = set(sandbox_inodes(state))
    hosts = process.own_namespaces()
    found = {name: its for name, pid in members.items() if (its := _namespaces(pid))}
    holder = _of_holder(state)
    made: list[NamespaceRow] = []
    for kind in _SHOWN:
        inodes = {its[kind] for its in found.values()}
        if holder and kind in ("net", "ipc", "uts", "pid") and holder[kind] in shared:
            inodes.add(holder[kind])
        for inode in sorted(inodes):
            inside = sorted(name for name, its in found.items() if its[kind] == inode)
            is_node = hosts[kind] == inode
            scope: Scope = "node" if is_node else "pod" if inode in shared else "container"
            by = {"node": "the host", "pod": f"pid {state.pid} (holder)", "container": ""}[scope]
            if scope == "container":
                by = f"pid {members[inside[0]]} ({inside[0]})"
            made.append(NamespaceRow(type=kind, inode=inode, scope=scope, members=inside, pinned_by=by))
    return made


def sandbox_inodes(state: SandboxState) -> list[int]:
    """Of the namespaces that the holder holds for the members."""
    found = _of_holder(state)
    names = ["net", "ipc", *(["pid"] if state.namespaces.pid == "pod" else []), *(["uts"] if state.shares_uts else [])]
    return [found[name] for name in names if found]


def _of_holder(state: SandboxState) -> dict[str, int]:
    """Empty once it is gone, whoever has its pid since."""
    found = _namespaces(state.pid)
    try:
        return found if process.identity(state.pid) == state.holder else {}
    except ProcessLookupError:
        return {}


def _namespaces(pid: int) -> dict[str, int]:
    """Empty for what has ended."""
    try:
        return process.namespaces(pid) if pid > 0 else {}
    except ProcessLookupError:
        return {}


# ---- cgroups ---------------------------------------------------------------------------------------------------------


def cgroups(layout: Layout, pod: Handle, containers: Sequence[Handle]) -> CgroupNode:
    """Raises NotFound: the pod has no cgroup."""
    group = _existing(layout, pod)
    names = {handles.sandbox_state(pod).docker_id: "holder"}
    names |= {state.docker_id: state.name for state in map(handles.container_state, containers)}
    return node(group, {groups.unit_of(groups.of_container(group.path, one)): name for one, name in names.items()})


# ---- connect ---------------------------------------------------------------------------------------------------------


def open_socket(pod: Handle, family: int, kind: int) -> int:
    """See podd.driver.contract.CanConnect. Nothing in it waits. Raises NotFound: the holder is gone."""
    state = handles.sandbox_state(pod)
    if state.namespaces.net == "node":
        with socket.socket(family, kind | socket.SOCK_NONBLOCK) as opened:
            return opened.detach()
    gone = NotFound(f"sandbox {pod.id}: it does not exist")
    try:
        pidfd = process.open_pidfd(state.holder)
    except ProcessLookupError as exc:
        raise gone from exc
    try:  # while its pidfd is open, the pid may be reused; so the namespace is opened first, then its owner looked at
        with suppress(ProcessLookupError):
            fd = os.open(f"/proc/{state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if process.identity(state.pid) == state.holder:
                    return namespaces.open_socket(f"/proc/self/fd/{fd}", family, kind)
            finally:
                os.close(fd)
        raise gone
    except FileNotFoundError as exc:
        raise gone from exc
    except OSError as exc:
        raise Unavailable(f"sandbox {pod.id}: cannot open a socket: {exc.strerror}") from exc
    finally:
        os.close(pidfd)
