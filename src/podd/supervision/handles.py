"""What the driver must not forget, in the form the core stores."""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from podd.driver.contract import Handle
from podd.errors import Invalid, Unsupported
from podd.linux.process import PidIdentity
from podd.model.ids import INSTANCE_ID
from podd.model.value import Value

VERSION = 1

S = TypeVar("S", bound=Value)


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
    return Handle(id=of, driver=driver, version=VERSION, state=msgspec.to_builtins(state))


def sandbox_state(handle: Handle) -> SandboxState:
    """Raises Unsupported: another version wrote it; Invalid: it is no handle of a sandbox."""
    return _state(handle, SandboxState)


def container_state(handle: Handle) -> ContainerState:
    """Raises as sandbox_state."""
    return _state(handle, ContainerState)


def check_id(of: str) -> str:
    """Ids become parts of paths. Raises Invalid: it could lead elsewhere."""
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
