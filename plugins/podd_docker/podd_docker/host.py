"""What the driver makes on the host itself: cgroups, files, mounts of parts of volumes. Blocks: for worker threads."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from podd.driver.contract import Limits, Mount, SandboxConfig
from podd.errors import Denied, NotFound, PoddError
from podd.linux import capabilities
from podd.linux.cgroup import Group, Layout
from podd.linux.cgroup.tree import rmtree
from podd.linux.mounts import bind_fd
from podd.linux.namespaces import unpin
from podd.linux.syscalls import capget, move_mount
from podd.model.ids import INSTANCE_ID
from podd.network import files
from podd.shim.files import unlink
from podd.shim.subpath import open_below
from podd.supervision.plans import limits_plan
from podd_docker.groups import Ways

KILL_S = 10.0
FILES = "etc"


class Host:
    """folder: of this driver, below podd's run directory: mounts and execs. Made with the first sandbox."""

    def __init__(self, name: str, folder: str, cgroup_parent: str) -> None:
        """Raises Denied, Unsupported: podd cannot work here."""
        if os.geteuid() != 0:
            raise Denied(f"docker: podd runs as user {os.geteuid()}: cgroups need root", remedy="run podd as root")
        self.folder = folder
        self.layout = Layout.detect()
        may_lower = capget().effective & capabilities.mask_of(["SYS_RESOURCE"])
        self.least_oom_score_adj = -1000 if may_lower else 0
        self.ways = Ways(name, self.layout, cgroup_parent)

    # ---- cgroups

    def group(self, path: str) -> Group:
        return self.layout.group(path)

    def make_pod(self, sandbox: str, path: str, limits: Limits) -> Group:
        """Its group; before that a note that there is one, by which it is found, and nobody else's is taken for one.

        Raises Conflict: the group of all pods cannot be made; Unavailable: systemd does not make it.
        """
        os.makedirs(self._folder_of(sandbox), 0o700, exist_ok=True)
        group = self.group(path)
        self.ways.of(path).make(group, limits)
        return group

    def change_pod(self, path: str, limits: Limits) -> Limits:
        """All or nothing. What the kernel then says. Raises as change; Unavailable: systemd does not hear of it."""
        before = self.group(path).read_limits()
        changed = self.change(path, limits)
        try:
            self.ways.of(path).keep(self.group(path), limits)
        except PoddError:
            with suppress(PoddError, OSError):
                self.group(path).apply(before)
            raise
        return changed

    def kill_pod(self, sandbox: str) -> None:
        for path in self.ways.paths(sandbox):
            self.kill(path)

    def remove_pod(self, sandbox: str) -> None:
        for path in self.ways.paths(sandbox):
            self.ways.of(path).remove(self.group(path))
            _remove_everywhere(path)

    def change(self, path: str, limits: Limits) -> Limits:
        """What the kernel then says. Raises Conflict: more is in use; NotFound: there is no such group."""
        group = self.group(path)
        if not group.exists():
            raise NotFound(f"cgroup {path}: it does not exist")
        return msgspec.convert(dict(group.change(limits_plan(limits))), Limits)

    def kill(self, path: str) -> None:
        """Every process of the group, frozen as they may be. Of no such group: quiet success."""
        self.group(path).kill_all(KILL_S)

    def remove_group(self, path: str) -> None:
        self.group(path).remove()
        _remove_everywhere(path)

    def sandboxes(self) -> set[str]:
        """Those of which there may be something."""
        return {name for name in _names(f"{self.folder}/sandboxes") if INSTANCE_ID.fullmatch(name)}

    def forget(self, sandbox: str) -> None:
        """Of which nothing is left."""
        with suppress(FileNotFoundError):
            os.rmdir(self._folder_of(sandbox))

    def _folder_of(self, sandbox: str) -> str:
        return f"{self.folder}/sandboxes/{sandbox}"

    # ---- files of the pod

    def make_files(self, config: SandboxConfig, ips: Sequence[str], *, resolves: bool) -> list[str]:
        """See podd.network.files.make. resolves: dockerd answers for names, and so writes resolv.conf itself."""
        folder = f"{self._folder_of(config.id)}/{FILES}"
        notes = files.make(folder, config, ips)
        if resolves and config.namespaces.net != "node":
            unlink(f"{folder}/resolv.conf")
            return []
        return notes

    def files(self, sandbox: str) -> dict[str, str]:
        """Those of a pod that members mount at the same place below /etc: by that place, where they are."""
        folder = f"{self._folder_of(sandbox)}/{FILES}"
        return {f"/etc/{name}": f"{folder}/{name}" for name in _names(folder)}

    # ---- parts of volumes

    def bind_parts(self, sandbox: str, container: str, mounts: Sequence[Mount]) -> dict[int, str]:
        """By index: for mounts of a part of a volume, a path that dockerd can be given.

        The part is opened without leaving the volume, and what was opened is mounted where only podd can write: dockerd
        is given a path that nobody can bend meanwhile. Raises Invalid: the part leads out of the volume.
        """
        found: dict[int, str] = {}
        for index, mount in enumerate(mounts):
            if mount.sub_path:
                found[index] = path = f"{self._folder_of(sandbox)}/{container}/{index}"
                if not os.path.ismount(path):
                    _bind_part(mount, path)
        return found

    def unbind_parts(self, sandbox: str, container: str = "") -> None:
        """Of one container, or of all of the sandbox, its files included."""
        top = self._folder_of(sandbox)
        for one in [container] if container else _names(top):
            for index in _names(f"{top}/{one}"):
                _unbind(f"{top}/{one}/{index}")
            with suppress(FileNotFoundError):
                os.rmdir(f"{top}/{one}")


def _bind_part(mount: Mount, path: str) -> None:
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    volume = os.open(mount.host_path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        part = open_below(volume, mount.sub_path, mount.container_path)
    finally:
        os.close(volume)
    try:
        _bind(part, path)
    finally:
        os.close(part)


def _bind(part: int, path: str) -> None:
    if os.path.isdir(f"/proc/self/fd/{part}"):
        os.makedirs(path, 0o700, exist_ok=True)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        made = bind_fd(part, recursive=True)
        try:
            move_mount(made, target)
        finally:
            os.close(made)
    finally:
        os.close(target)


def _unbind(path: str) -> None:
    if os.path.isdir(path):
        with suppress(IsADirectoryError, PermissionError):
            unpin(path)
        os.rmdir(path)
    else:
        unpin(path)


def _remove_everywhere(path: str) -> None:
    """The OCI runtime makes groups in hierarchies where podd itself has none."""
    for mount in _hierarchies():
        rmtree(f"{mount}/{path}")


def _hierarchies() -> Iterator[str]:
    """Where each cgroup hierarchy is mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            if rest.startswith(("cgroup ", "cgroup2 ")):
                yield re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields.split()[4])


def _names(directory: str) -> list[str]:
    with suppress(FileNotFoundError):
        return os.listdir(directory)
    return []
