"""GET a URL from inside a pod's network, as the kubelet's prober does."""

from __future__ import annotations

import ssl
from functools import cache, lru_cache
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

import podd
from podd.engine.handlers.answer import Answer
from podd.engine.handlers.dial import OWN, dial, join
from podd.engine.handlers.place import Failed, Place
from podd.model.pod import HTTPGetAction

USER_AGENT = f"kube-probe/podd-{podd.__version__}"
MAX_REDIRECTS = 10
MANY = 1024  # actions that are asked for again and again, each of them worked out once

_OURS = (b"host", b"connection", b"content-length", b"transfer-encoding", b"trailer")
"""Headers that a manifest does not set by giving them, but for Host, which is read from there."""

Headers = list[tuple[bytes, bytes]]


class Url(NamedTuple):
    """host "": the pod itself. target: path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        return join(self.host or OWN[0], self.port)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


async def get(place: Place, action: HTTPGetAction) -> Answer:
    """Redirects are followed as long as they stay on the same host. Raises Failed: no answer that makes sense."""
    first = url = url_of(place, action)
    for _ in range(MAX_REDIRECTS):
        try:
            answer = await _exchange(place, url, _request(url, action))
        except Failed as exc:
            raise Failed(f'Get "{first}": {exc}') from exc
        following = _follow(url, answer)
        if following is None:
            return answer
        url = following
    raise Failed(f'Get "{url}": stopped after {MAX_REDIRECTS} redirects')


def url_of(place: Place, action: HTTPGetAction) -> Url:
    return _url(action, place.port(action.port))


@lru_cache(maxsize=MANY)
def _url(action: HTTPGetAction, port: int) -> Url:
    scheme = "https" if action.scheme == "HTTPS" else "http"
    path, _, _ = action.path.partition("#")
    return Url(scheme, action.host.strip("[]"), port, _target(path))


def _target(path: str) -> str:
    return quote(path if path.startswith("/") else f"/{path}", safe="/%?=&:;@!$'()*+,~-._[]")


def _follow(url: Url, answer: Answer) -> Url | None:
    """None: this is the last one. Another host is not podd's to probe; the caller sees the redirect then."""
    if not answer.redirects:
        return None
    try:
        parts = urlsplit(urljoin(str(url), answer.location))
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as exc:
        raise Failed(f'Get "{url}": failed to parse Location header "{answer.location}": {exc}') from exc
    if parts.scheme not in ("http", "https") or parts.hostname != (url.host or OWN[0]).lower():
        return None
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return Url(parts.scheme, url.host, port, _target(target))


def _headers(action: HTTPGetAction) -> Headers:
    """Host first, where the manifest gives one. A header that is given without a value is not sent."""
    given = [(header.name.lower().encode(), header.value.strip().encode()) for header in action.http_headers]
    defaults = {b"user-agent": USER_AGENT.encode(), b"accept": b"*/*"}
    names = {name for name, _ in given}
    hosts = [(name, value) for name, value in given if name == b"host" and value]
    sent = [(name, value) for name, value in given if name not in _OURS and (value or name not in defaults)]
    return [*hosts[:1], *((name, value) for name, value in defaults.items() if name not in names), *sent]


# ---- one request -----------------------------------------------------------------------------------------------------


async def _exchange(place: Place, url: Url, request: bytes) -> Answer:
    stream: ByteStream = await dial(place, url.host, url.port)
    try:
        if url.scheme == "https":
            stream = await _secured(stream)
        return await _ask(stream, request)
    except ssl.SSLError as exc:
        if exc.reason == "WRONG_VERSION_NUMBER":
            raise Failed("http: server gave HTTP response to HTTPS client") from exc
        raise Failed(f"tls: {(exc.reason or str(exc)).lower().replace('_', ' ')}") from exc
    except (anyio.BrokenResourceError, anyio.EndOfStream) as exc:
        raise Failed("EOF") from exc
    finally:
        await _close(stream)


async def _close(stream: ByteStream) -> None:
    """At once, so that nobody can cancel it: the far end is not asked to agree."""
    while isinstance(stream, TLSStream):
        stream = stream.transport_stream  # type: ignore[assignment]
    await stream.aclose()


async def _secured(stream: ByteStream) -> ByteStream:
    return await TLSStream.wrap(stream, server_side=False, ssl_context=_unverified(), standard_compatible=False)


@cache
def _unverified() -> ssl.SSLContext:
    """A probe asks whether somebody answers, not who: the kubelet does not verify either."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@lru_cache(maxsize=MANY)
def _request(url: Url, action: HTTPGetAction) -> bytes:
    headers = _headers(action)
    host = [] if headers and headers[0][0] == b"host" else [(b"host", url.authority.encode())]
    lines = [b"%s: %s" % header for header in (*host, *headers, (b"connection", b"close"))]
    return b"\r\n".join([f"GET {url.target} HTTP/1.1".encode(), *lines, b"", b""])


async def _ask(stream: ByteStream, request: bytes) -> Answer:
    answer = Answer()
    await stream.send(request)
    while not answer.whole:
        try:
            data = await stream.receive()
        except anyio.EndOfStream:
            answer.hang_up()
        else:
            answer.feed(data)
    return answer
