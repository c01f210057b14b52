"""What the driver must not forget, in the form the core stores."""

from __future__ import annotations

from podd.driver import handles
from podd.driver.contract import Handle, NamespaceScopes
from podd.linux.process import PidIdentity
from podd.model.value import Value

VERSION = 1


class SandboxState(Value):
    """docker_id, pid, starttime_ticks: of the holder, as dockerd and the kernel know it. cgroup: from the hierarchies'
    mount points. runtime: podd's own, as dockerd calls it, by which members are held; "" for dockerd's default.
    shares_uts: members join the holder's, by that runtime."""

    docker_id: str
    cgroup: str
    hostname: str
    namespaces: NamespaceScopes
    shares_uts: bool
    pid: int
    starttime_ticks: int
    boot_id: str
    runtime: str = ""

    @property
    def holder(self) -> PidIdentity:
        return PidIdentity(self.pid, self.starttime_ticks, self.boot_id)


class Hold(Value):
    """Of a container that waits before its program, or has waited. pid, starttime_ticks: of its process. program: the
    file that this executed while it waited."""

    pid: int
    starttime_ticks: int
    program: str


class ContainerState(Value):
    """docker_id: its name among dockerd's files and cgroups. cgroup: from the hierarchies' mount points. hold: None
    where dockerd starts it."""

    sandbox: str
    name: str
    docker_id: str
    cgroup: str
    hold: Hold | None = None


def make(driver: str, of: str, state: Value) -> Handle:
    return handles.make(driver, of, VERSION, state)


def sandbox_state(handle: Handle) -> SandboxState:
    """Raises as podd.driver.handles.read."""
    return handles.read(handle, VERSION, SandboxState)


def container_state(handle: Handle) -> ContainerState:
    """Raises as podd.driver.handles.read."""
    return handles.read(handle, VERSION, ContainerState)
