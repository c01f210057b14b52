"""Images of dockerd's: podd's own holder, those that pods name, and what is in them."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from podd.driver.contract import ContainerConfig
from podd.errors import Invalid, NotFound, PoddError, Unavailable, Unsupported
from podd_docker import holder, plans
from podd_docker.api import Api, lines
from podd_docker.flights import Flights

log = structlog.get_logger(__name__)

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIRECTORY, _SYMLINK, _EXECUTABLE = 1 << 31, 1 << 27, 0o111  # Go's os.FileMode
_KNOWN_MOST = 4096


class Images:
    def __init__(self, api: Api, pull_deadline_s: float, tasks: TaskGroup) -> None:
        self._api = api
        self._asked = Flights(tasks)
        self._pull_deadline_s = pull_deadline_s
        self._executable: dict[tuple[str, str], None] = {}

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
        """What dockerd knows of the image, pulled where its policy asks for that.

        Raises Unavailable: it cannot be pulled; Invalid: its name is none, or it may not be pulled.
        """
        if container.pull == "Always":
            await self._pull(container)
        try:  # once for all members that want to know it now
            key = ("inspect", container.image)
            return await self._asked.join("images", key, lambda: self._inspect(container.image))
        except NotFound as exc:
            if container.pull == "Never":
                raise Invalid(
                    f"container {container.name}: image {container.image!r} is not present with pull policy of Never",
                    remedy="load it: docker load, or let it be pulled",
                    reason="ErrImageNeverPull",
                ) from exc
            await self._pull(container)
            return await self._inspect(container.image)

    async def _inspect(self, reference: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self._api.get(f"images/{reference}/json")
        return found

    async def _pull(self, container: ContainerConfig) -> None:
        """One pull for all that want the image, which goes on for the next attempt where nobody can wait any longer."""
        image = container.image
        try:
            await self._asked.join("images", ("pull", image), lambda: self._pull_now(image))
        except PoddError as exc:
            kind = Invalid if isinstance(exc, Invalid) else Unavailable
            raise kind(
                f"container {container.name}: failed to pull image {image!r}: {exc.message}",
                remedy="check the name of the image, the registry and the network; or load it: docker load",
                reason="ErrImagePull",
                image=image,
            ) from exc

    async def _pull_now(self, image: str) -> None:
        last = image.rpartition("/")[2]
        how = {"fromImage": image} if ":" in last or "@" in last else {"fromImage": image, "tag": "latest"}
        log.info("image.pulling", image=image)
        limit_s = self._pull_deadline_s
        with anyio.move_on_after(limit_s):
            async with self._api.stream("POST", "images/create", how, deadline_s=limit_s) as chunks:
                await _expect_success(lines(chunks), image)
            log.info("image.pulled", image=image)
            return
        raise Unavailable(f"docker: it took longer than {limit_s:g} s")

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
                self._remember(key)
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

    def _remember(self, key: tuple[str, str]) -> None:
        if len(self._executable) >= _KNOWN_MOST:
            self._executable.clear()
        self._executable[key] = None


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
