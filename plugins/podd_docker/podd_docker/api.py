"""dockerd's API by way of aiodocker: the only module that knows HTTP, aiohttp and asyncio.

Of aiodocker it takes the session on the Unix socket, versioned requests and their errors. It leaves aiodocker's objects
alone: those start tasks that nobody ends, decode logs as text, give local times without a zone, queue without bound.
Attaching takes over the connection and needs to close one half of it, which aiohttp has no way to do; that request is
written to the socket directly.

aiodocker takes a quarter of a second to import and some 20 MB to have: a host without dockerd is spared both.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import anyio
import anyio.lowlevel
import anyio.to_thread

from podd.errors import Conflict, Invalid, NotFound, PoddError, Unavailable, Unsupported

if TYPE_CHECKING:
    import aiodocker
    import aiohttp

OLDEST = (1, 41)  # Docker 20.10: cgroup namespaces of containers
NEWEST = (1, 51)  # what this driver was written against; a newer dockerd speaks it too

KEPT_S = 0.5

_KINDS: dict[int, type[PoddError]] = {400: Invalid, 404: NotFound, 409: Conflict}
_CONNECTION_LOST = 900
"""What aiodocker gives as status where there was no answer at all."""


class Api:
    """Methods raise NotFound, Conflict, Invalid: dockerd says so; Unavailable: it does not answer, or fails."""

    def __init__(self, name: str, socket: str, deadline_s: float) -> None:
        self._name = name
        self._socket = socket
        self._deadline_s = deadline_s
        self._docker: aiodocker.Docker | None = None
        self._version = ""
        self._cgroup_driver = ""
        self.version = OLDEST
        self._negotiating = anyio.Lock()
        self._opening = anyio.Lock()

    async def _session(self) -> aiodocker.Docker:
        """Made when it is first needed. Raises Unavailable: there is no socket."""
        if self._docker is None:
            async with self._opening:
                if self._docker is None:
                    await anyio.to_thread.run_sync(self._check_socket)
                    self._docker = await self._open()
        return self._docker

    def _check_socket(self) -> None:
        if not os.path.exists(self._socket):
            raise self._away("no such file")
        import aiodocker  # noqa: PLC0415, F401  in a thread, so that the loop does not wait for it

    async def _open(self) -> aiodocker.Docker:
        import aiodocker  # noqa: PLC0415  see the module's text
        import aiohttp  # noqa: PLC0415

        # No limit: each log that is followed holds one. Idle ones are kept for what follows at once, no longer.
        connector = aiohttp.UnixConnector(self._socket, limit=0, keepalive_timeout=KEPT_S)
        session = aiohttp.ClientSession(connector=connector, connector_owner=True)
        return aiodocker.Docker(url="unix://localhost", connector=connector, session=session)

    async def close(self) -> None:
        if self._docker is None:
            return
        await self._docker.session.close()
        await self._docker.close()
        self._docker = None
        for _ in range(2):
            await anyio.lowlevel.checkpoint()  # asyncio closes sockets one turn later

    # ---- version

    async def negotiate(self) -> dict[str, Any]:
        """What dockerd says of itself. Raises Unsupported: no version of the API is known to both."""
        found: dict[str, Any] = await self._json("GET", "version", versioned=False)
        newest, oldest = _version(found.get("ApiVersion", "0.0")), _version(found.get("MinAPIVersion", "0.0"))
        if newest < OLDEST or oldest > NEWEST:
            raise Unsupported(
                f"drivers.{self._name}: dockerd {found.get('Version')} has API versions {_dotted(oldest)} to "
                f"{_dotted(newest)}; this driver knows {_dotted(OLDEST)} to {_dotted(NEWEST)}",
                remedy="use Docker 20.10 or later" if newest < OLDEST else "use a newer podd",
            )
        self.version = min(newest, NEWEST)
        self._version = f"v{_dotted(self.version)}"
        return found

    async def _know_version(self) -> None:
        if not self._version:
            async with self._negotiating:
                if not self._version:
                    await self.negotiate()

    def forget_version(self) -> None:
        """The next dockerd may be another one."""
        self._version = self._cgroup_driver = ""

    async def cgroup_driver(self) -> str:
        """How dockerd has cgroups made: "cgroupfs" or "systemd". It needs another start for another."""
        if not self._cgroup_driver:
            self._cgroup_driver = str((await self.get("info")).get("CgroupDriver") or "none")
        return self._cgroup_driver

    # ---- requests

    async def get(self, path: str, **params: str) -> Any:
        return await self._json("GET", path, params)

    async def post(self, path: str, body: object = None, **params: str) -> Any:
        return await self._json("POST", path, params, body)

    async def delete(self, path: str, **params: str) -> Any:
        return await self._json("DELETE", path, params)

    async def stat(self, container: str, path: str) -> dict[str, Any]:
        """Of a path inside a container, links on the way followed, the last part not. Raises NotFound."""
        where = f"containers/{container}/archive"
        with self._deadline(where):
            try:
                async with self._response("HEAD", where, {"path": path}) as response:
                    told = response.headers["X-Docker-Container-Path-Stat"]
            except ValueError as exc:  # aiodocker looks for the error's text in a body that HEAD does not have
                raise NotFound(f"{path}: no such file or directory") from exc
        found: dict[str, Any] = json.loads(base64.b64decode(told))
        return found

    async def _json(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: object = None,
        *,
        versioned: bool = True,
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with self._deadline(path):
            async with self._response(method, path, params, data, versioned=versioned) as response:
                text = await response.read()
        return json.loads(text) if text else None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        data: bytes | AsyncIterator[bytes] | None = None,
        *,
        deadline_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body as it comes; read no faster than it is asked for. Only the answer's beginning has a deadline."""
        async with AsyncExitStack() as stack:
            with self._deadline(path, deadline_s):
                response = await stack.enter_async_context(self._response(method, path, params, data, headers=headers))
            yield self._chunks(response)

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        import aiohttp  # noqa: PLC0415

        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except aiohttp.ClientError as exc:
            raise self._away(str(exc)) from exc

    async def events(self, filters: Mapping[str, list[str]]) -> AsyncGenerator[dict[str, Any] | None, None]:
        """First None, once dockerd tells; then each event, until dockerd is gone."""
        async with self.stream("GET", "events", {"filters": json.dumps(filters)}) as chunks:
            yield None
            async for line in lines(chunks):
                yield json.loads(line)

    # ---- a connection of one's own

    async def hijack(self, path: str, **params: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Post, and have the connection from there on. The caller closes the writer."""
        await self._know_version()
        with self._deadline(path):
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket)
            except OSError as exc:
                raise self._away(exc.strerror or str(exc)) from exc
            try:
                writer.write(
                    f"POST /{self._version}/{path}?{urlencode(params)} HTTP/1.1\r\nHost: docker\r\n"
                    "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
                )
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status = int(head.split(" ", 2)[1])
                if status not in (101, 200):
                    text = await reader.read(65536)
                    raise self._refused(status, _message(text))
            except BaseException as exc:
                writer.close()
                if isinstance(exc, (OSError, asyncio.IncompleteReadError)):
                    raise self._away(str(exc)) from exc
                raise
            return reader, writer

    # ---- how

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        *,
        versioned: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if versioned:
            await self._know_version()
        docker = await self._session()
        import aiodocker  # noqa: PLC0415
        import aiohttp  # noqa: PLC0415

        if versioned:
            docker.api_version = self._version
        try:
            response = await docker._do_query(  # noqa: SLF001  its objects hide what is needed; see above
                quote(path),
                method,
                params=dict(params or {}),
                data=data,
                headers=headers,
                timeout=None,
                versioned_api=versioned,
            )
        except aiodocker.DockerError as exc:
            raise self._refused(exc.status, exc.message) from exc
        except aiohttp.ClientError as exc:
            raise self._away(str(exc)) from exc
        try:
            yield response
        except aiohttp.ClientError as exc:
            raise self._away(str(exc)) from exc
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    @contextmanager
    def _deadline(self, path: str, seconds: float | None = None) -> Iterator[None]:
        seconds = seconds or self._deadline_s
        try:
            with anyio.fail_after(seconds):
                yield
        except TimeoutError as exc:
            raise self._late(path, seconds) from exc

    def _late(self, path: str, seconds: float) -> PoddError:
        return Unavailable(
            f"drivers.{self._name}: dockerd did not answer {path} within {seconds:g} s",
            remedy="look at dockerd's log; it may hang on a disk or a plugin",
            socket=self._socket,
        )

    def _refused(self, status: int, message: str) -> PoddError:
        if status == _CONNECTION_LOST:
            return self._away(message)
        return _KINDS.get(status, Unavailable)(f"docker: {message.strip()}", status=status)

    def _away(self, why: str) -> PoddError:
        return Unavailable(
            f"drivers.{self._name}: cannot reach dockerd at {self._socket}: {why}",
            remedy="start docker.service, or set drivers.docker.socket in podd.toml",
            socket=self._socket,
        )


async def lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Those that are not empty."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _message(body: bytes) -> str:
    """Of a refusal that was read with its head's rest."""
    text = body.decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text
