"""What members of a pod share, made once: pinned namespaces, the reaping init, /dev/shm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from podd.shim.plan import SandboxPlan


class SandboxNamespaces(NamedTuple):
    inodes: dict[str, int]  # by name (net, ipc, uts, pid): those of scope pod and of scope node
    init_pid: int | None  # in the shim's pid namespace, a child of the shim; None unless the pid scope is "pod"


def make_sandbox_namespaces(plan: SandboxPlan, ns_dir: str, init_cgroups: Sequence[int] = ()) -> SandboxNamespaces:
    """Make the sandbox's namespaces and pin each as <ns_dir>/<name>; start the init where pids are shared.

    To be called in the shim (single-threaded, in the host's mount namespace). ns_dir is made when missing.
    init_cgroups: descriptors open for writing on the cgroup.procs (v1: tasks) files that the init joins.
    The init is a child of the caller, who reaps it; when it ends, every member of the pid namespace is killed.
    Raises a podd.errors kind; nothing is then left pinned.
    """
    raise NotImplementedError


def unpin_namespaces(ns_dir: str) -> None:
    """Unmount and remove every pin and the directory. Of what is not there: quiet success."""
    raise NotImplementedError


def mount_shm(plan: SandboxPlan) -> None:
    """Mount the pod's /dev/shm, sized, on <run_dir>/shm; nothing where ipc is the node's. Again: nothing."""
    raise NotImplementedError


def unmount_shm(run_dir: str) -> None:
    """Unmount and remove <run_dir>/shm. Of what is not there: quiet success."""
    raise NotImplementedError
