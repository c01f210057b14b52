"""What the driver must not forget, in the form the core stores."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from podd.driver.contract import Handle, NamespaceScopes
from podd.errors import Invalid, Unsupported
from podd.linux.process import PidIdentity
from podd.model.ids import INSTANCE_ID
from podd.model.value import Value

VERSION = 1

S = TypeVar("S", bound=Value)


class SandboxState(Value):
    """docker_id, pid, starttime_ticks: of the holder, as dockerd and the kernel know it. cgroup: from the hierarchies'
    mount points. shares_uts: members join the holder's, by podd's OCI runtime."""

    docker_id: str
    cgroup: str
    hostname: str
    namespaces: NamespaceScopes
    shares_uts: bool
    pid: int
    starttime_ticks: int
    boot_id: str

    @property
    def holder(self) -> PidIdentity:
        return PidIdentity(self.pid, self.starttime_ticks, self.boot_id)


class ContainerState(Value):
    """docker_id: its name among dockerd's files and cgroups. cgroup: from the hierarchies' mount points."""

    sandbox: str
    name: str
    docker_id: str
    cgroup: str


def make(driver: str, of: str, state: Value) -> Handle:
    return Handle(id=of, driver=driver, version=VERSION, state=msgspec.to_builtins(state))


def sandbox_state(handle: Handle) -> SandboxState:
    """Raises Unsupported: another version wrote it; Invalid: it is no handle of a sandbox."""
    return _state(handle, SandboxState)


def container_state(handle: Handle) -> ContainerState:
    """Raises as sandbox_state."""
    return _state(handle, ContainerState)


def check_id(of: str) -> str:
    """Ids become names of containers and parts of paths. Raises Invalid: it could lead elsewhere."""
    if not INSTANCE_ID.fullmatch(of):
        raise Invalid(f"id {of!r}: not 16 lower-case hexadecimal digits")
    return of


def _state(handle: Handle, kind: type[S]) -> S:
    if handle.version != VERSION:
        raise Unsupported(
            f"handle {handle.id}: has version {handle.version}; this driver knows {VERSION}",
            remedy="use the version of podd that made it, or delete the pod",
        )
    check_id(handle.id)
    try:
        return msgspec.convert(handle.state, kind)
    except msgspec.ValidationError as exc:
        raise Invalid(f"handle {handle.id}: {exc}") from exc
