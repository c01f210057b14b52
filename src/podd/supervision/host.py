"""What the driver reads and makes on the host itself. Everything here blocks: for worker threads."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import msgspec

from podd.driver.contract import ContainerStatus, Exit, Handle, Health, Observed, Owned
from podd.driver.hookspecs import DriverPaths
from podd.errors import Denied, NotFound, PoddError, Unavailable, Unsupported
from podd.linux import capabilities, namespaces, process
from podd.linux.cgroup import Group, Layout, default_parent, place_supervisors, prepare_parent
from podd.linux.process import PidIdentity, open_pidfd
from podd.linux.syscalls import capget, filesystem_magic, fsopen
from podd.model.ids import INSTANCE_ID, ContainerId, PodUid, SandboxId
from podd.model.value import Value
from podd.shim.files import read_json, remove_tree, unlink
from podd.shim.plan import ContainerState
from podd.shim.sweep import SHIM_FILE
from podd.supervision import handles, plans
from podd.supervision.link import exit_on_disk, has_ended
from podd.supervision.section import Section

OLDEST_KERNEL = (5, 12)  # mount_setattr(2)
OVERLAYFS_MAGIC = 0x794C7630
KILL_S = 10.0


def find(driver: str, section: Section, paths: DriverPaths, apart: str = "") -> Host:
    """Check that the driver can work here. Makes nothing.

    apart: as Places.of. Raises Denied, Unsupported, Unavailable: it cannot, why, and what to do.
    """
    _check_kernel(driver)
    _check_rights(driver)
    layout = Layout.detect()
    parent = section.cgroup_parent or default_parent(layout)
    try:
        _check_layers(driver, paths.state_dir)
    except OSError as exc:
        raise Unavailable(f"{driver}: {exc.filename}: {exc.strerror}") from exc
    process.boot_id()  # read now, so that nobody reads a file on the event loop
    return Host(driver, plans.Places.of(paths, parent, apart), layout, parent)


def probe(unusable: PoddError | None) -> Health:
    """What `prepare` found, and what works with less."""
    release = os.uname().release
    if unusable is not None:
        return Health(usable=False, reason=unusable.message, remedy=unusable.remedy, version=f"Linux {release}")
    layout = Layout.detect()
    notes = [f"limits of {name}: no cgroup hierarchy has the {name} controller" for name in layout.missing]
    if not capget().effective & capabilities.mask_of(["SYS_RESOURCE"]):
        notes.append("oom_score_adj cannot be lowered, rlimits cannot be raised: CAP_SYS_RESOURCE is missing")
    if shutil.which("skopeo") is None:
        notes.append("images cannot be pulled: skopeo is not installed")
    return Health(usable=True, version=f"Linux {release}, cgroup {layout.kind}", notes=notes)


class _Process(Value):
    pid: int
    starttime_ticks: int
    boot_id: str


class _Places(Value):
    run_dir: str
    cgroup: str
    net: Literal["pod", "node"]
    meta: dict[str, str]


class _ShimFile(Value):
    """What is of interest here in the file by which a shim claims its sandbox."""

    shim: _Process
    sandbox: _Places

    @property
    def state(self) -> handles.SandboxState:
        return handles.SandboxState(
            run_dir=self.sandbox.run_dir,
            cgroup=self.sandbox.cgroup,
            pid=self.shim.pid,
            starttime_ticks=self.shim.starttime_ticks,
            boot_id=self.shim.boot_id,
            net=self.sandbox.net,
        )


class Host:
    """This driver's part of the host."""

    def __init__(self, driver: str, places: plans.Places, layout: Layout, parent: str) -> None:
        """parent: the group under which pods of all such drivers go."""
        self._driver = driver
        self.places = places
        self.layout = layout
        self._parent = parent

    def settle(self) -> None:
        """Make the driver's directories and its parent cgroup. Raises Unavailable, Conflict: they cannot be made."""
        try:
            for directory in (self.places.run_dir, self.places.containers_dir):
                os.makedirs(directory, 0o700, exist_ok=True)
            prepare_parent(self.layout, self._parent)
            own = self.layout.group(self.places.cgroup_parent)
            own.create()
            own.pass_on()
        except OSError as exc:
            raise Unavailable(f"{self._driver}: {exc.filename}: {exc.strerror}") from exc

    def group(self, sandbox_id: str) -> Group:
        return self.layout.group(self.places.cgroup(sandbox_id))

    def place_supervisors(self, pid: int) -> None:
        """Of that process and all that it will fork. OSError: the kernel refuses."""
        place_supervisors(self.layout, self._parent, pid)

    # ---- sandboxes ---------------------------------------------------------------------------------------------------

    def owned(self, driver: str) -> list[Owned]:
        found: set[str] = set()
        for directory in (self.places.run_dir, self.places.containers_dir, *self._groups()):
            found.update(_instances(directory))
        return [self._owned(driver, sandbox_id) for sandbox_id in sorted(found)]

    def _groups(self) -> Iterator[str]:
        return (f"{hierarchy.mount}/{self.places.cgroup_parent}" for hierarchy in self.layout.hierarchies)

    def _owned(self, driver: str, sandbox_id: str) -> Owned:
        written = self._written(sandbox_id)
        uid = written.sandbox.meta.get("uid") if written else None
        return Owned(
            sandbox_id=SandboxId(sandbox_id),
            handle=handles.make(driver, sandbox_id, written.state) if written and _lives(written.shim) else None,
            pod_uid=PodUid(uid) if uid else None,
            containers=[ContainerId(c) for c in _instances(f"{self.places.containers_dir}/{sandbox_id}")],
        )

    def state_of(self, sandbox_id: str) -> handles.SandboxState:
        """As its shim wrote it down; the shim may be dead. Raises NotFound: it wrote nothing that makes sense."""
        written = self._written(sandbox_id)
        if written is None:
            raise NotFound(f"sandbox {sandbox_id}: it has no shim")
        return written.state

    def _written(self, sandbox_id: str) -> _ShimFile | None:
        try:
            return msgspec.convert(read_json(f"{self.places.sandbox_dir(sandbox_id)}/{SHIM_FILE}"), _ShimFile)
        except msgspec.ValidationError:
            return None

    def bugs(self, sandbox_id: str) -> str:
        """What its shim wrote down of its own errors, bounded by the shim; "" for none."""
        try:
            with open(f"{self.places.sandbox_dir(sandbox_id)}/shim.log", encoding="utf-8", errors="replace") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def remains(self, sandbox_id: str) -> bool:
        """Whether anything of it is on the host."""
        return (
            os.path.lexists(self.places.sandbox_dir(sandbox_id))
            or os.path.lexists(f"{self.places.containers_dir}/{sandbox_id}")
            or self.group(sandbox_id).exists()
        )

    # ---- containers --------------------------------------------------------------------------------------------------

    def container_status(self, sandbox_id: str, container_id: str, state: ContainerState) -> ContainerStatus:
        return ContainerStatus(
            id=ContainerId(container_id),
            state=state["state"],
            pid=state["pid"],
            started_at_ns=state["started_at_ns"],
            exit=None if state["exit"] is None else plans.exit_of(state["exit"]),
            observed=self._observed(sandbox_id, container_id, state),
        )

    def _observed(self, sandbox_id: str, container_id: str, state: ContainerState) -> Observed | None:
        if state["pid"] is None or state["state"] == "exited":
            return None
        group = self.group(sandbox_id).child(container_id)
        try:
            if process.starttime_ticks(state["pid"]) != state["starttime_ticks"]:
                return None
            found = process.namespaces(state["pid"])
        except ProcessLookupError:  # it has just ended
            return None
        return plans.observed(found, group.path, {**group.read_limits()})

    def exit_of(self, sandbox_id: str, container_id: str) -> Exit:
        """Of a container whose shim is dead. Raises NotFound: there are no remains of it."""
        if not os.path.lexists(f"{self.places.containers_dir}/{sandbox_id}/{container_id}"):
            raise NotFound(f"container {container_id}: it does not exist in sandbox {sandbox_id}")
        return exit_on_disk(self.places.sandbox_dir(sandbox_id), container_id)

    def remove_container(self, sandbox_id: str, container_id: str) -> None:
        """What its shim would do, had it not died. Raises Unavailable: something is left."""
        group = self.group(sandbox_id).child(container_id)
        group.kill_all(KILL_S)
        group.remove()
        remove_tree(f"{self.places.containers_dir}/{sandbox_id}/{container_id}")
        unlink(f"{self.places.sandbox_dir(sandbox_id)}/exits/{container_id}.json")


