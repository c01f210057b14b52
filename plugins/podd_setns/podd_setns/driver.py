"""The setns driver: containers are made by their shim itself, with no container runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podd.driver.contract import Capabilities, ContainerConfig
from podd.driver.hookspecs import DriverPaths
from podd.shim.plan import ContainerPlan
from podd.supervision.driver import ShimDriver
from podd.supervision.host import Host, find
from podd.supervision.section import Section, parse
from podd_setns.filters import Filters

NAME = "setns"


class SetnsDriver(ShimDriver):
    """See podd.driver.contract.Driver."""

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
        super().__init__(name, parse(name, section, Section), paths)
        self._filters = Filters()

    def _find(self) -> Host:
        """A runtime class of this driver has a control group of its own: what lies there is its own to sweep."""
        return find(self.name, self._section, self._paths, apart="" if self.name == NAME else self.name)

    async def _warm(self) -> None:
        await self._filters.warm()

    async def _complete(self, plan: ContainerPlan, config: ContainerConfig) -> ContainerPlan:
        if not config.security.privileged:
            plan["seccomp_bpf"] = await self._filters.program(config.security.seccomp, plan["capabilities"])
        return plan
