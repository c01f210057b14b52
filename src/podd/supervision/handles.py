"""What the driver must not forget, in the form the core stores."""

from __future__ import annotations

from typing import Literal

from podd.driver import handles
from podd.driver.contract import Handle
from podd.linux.process import PidIdentity
from podd.model.value import Value

VERSION = 1


class SandboxState(Value):
    """shim: its pid, start time in ticks since boot, and boot id. cgroup: from the hierarchies' mount points.

    net: whose network it has.
    """

    run_dir: str  # the sandbox's own
    cgroup: str
    pid: int
    starttime_ticks: int
    boot_id: str
    net: Literal["pod", "node"] = "pod"

    @property
    def shim(self) -> PidIdentity:
        return PidIdentity(self.pid, self.starttime_ticks, self.boot_id)


class ContainerState(Value):
    """pid: of its first process."""

    sandbox: str
    name: str
    pid: int
    starttime_ticks: int
    boot_id: str

    @property
    def process(self) -> PidIdentity:
        return PidIdentity(self.pid, self.starttime_ticks, self.boot_id)


def make(driver: str, of: str, state: Value) -> Handle:
    return handles.make(driver, of, VERSION, state)


def sandbox_state(handle: Handle) -> SandboxState:
    """Raises as podd.driver.handles.read."""
    return handles.read(handle, VERSION, SandboxState)


def container_state(handle: Handle) -> ContainerState:
    """Raises as podd.driver.handles.read."""
    return handles.read(handle, VERSION, ContainerState)