def open_socket(sandbox: Handle, family: int, kind: int) -> int:
    """See podd.driver.contract.CanConnect. Raises NotFound: the sandbox is gone, or is going."""
    state = handles.sandbox_state(sandbox)
    try:
        if state.net == "node":
            with socket.socket(family, kind | socket.SOCK_NONBLOCK) as opened:
                return opened.detach()
        return namespaces.open_socket(f"{state.run_dir}/ns/net", family, kind)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.EINVAL):  # no pin, or one that is taken away just now
            raise NotFound(f"sandbox {sandbox.id}: it does not exist") from exc
        raise Unavailable(f"sandbox {sandbox.id}: cannot open a socket: {exc.strerror}") from exc


def _lives(shim: _Process) -> bool:
    try:
        pidfd = open_pidfd(PidIdentity(shim.pid, shim.starttime_ticks, shim.boot_id))
    except ProcessLookupError:
        return False
    try:
        return not has_ended(pidfd)
    finally:
        os.close(pidfd)


def _instances(directory: str) -> list[str]:
    """The names in a directory that are ids; none where there is no such directory."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if INSTANCE_ID.fullmatch(entry.name))
    return []


def _check_kernel(driver: str) -> None:
    release = os.uname().release
    major, minor, *_ = (int("".join(c for c in part if c.isdigit()) or 0) for part in f"{release}.0".split(".")[:2])
    if (major, minor) < OLDEST_KERNEL:
        raise Unsupported(
            f"{driver}: this kernel is Linux {release}: {'.'.join(map(str, OLDEST_KERNEL))} is needed",
            remedy="use a newer kernel, or another driver",
        )
    try:
        os.close(fsopen("overlay"))
    except FileNotFoundError as exc:
        raise Unsupported(f"{driver}: this kernel has no overlay file system", remedy="modprobe overlay") from exc
    except OSError as exc:
        if not isinstance(exc, PermissionError):
            raise Unsupported(f"{driver}: overlay file system: {exc.strerror}", remedy="modprobe overlay") from exc


def _check_rights(driver: str) -> None:
    if os.geteuid() != 0:
        raise Denied(
            f"{driver}: podd runs as user {os.geteuid()}: namespaces and mounts need root", remedy="run podd as root"
        )
    needed = ("SYS_ADMIN", "NET_ADMIN", "SETUID", "SETGID", "SETPCAP", "CHOWN", "DAC_OVERRIDE", "KILL")
    missing = [name for name in needed if not capget().effective & capabilities.mask_of([name])]
    if missing:
        raise Denied(
            f"{driver}: podd lacks the capabilities {', '.join(missing)}",
            remedy="start podd with all capabilities; in a container, with --privileged",
        )


def _check_layers(driver: str, directory: str) -> None:
    fd = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        magic = filesystem_magic(fd)
    finally:
        os.close(fd)
    if magic == OVERLAYFS_MAGIC:
        raise Unsupported(
            f"{driver}: {directory} is on an overlay file system, which cannot hold the writable layer of another",
            remedy="set daemon.state_dir to a directory on a disk or on a tmpfs",
        )
