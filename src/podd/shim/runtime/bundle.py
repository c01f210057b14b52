"""What a runtime is given: a directory with config.json, and mounts that are in sight of the runtime alone.

The root file system and the volumes are detached mounts, made and restricted as without a runtime (`shim.rootfs`). They
are attached in a mount namespace that the runtime alone is started in and that ends with it. So the host's mount table
shows nothing of containers, and nothing stays mounted when somebody is killed half-way.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from podd.errors import Invalid
from podd.linux import mounts
from podd.linux.inroot import Root
from podd.linux.syscalls import CloneFlag, MountFlag, mount, move_mount, unshare
from podd.shim import credentials, rootfs, stage
from podd.shim.credentials import Identity
from podd.shim.failure import doing
from podd.shim.files import write_json
from podd.shim.plan import ContainerPlan, SandboxPlan
from podd.shim.rootfs import Source, apart
from podd.shim.runtime import config
from podd.shim.runtime.config import Bind, Given, User

CONFIG, PID, LOG, CONSOLE = "config.json", "pid", "log.json", "console.sock"
_MOUNTS = "mounts"
_OPTIONS = {os.ST_RDONLY: "ro", os.ST_NOSUID: "nosuid", os.ST_NODEV: "nodev", os.ST_NOEXEC: "noexec"}
_ROOT = f"{_MOUNTS}/root"
_VOLUME = "volume"


class Bundle(NamedTuple):
    """Its files by name; `process` and others of execs lie beside them."""

    directory: str

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def pid(self, name: str = PID) -> int:
        """What the runtime has written there."""
        with open(self.path(name), encoding="ascii") as file:
            return int(file.read())


class Laid(NamedTuple):
    """Who the container is, and what the host did not allow."""

    identity: Identity
    notes: list[str]


@contextmanager
def laid_out(bundle: Bundle, sandbox: SandboxPlan, plan: ContainerPlan, pid_namespace: str) -> Iterator[Laid]:
    """Write the bundle; in the block, whoever is started sees its mounts.

    pid_namespace: the path of the one to share with another container; "" for one as the sandbox has it. Descriptors
    are left open: see `rootfs.tidy`. Raises a podd.errors kind.
    """
    notes: list[str] = []
    os.makedirs(bundle.path(_ROOT), 0o700, exist_ok=True)  # which runc wants to be there at an exec, too
    parts = rootfs.parts(sandbox, plan)
    root = Root(parts.root)
    identity, held = credentials.resolve_identity(root, plan), credentials.held(plan, notes)
    user = User(identity, held, config.oom_score_adj(plan, notes))
    environment = stage.environment(plan, {}, identity.home, tty=plan["tty"])
    volumes = _image_volumes(root, plan)
    binds = [*_volume_binds(bundle, parts.root, volumes), *_binds(bundle, plan, parts.sources)]
    given = Given(bundle.path(_ROOT), binds, user, environment, pid_namespace)
    write_json(bundle.path(CONFIG), config.container(sandbox, plan, given))
    with apart(), doing("mounts of the bundle"):
        _attach(bundle, parts, volumes)
        yield Laid(identity, notes)


def _image_volumes(root: Root, plan: ContainerPlan) -> list[str]:
    """Make the directories; those are given that need a mount of their own, as the root's cannot be written through."""
    for path in plan["image_volumes"]:
        with doing(f"volume {path} of the image", Invalid):
            root.directory(path)
    return plan["image_volumes"] if plan["read_only_rootfs"] else []


def _volume_binds(bundle: Bundle, root: int, volumes: Sequence[str]) -> list[Bind]:
    options = _options(root)
    return [
        Bind(bundle.path(f"{_MOUNTS}/{_VOLUME}{number}"), path, stat.S_IFDIR, options=options)
        for number, path in enumerate(volumes)
    ]


def _binds(bundle: Bundle, plan: ContainerPlan, sources: Sequence[Source]) -> list[Bind]:
    propagations = {volume["container_path"]: volume["propagation"] for volume in plan["mounts"]}
    binds = []
    for number, source in enumerate(sources):
        status = os.fstat(source.mount)
        propagation = propagations.get(source.path, "private")
        path = bundle.path(f"{_MOUNTS}/{number}")
        options = _options(source.mount)
        binds.append(Bind(path, source.path, status.st_mode, status.st_rdev, propagation, options))
    return binds


def _options(mount: int) -> list[str]:
    flags = os.fstatvfs(mount).f_flag
    return [option for flag, option in _OPTIONS.items() if flags & flag]


def _attach(bundle: Bundle, parts: rootfs.Parts, volumes: Sequence[str]) -> None:
    """Attach everything below <bundle>/mounts, in a mount namespace that nobody else is in."""
    unshare(CloneFlag.MNT)
    mount("none", "/", None, MountFlag.REC | MountFlag.PRIVATE)
    place = os.open(bundle.path(_MOUNTS), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    table = mounts.tmpfs(0o700, 64 * 1024, mounts.NO_EXEC)
    move_mount(table, place)
    everything = {"root": parts.root, **{str(number): source.mount for number, source in enumerate(parts.sources)}}
    for name, one in everything.items():
        move_mount(one, _target(table, name, directory=stat.S_ISDIR(os.fstat(one).st_mode)))
    for number, path in enumerate(volumes):  # only now: not every kernel copies a mount that is attached nowhere
        part = mounts.bind_fd(Root(parts.root).directory(path))
        move_mount(part, _target(table, f"{_VOLUME}{number}", directory=True))


def _target(table: int, name: str, *, directory: bool) -> int:
    if directory:
        os.mkdir(name, 0o700, dir_fd=table)
    else:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=table))
    return os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=table)
