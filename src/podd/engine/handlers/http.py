"""GET a URL from inside a pod's network, as the kubelet's prober does."""

from __future__ import annotations

import ssl
from functools import cache, lru_cache
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import anyio
import h11
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

import podd
from podd.engine.handlers.dial import OWN, dial, join
from podd.engine.handlers.place import Failed, Place
from podd.model.pod import HTTPGetAction

USER_AGENT = f"kube-probe/podd-{podd.__version__}"
MAX_BODY = 10 * 1024
MAX_HEAD = 64 * 1024
MAX_REDIRECTS = 10
MAX_STEPS = 10_000  # of a body in many small pieces

_REDIRECTS = (301, 302, 303, 307, 308)
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


class Response(NamedTuple):
    status: int
    body: str
    location: str = ""

    @property
    def redirects(self) -> bool:
        return self.status in _REDIRECTS and bool(self.location)


async def get(place: Place, action: HTTPGetAction) -> Response:
    """Redirects are followed as long as they stay on the same host. Raises Failed: no answer that makes sense."""
    first = url = url_of(place, action)
    for _ in range(MAX_REDIRECTS):
        try:
            response = await _exchange(place, url, action)
        except Failed as exc:
            raise Failed(f'Get "{first}": {exc}') from exc
        following = _follow(url, response)
        if following is None:
            return response
        url = following
    raise Failed(f'Get "{url}": stopped after {MAX_REDIRECTS} redirects')


def url_of(place: Place, action: HTTPGetAction) -> Url:
    scheme = "https" if action.scheme == "HTTPS" else "http"
    path, _, _ = action.path.partition("#")
    return Url(scheme, action.host.strip("[]"), place.port(action.port), _target(path))


def _target(path: str) -> str:
    return quote(path if path.startswith("/") else f"/{path}", safe="/%?=&:;@!$'()*+,~-._[]")


def _follow(url: Url, response: Response) -> Url | None:
    """None: this is the last one. Another host is not podd's to probe; the caller sees the redirect then."""
    if not response.redirects:
        return None
    try:
        parts = urlsplit(urljoin(str(url), response.location))
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as exc:
        raise Failed(f'Get "{url}": failed to parse Location header "{response.location}": {exc}') from exc
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


async def _exchange(place: Place, url: Url, action: HTTPGetAction) -> Response:
    stream: ByteStream = await dial(place, url.host, url.port)
    try:
        if url.scheme == "https":
            stream = await _secured(stream)
        return await _ask(stream, _request(url, action))
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


@lru_cache(maxsize=1024)  # most are the same again and again
def _request(url: Url, action: HTTPGetAction) -> h11.Request:
    headers = _headers(action)
    host = [] if headers and headers[0][0] == b"host" else [(b"host", url.authority.encode())]
    return h11.Request(method="GET", target=url.target, headers=[*host, *headers, (b"connection", b"close")])


async def _ask(stream: ByteStream, request: h11.Request) -> Response:
    machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    await stream.send(machine.send(request) + machine.send(h11.EndOfMessage()))
    head: h11.Response | None = None
    body = bytearray()
    for _ in range(MAX_STEPS):
        match await _next_event(machine, stream):
            case h11.Response() as head:
                pass
            case h11.Data(data=data):
                body += data
            case h11.EndOfMessage():
                break
        if len(body) >= MAX_BODY:
            break
    if head is None:
        raise Failed("malformed HTTP response: nothing but informational ones")
    location = next((value.decode("latin-1") for name, value in head.headers if name == b"location"), "")
    return Response(head.status_code, body[:MAX_BODY].decode(errors="replace"), location)


async def _next_event(machine: h11.Connection, stream: ByteStream) -> object:
    while True:
        try:
            event = machine.next_event()
        except h11.RemoteProtocolError as exc:
            raise Failed(f"malformed HTTP response: {exc}") from exc
        if event is not h11.NEED_DATA:
            return event
        try:
            data = await stream.receive()
        except anyio.EndOfStream:
            if machine.their_state is h11.SEND_RESPONSE:
                raise
            data = b""  # the end of a body without a length
        machine.receive_data(data)
