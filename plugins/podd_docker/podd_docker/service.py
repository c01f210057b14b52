"""dockerd's images, as podd shows and has them: see podd.driver.contract.ImageService."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import anyio

from podd.driver.contract import Credentials, Image, PullProgress
from podd.errors import Conflict, Denied, Invalid, NotFound, PoddError, Unavailable, Unsupported
from podd.images import credentials
from podd.images.failures import explained
from podd.model.image import DOCKER_HUB, ById, InFile, InStore, Named, Reference, parse_bare
from podd_docker import times
from podd_docker.api import Api, lines
from podd_docker.progress import Layers

Progress = Callable[[PullProgress], None]

BLOCK_BYTES = 1 << 20
LOADED, LOADED_ID = "Loaded image: ", "Loaded image ID: "


class DockerImages:
    def __init__(self, api: Api, socket: str, pull_deadline_s: float) -> None:
        self.name = f"docker:{socket}"
        self._api = api
        self._pull_deadline_s = pull_deadline_s

    # ---- what is here

    async def find(self, reference: str) -> Image | None:
        try:
            return _inspected(await self._api.get(f"images/{_called(parse_bare(reference))}/json"))
        except NotFound:
            return None

    async def list(self) -> Sequence[Image]:
        return [_listed(one) for one in await self._api.get("images/json")]

    async def usage_bytes(self) -> int:
        found: Mapping[str, Any] = await self._api.get("system/df")
        return int(found.get("LayersSize") or 0)

    # ---- bringing

    async def pull(self, reference: str, credentials: Sequence[Credentials], progress: Progress) -> Image:
        asked = parse_bare(reference)
        if isinstance(asked, Named):
            await self._pull(_in_registry(asked), credentials, progress)
        found = await self.find(reference)
        if found is None:
            raise NotFound(f"image {reference}: it is not here", remedy="podd-cli image list shows what is")
        return found

    async def _pull(self, named: Named, given: Sequence[Credentials], progress: Progress) -> None:
        """dockerd gives up what it fetches when nobody waits for it any more."""
        tries = list(credentials.attempts(named, given))
        for number, auth in enumerate(tries, 1):
            try:
                with anyio.fail_after(self._pull_deadline_s):
                    await self._pull_as(named, auth, progress)
                break
            except Denied:
                if number == len(tries):
                    raise
            except TimeoutError as exc:
                raise Unavailable(
                    f"image {named}: not here within {self._pull_deadline_s:g} s",
                    remedy="raise drivers.docker.pull_deadline_s",
                ) from exc

    async def _pull_as(self, named: Named, auth: Mapping[str, Any] | None, progress: Progress) -> None:
        how = {"fromImage": named.repository, "tag": named.digest or named.tag}
        headers = {"X-Registry-Auth": _header(named, auth)} if auth else {}
        limit_s = self._pull_deadline_s
        try:
            async with self._api.stream("POST", "images/create", how, deadline_s=limit_s, headers=headers) as chunks:
                layers = Layers()
                await _follow(lines(chunks), lambda news: progress(layers.take(news)))
        except _Failed as exc:
            raise explained(str(named), str(exc)) from exc
        except PoddError as exc:
            if "status" not in exc.facts:  # it is dockerd that does not answer, and no registry
                raise
            raise explained(str(named), exc.message.removeprefix("docker: ")) from exc

    async def load(self, source: str, name: str, progress: Progress) -> Sequence[Image]:
        path = source.removeprefix("docker-archive:")
        if not path.startswith("/") or await anyio.to_thread.run_sync(os.path.isdir, path):
            raise Unsupported(
                f"{source}: dockerd takes archives as docker save makes them, and nothing else",
                remedy=f"skopeo copy {source} docker-daemon:NAME:TAG",
            )
        try:
            async with await anyio.open_file(path, "rb") as file:
                told = await self._load(file)
        except FileNotFoundError as exc:
            raise NotFound(f"{path}: no such file") from exc
        except OSError as exc:
            raise Unavailable(f"{path}: {exc.strerror}") from exc
        except _Failed as exc:
            raise Invalid(f"{source}: {exc}") from exc
        loaded = [
            text.removeprefix(LOADED_ID).removeprefix(LOADED).strip() for text in told if text.startswith("Loaded")
        ]
        if name:
            loaded = [await self._tagged(source, loaded, name)]
        progress(PullProgress(message="loaded"))
        return [found for one in loaded if (found := await self.find(one)) is not None]

    async def _load(self, file: anyio.AsyncFile[bytes]) -> Sequence[str]:
        """What dockerd says."""
        said: list[str] = []
        how: dict[str, Any] = {"deadline_s": self._pull_deadline_s, "headers": {"Content-Type": "application/x-tar"}}
        async with self._api.stream("POST", "images/load", {"quiet": "1"}, _blocks(file), **how) as chunks:
            await _follow(lines(chunks), lambda news: said.append(str(news.get("status") or news.get("stream") or "")))
        return said

    async def _tagged(self, source: str, loaded: Sequence[str], name: str) -> str:
        named = parse_bare(name)
        if not isinstance(named, Named) or named.digest:
            raise Invalid(f"{name}: is no name for an image", remedy="as in registry.example/team/app:1.2")
        if len(set(loaded)) != 1:
            raise Invalid(f"{source}: holds {len(loaded)} images: they cannot have one name", remedy="give no name")
        await self._api.post(f"images/{loaded[0]}/tag", repo=named.repository, tag=named.tag)
        return str(named)

    # ---- taking away

    async def remove(self, reference: str) -> Sequence[str]:
        found = await self.find(reference)
        if found is None:
            raise NotFound(f"image {reference}: it is not here")
        by_id = isinstance(parse_bare(reference), ById)
        names = [*found.names, *found.digests] if by_id else [_called(parse_bare(reference))]
        gone: list[str] = []
        for name in names or [found.id]:
            if not by_id or await self.find(name) is not None:
                gone += await self._remove(name)
        taken = {*gone}
        return [_full(one) for one in dict.fromkeys(gone) if not one.startswith("sha256:")] + (
            [found.id] if found.id in taken else []
        )

    async def _remove(self, name: str) -> Sequence[str]:
        """dockerd carries it to its end, whoever still waits: so whoever asks again finds it done, not half done."""
        try:
            with anyio.CancelScope(shield=True):
                told = await self._api.delete(f"images/{name}")
        except Conflict as exc:
            raise Conflict(f"image {name}: {exc.message.removeprefix('docker: ')}", remedy="docker ps -a") from exc
        return [text for one in told or () for text in one.values()]


class _Failed(Exception):
    """dockerd began well, and then told of an error."""


async def _follow(told: AsyncIterator[bytes], take: Callable[[Mapping[str, Any]], None]) -> None:
    """dockerd answers 200, and tells of errors in what follows. Raises _Failed."""
    async for line in told:
        news = json.loads(line)
        if "error" in news:
            raise _Failed(news["error"])
        take(news)


async def _blocks(file: anyio.AsyncFile[bytes]) -> AsyncIterator[bytes]:
    while block := await file.read(BLOCK_BYTES):
        yield block


# ---- names -----------------------------------------------------------------------------------------------------------


def _called(reference: Reference) -> str:
    """As dockerd calls it. Raises Invalid: it is none of dockerd's."""
    match reference:
        case Named() | ById():
            return str(reference)
        case InStore(transport="docker-daemon", inner=inner):
            return str(inner)
        case InFile() | InStore():
            raise Invalid(
                f"image {reference}: dockerd runs its own images",
                remedy="podd-cli image import takes archives in",
                reason="InvalidImageName",
            )


