"""What containers need to know of dockerd's images: podd's own holder, those that pods name, and what is in them."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import structlog
from anyio.abc import TaskGroup

from podd.driver.contract import ContainerConfig
from podd.errors import Invalid, NotFound, Unavailable, Unsupported
from podd_docker import holder, plans
from podd_docker.api import Api, lines
from podd_docker.flights import Flights

log = structlog.get_logger(__name__)

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIRECTORY, _SYMLINK, _EXECUTABLE = 1 << 31, 1 << 27, 0o111  # Go's os.FileMode
_KNOWN_MOST = 1024

K = TypeVar("K")
V = TypeVar("V")


class Images:
    def __init__(self, api: Api, tasks: TaskGroup) -> None:
        self._api = api
        self._asked = Flights(tasks)
        self._executable: dict[tuple[str, str], None] = {}
        self._known: dict[str, Mapping[str, Any]] = {}

    # ---- podd's own

    async def import_holder(self) -> None:
        """Have the image of the holder. Raises Unsupported: podd has no init for this machine."""
        machine = os.uname().machine
        if machine not in holder.MACHINES:
            raise Unsupported(f"docker: no holder for {machine}: there is one for {', '.join(holder.MACHINES)}")
        repository, _, tag = holder.IMAGE.partition(":")
        how = {"fromSrc": "-", "repo": repository, "tag": tag, "message": "the holder of a pod's namespaces"}
        async with self._api.stream("POST", "images/create", how, holder.image(machine)) as chunks:
            await _expect_success(lines(chunks), holder.IMAGE)

    # ---- those of pods

    async def of(self, container: ContainerConfig) -> Mapping[str, Any]:
        """What dockerd knows of the image, asked once for all members that want to know it now.

        Of an id it is asked once: what has another configuration has another id. Raises as `gone`.
        """
        image = container.image_id or container.image
        if image in self._known:
            return self._known[image]
        try:
            return await self._asked.join("images", ("inspect", image), lambda: self._inspect(image))
        except NotFound as exc:
            raise self.gone(container) from exc

    async def _inspect(self, reference: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self._api.get(f"images/{reference}/json")
        if reference == found["Id"]:
            _remember(self._known, reference, {"Id": found["Id"], "Config": found["Config"]})
        return found

    def gone(self, container: ContainerConfig) -> Unavailable:
        """Though it was here before anything of the pod was made."""
        self._known.pop(container.image_id or container.image, None)
        return Unavailable(
            f"container {container.name}: image {container.image!r} is not here",
            remedy="load it: podd-cli image import; or let it be pulled",
            image=container.image,
        )

    # ---- what is in them

    async def check_command(self, container: ContainerConfig, image: Mapping[str, Any], docker_id: str) -> None:
        """dockerd finds out what it cannot execute when it starts it, which is too late for the others.

        docker_id: of the container, made and not started. Raises Invalid: no such program, or not to be executed.
        """
        word = plans.argv0(container, image["Config"] or {})
        candidates = _candidates(word, container, image["Config"] or {})
        known = [(image["Id"], path) for path in candidates if not _is_mounted(path, container)]
        if any(key in self._executable for key in known):
            return
        why = "no such file or directory" if "/" in word else "not found in $PATH"
        for path in candidates:
            found = await self._program(docker_id, path)
            if found is None:
                continue
            if found:
                why = found
                continue
            if (key := (image["Id"], path)) in known:
                _remember(self._executable, key, None)
            return
        raise Invalid(
            f"container {container.name}: cannot execute {word}: {why}",
            remedy="check command, args and the image",
            field="command",
        )

    async def _program(self, docker_id: str, path: str) -> str | None:
        """ "" where it can be executed, else why not; None: it is not there."""
        try:
            found = await self._api.stat(docker_id, path)
            if found["mode"] & _SYMLINK:
                found = await self._api.stat(docker_id, found["linkTarget"])
        except NotFound:
            return None
        if found["mode"] & _DIRECTORY:
            return "is a directory"
        return "" if found["mode"] & _EXECUTABLE else "permission denied"


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    if len(memory) >= _KNOWN_MOST:
        memory.clear()
    memory[key] = value


def _candidates(word: str, container: ContainerConfig, image: Mapping[str, Any]) -> Sequence[str]:
    """Absolute paths at which the program may be."""
    if "/" in word:
        base = container.working_dir or image.get("WorkingDir") or "/"
        return [posixpath.join(base, word)]
    environment = dict(pair.partition("=")[::2] for pair in image.get("Env") or ())
    environment |= dict(container.env)
    folders = environment.get("PATH", DEFAULT_PATH).split(":")
    return [posixpath.join(folder or "/", word) for folder in folders]


def _is_mounted(path: str, container: ContainerConfig) -> bool:
    """Whether it may lie in a mount, or lead there: then what was found once says nothing."""
    return any(posixpath.normpath(path).startswith(mount.container_path.rstrip("/")) for mount in container.mounts)


async def _expect_success(told: Any, image: str) -> None:
    """dockerd answers 200 and tells of errors in what follows."""
    async for line in told:
        progress = json.loads(line)
        if "error" in progress:
            raise Unavailable(f"docker: {progress['error']}", image=image)
