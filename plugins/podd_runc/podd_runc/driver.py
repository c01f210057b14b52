"""The runc driver: shims have an OCI runtime make their containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from podd.driver.contract import Capabilities, ContainerConfig, Health
from podd.driver.hookspecs import DriverPaths
from podd.linux import seccomp
from podd.linux.cgroup import Layout
from podd.shim.plan import ContainerPlan, SandboxPlan
from podd.supervision.driver import ShimDriver
from podd.supervision.host import Host, find, probe
from podd.supervision.section import Section, parse
from podd_runc.runtime import Runtime
from podd_runc.runtime import find as find_runtime


class RuncSection(Section):
    """runtime: a name to be looked up in PATH, or an absolute path: runc, crun, or what has runc's command line."""

    runtime: str = "runc"


class RuncDriver(ShimDriver):
    """See podd.driver.contract.Driver.

    It is installed beside others, so it makes nothing before its first pod. Its sandboxes are found in directories and
    in a cgroup of its own, so that each driver with shims sweeps its own.
    """

    is_eager = False
    capabilities = Capabilities(
        held_start=True,
        shared_uts=True,
        pid_pod=True,
        pid_node=True,
        exec=True,
        attach=True,
        pause=True,
        stats=True,
        connect=True,
        resize=True,
        pid_target=True,
        images=True,
        rootfs_directory=True,
        network=True,
        publish=True,
        outlives_podd=True,
    )

    def __init__(self, name: str, section: Mapping[str, Any], paths: DriverPaths) -> None:
        parsed = parse(name, section, RuncSection)
        super().__init__(name, parsed, paths)
        self._wanted = parsed.runtime
        self._runtime: Runtime | None = None

    def _find(self) -> Host:
        self._runtime = find_runtime(self.name, self._wanted, Layout.detect())
        return find(self.name, self._section, self._paths, apart=self.name)

    def _look(self) -> Health:
        health = probe(self._unusable)
        if self._runtime is None:
            return health
        return Health(
            usable=health.usable,
            reason=health.reason,
            remedy=health.remedy,
            version=f"{self._runtime.name} {self._runtime.version}, {health.version}",
            notes=health.notes,
        )

    def _complete_sandbox(self, plan: SandboxPlan) -> SandboxPlan:
        assert self._runtime is not None
        plan["runtime"] = {"path": self._runtime.path, "name": self._runtime.name}
        return plan

    async def _complete(self, plan: ContainerPlan, config: ContainerConfig) -> ContainerPlan:
        if not config.security.privileged:
            plan["seccomp_oci"] = await anyio.to_thread.run_sync(
                seccomp.for_runtime, config.security.seccomp, plan["capabilities"]
            )
        return plan