def _in_registry(named: Named) -> Named:
    """dockerd knows one registry by itself."""
    return named if named.domain else named.at(DOCKER_HUB)


def _full(name: str) -> str:
    reference = parse_bare(name)
    return str(_in_registry(reference)) if isinstance(reference, Named) else name


def _names(told: Sequence[str] | None) -> list[str]:
    return [_full(name) for name in told or () if "<none>" not in name]


def _inspected(told: Mapping[str, Any]) -> Image:
    config = told.get("Config") or {}
    return Image(
        id=told["Id"],
        names=_names(told.get("RepoTags")),
        digests=_names(told.get("RepoDigests")),
        size_bytes=int(told.get("Size") or 0),
        created_at_ns=times.known(told.get("Created") or ""),
        user=str(config.get("User") or ""),
        labels=config.get("Labels") or {},
    )


def _listed(told: Mapping[str, Any]) -> Image:
    return Image(
        id=told["Id"],
        names=_names(told.get("RepoTags")),
        digests=_names(told.get("RepoDigests")),
        size_bytes=int(told.get("Size") or 0),
        created_at_ns=int(told.get("Created") or 0) * 1_000_000_000 or None,
        labels=told.get("Labels") or {},
    )


def _header(named: Named, auth: Mapping[str, Any]) -> str:
    """As dockerd takes credentials: with each pull, and forgotten after it."""
    entry = auth["auths"].get(named.domain) or {}
    try:
        user, _, password = base64.b64decode(entry.get("auth") or "").decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise Invalid(f"image {named}: the credentials for {named.domain} cannot be read") from exc
    given = {"username": user, "password": password, "serveraddress": named.domain}
    if entry.get("identitytoken"):
        given["identitytoken"] = str(entry["identitytoken"])
    return base64.urlsafe_b64encode(json.dumps(given).encode()).decode()
