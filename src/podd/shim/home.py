"""What a sandbox has on the host before it has containers: directories, cgroup, namespaces, /dev/shm."""

from __future__ import annotations

import json
import os
from contextlib import suppress

from podd.errors import Conflict, PoddError
from podd.linux.cgroup import Layout
from podd.linux.process import identity
from podd.shim import sandbox
from podd.shim.files import read_json, write_new
from podd.shim.plan import LimitsPlan, SandboxPlan, SandboxReport, SweepPlan
from podd.shim.processes import entrance
from podd.shim.sweep import KILL_S, SHIM_FILE, check, remove

INIT_GROUP = "init"
"""The reaping init's own leaf: on v2 the pod's group may not hold processes."""


def unthrottled(limits: LimitsPlan) -> LimitsPlan:
    """Without the processor limit, which waits for the release: it is the program's, not podd's work before it.

    That work takes milliseconds of a processor. Under a limit of 10m it would take half a second.
    """
    return {**limits, "cpu_quota_us": None}


class Home:
    """The places of one sandbox. Made in the maker, removed in the shim."""

    def __init__(self, plan: SandboxPlan, layout: Layout, shim_pid: int) -> None:
        self._shim_pid = shim_pid
        self.plan = plan
        self.group = layout.group(plan["cgroup"])

    def make(self) -> SandboxReport:
        """Everything or nothing.

        Raises Invalid: the plan's places are not its own; Conflict: the sandbox has a shim already, or remains that
        need a sweep.
        """
        check(self._places)
        os.makedirs(self.plan["run_dir"], 0o700, exist_ok=True)
        self._claim()
        try:
            return self._fill()
        except BaseException:
            with suppress(PoddError, OSError):  # what is left has a shim.json, and is swept by its id
                self.group.kill_all(KILL_S)
                self.remove()
                os.rmdir(self.plan["log_directory"])  # empty, or it stays
            raise

    @property
    def is_ours(self) -> bool:
        """Whether it was this shim that made, or began to make, what is there."""
        known = read_json(f"{self.plan['run_dir']}/{SHIM_FILE}") or {}
        return known.get("shim") == identity(self._shim_pid)._asdict()

    def remove(self) -> None:
        """After every process has ended. Raises Unavailable: something is left."""
        remove(self._places)

    @property
    def _places(self) -> SweepPlan:
        return {
            "id": self.plan["id"],
            "run_dir": self.plan["run_dir"],
            "containers_dir": self.plan["containers_dir"],
            "cgroup": self.plan["cgroup"],
            "keep_logs": True,
        }

    def _claim(self) -> None:
        """Before anything else is made, say whose it is: the one that may make it is the one that gets this file."""
        me = {"shim": identity(self._shim_pid)._asdict(), "sandbox": self.plan}
        try:
            write_new(f"{self.plan['run_dir']}/{SHIM_FILE}", json.dumps(me))
        except FileExistsError:
            raise Conflict(
                f"sandbox {self.plan['id']}: {self.plan['run_dir']}/{SHIM_FILE} exists",
                remedy="connect to its shim, or sweep what is left of it",
            ) from None

    def _fill(self) -> SandboxReport:
        plan, run_dir = self.plan, self.plan["run_dir"]
        os.makedirs(f"{plan['containers_dir']}/{plan['id']}", 0o700, exist_ok=True)
        for name in ("containers", "exits"):
            os.makedirs(f"{run_dir}/{name}", 0o700, exist_ok=True)
        if plan["log_directory"]:
            os.makedirs(plan["log_directory"], 0o755, exist_ok=True)
        self.group.create()
        self.group.pass_on()
        unenforced = self.group.apply(unthrottled(plan["limits"]))
        namespaces = self._make_namespaces()
        sandbox.mount_shm(plan)
        me = identity(self._shim_pid)
        return {
            "id": plan["id"],
            "shim_pid": me.pid,
            "starttime_ticks": me.starttime_ticks,
            "boot_id": me.boot_id,
            "namespaces": namespaces.inodes,
            "cgroup": plan["cgroup"],
            "limits": self.group.read_limits(plan["limits"]),
            "init_pid": namespaces.init_pid,
            "notes": [f"{name}: this host has nothing to enforce it" for name in unenforced],
        }

    def throttle(self, limits: LimitsPlan) -> LimitsPlan:
        """Apply the pod's processor limit too; all its limits, as the kernel then has them."""
        self.group.apply(limits)
        return self.group.read_limits(limits)

    def resize(self, limits: LimitsPlan, *, is_throttled: bool) -> LimitsPlan:
        """Change the pod's limits; what the kernel then has. Raises Conflict, Invalid: they are as they were."""
        return self.group.change(limits if is_throttled else unthrottled(limits))

    def _make_namespaces(self) -> sandbox.SandboxNamespaces:
        ns_dir = f"{self.plan['run_dir']}/ns"
        if self.plan["pid"] != "pod":
            return sandbox.make_sandbox_namespaces(self.plan, ns_dir, sibling=True)
        group = self.group.child(INIT_GROUP)
        group.create()
        with entrance(group) as (born_in, cgroups):
            return sandbox.make_sandbox_namespaces(self.plan, ns_dir, cgroups, born_in, sibling=True)
