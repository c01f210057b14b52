"""HTTP probes and hooks, against a server that says what it is told, byte for byte."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream
from handling import NO_SOCKETS, Local, Serve, hangs_up, listening, place, silent, unused_port

from podd.engine import handlers
from podd.engine.handlers import Outcome
from podd.engine.handlers.http import USER_AGENT
from podd.model.pod import HTTPGetAction, HTTPHeader, LifecycleHandler, Probe

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def says(*answers: bytes, heard: list[str] | None = None) -> Serve:
    """One answer for each connection, the last one for all that follow."""
    left = list(answers)

    async def serve(stream: ByteStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive()
        if heard is not None:
            heard.append(request.decode())
        await stream.send(left.pop(0) if len(left) > 1 else left[0])

    return serve


def probe(port: int | str, timeout_s: int = 5, **action: object) -> Probe:
    return Probe(http_get=HTTPGetAction(port=port, **action), timeout_seconds=timeout_s)  # type: ignore[arg-type]


def answer(status: int, *headers: str, body: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status} X", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    ("said", "outcome"),
    {
        "200": (OK, Outcome(result="success")),
        "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Outcome(result="success")),
        "400": (answer(400), Outcome(result="failure", message="HTTP probe failed with statuscode: 400")),
        "500": (answer(500), Outcome(result="failure", message="HTTP probe failed with statuscode: 500")),
        "HTTP/1.0, to the end": (b"HTTP/1.0 200 OK\r\n\r\nok", Outcome(result="success")),
        "chunks": (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Outcome(result="success"),
        ),
        "first thoughts": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, Outcome(result="success")),
        "a body without end": (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 20_000,
            Outcome(result="success"),
        ),
        "not modified": (
            b"HTTP/1.1 304 X\r\n\r\n",
            Outcome(result="warning", message="Probe terminated redirects, Response body: "),
        ),
        "to another host": (
            answer(302, "Location: http://example.com/", body="moved"),
            Outcome(result="warning", message="Probe terminated redirects, Response body: moved"),
        ),
    }.values(),
)
async def test_what_counts_as_success(local: Local, said: bytes, outcome: Outcome) -> None:
    async with listening(says(said)) as port:
        assert await handlers.probe(place(local), probe(port)) == outcome


@pytest.mark.parametrize(
    ("serve", "message"),
    [
        (says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "malformed HTTP response: expected http/"),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000), "malformed HTTP response: it is too long"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"), "unexpected EOF"),
        (hangs_up, "EOF"),
        (says(b""), "EOF"),
    ],
)
async def test_what_is_no_answer(local: Local, serve: Serve, message: str) -> None:
    async with listening(serve) as port:
        outcome = await handlers.probe(place(local), probe(port, path="/x"))
        assert outcome.result == "failure"
        assert outcome.message.startswith(f'Get "http://127.0.0.1:{port}/x": {message}')


async def test_nobody_listens(local: Local) -> None:
    port = await unused_port()
    refused = f'Get "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused'
    assert await handlers.probe(place(local), probe(port)) == Outcome(result="failure", message=refused)


async def test_nobody_answers(local: Local) -> None:
    async with listening(silent) as port:
        late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        message = f'Get "http://127.0.0.1:{port}/": {late}'
        assert await handlers.probe(place(local), probe(port, 1)) == Outcome(result="failure", message=message)


async def test_no_socket_is_nobodys_failure(local: Local) -> None:
    local.refuses = NO_SOCKETS
    assert await handlers.probe(place(local), probe(1)) == Outcome(result="error", message=str(NO_SOCKETS))


async def test_who_listens_on_the_newer_address_alone(local: Local) -> None:
    async with listening(says(OK), "::1") as port:
        assert (await handlers.probe(place(local), probe(port))).result == "success"


async def test_a_host_by_name_or_address(local: Local) -> None:
    async with listening(says(OK)) as port:
        for host in ("localhost", "127.0.0.1"):
            assert (await handlers.probe(place(local), probe(port, host=host))).result == "success"
        unknown = await handlers.probe(place(local), probe(port, host="no-such-host.invalid"))
        assert unknown.result == "failure"
        assert unknown.message.startswith(f'Get "http://no-such-host.invalid:{port}/": dial tcp: lookup no-such-host')
        for host in ("ü..x", f"ü{'x' * 64}"):
            never = await handlers.probe(place(local), probe(port, host=host))
            assert (never.result, never.message[-12:]) == ("failure", "no such host")


# ---- what is asked


async def test_what_a_server_hears(local: Local) -> None:
    heard: list[str] = []
    async with listening(says(OK, heard=heard)) as port:
        await handlers.probe(place(local, web=port), probe("web", path="health z?a=b#c"))
    lines = [f"host: 127.0.0.1:{port}", f"user-agent: {USER_AGENT}", "accept: */*", "connection: close"]
    assert heard == ["\r\n".join(["GET /health%20z?a=b HTTP/1.1", *lines, "", ""])]


async def test_headers_of_the_manifest(local: Local) -> None:
    heard: list[str] = []
    given = {"Host": "web.example", "User-Agent": "mine", "Accept": "", "X-A": " b ", "Content-Length": "5"}
    headers = tuple(HTTPHeader(name=name, value=value) for name, value in given.items())
    async with listening(says(OK, heard=heard)) as port:
        await handlers.probe(place(local), probe(port, http_headers=(*headers, HTTPHeader(name="X-A", value="c"))))
    lines = ["host: web.example", "user-agent: mine", "x-a: b", "x-a: c", "connection: close"]
    assert heard == ["\r\n".join(["GET / HTTP/1.1", *lines, "", ""])]


# ---- redirects


async def test_redirects_on_the_same_host_are_followed(local: Local) -> None:
    heard: list[str] = []
    async with listening(says(OK, heard=heard)) as elsewhere:
        moves = [answer(301, "Location: /b?c=d"), answer(307, f"Location: http://127.0.0.1:{elsewhere}/e")]
        async with listening(says(*moves, heard=heard)) as port:
            assert await handlers.probe(place(local), probe(port, path="/a")) == Outcome(result="success")
    assert [one.split()[1] for one in heard] == ["/a", "/b?c=d", "/e"]


async def test_redirects_have_an_end(local: Local) -> None:
    heard: list[str] = []
    async with listening(says(answer(302, "Location: /"), heard=heard)) as port:
        outcome = await handlers.probe(place(local), probe(port))
    assert outcome == Outcome(result="failure", message=f'Get "http://127.0.0.1:{port}/": stopped after 10 redirects')
    assert len(heard) == 10


async def test_a_redirect_to_nonsense(local: Local) -> None:
    async with listening(says(answer(302, "Location: http://127.0.0.1:nine/"))) as port:
        outcome = await handlers.probe(place(local), probe(port))
    assert outcome.result == "failure"
    assert 'failed to parse Location header "http://127.0.0.1:nine/"' in outcome.message


# ---- HTTPS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For another name, signed by nobody."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -days 1"
    done = subprocess.run([*command.split(), "-keyout", "-", "-out", "-"], capture_output=True, check=True)
    path.write_bytes(done.stdout)
    return path


async def test_https_is_not_verified(local: Local, certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def serve(stream: ByteStream) -> None:
        secured = await TLSStream.wrap(stream, server_side=True, ssl_context=context, standard_compatible=False)
        await says(OK)(secured)

    async with listening(serve) as port:
        assert await handlers.probe(place(local), probe(port, scheme="HTTPS")) == Outcome(result="success")


@pytest.mark.parametrize(
    ("serve", "message"), [(says(OK), "http: server gave HTTP response to HTTPS client"), (hangs_up, "")]
)
async def test_https_to_who_does_not_speak_it(local: Local, serve: Serve, message: str) -> None:
    async def hears(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(OK)

    async with listening(hears if message else serve) as port:
        outcome = await handlers.probe(place(local), probe(port, scheme="HTTPS"))
        assert outcome.result == "failure"
        assert outcome.message.startswith(f'Get "https://127.0.0.1:{port}/": {message}')


# ---- hooks


@pytest.mark.parametrize("said", [OK, answer(500), answer(302, "Location: http://example.com/")])
async def test_of_a_hook_any_answer_is_one(local: Local, said: bytes) -> None:
    async with listening(says(said)) as port:
        await handlers.hook(place(local), LifecycleHandler(http_get=HTTPGetAction(port=port)))


async def test_a_hook_that_nobody_answers(local: Local) -> None:
    port = await unused_port()
    with pytest.raises(handlers.Failed, match="connection refused"):
        await handlers.hook(place(local), LifecycleHandler(http_get=HTTPGetAction(port=port)))


async def test_one_that_is_given_up(local: Local) -> None:
    """Its socket is closed, as the fixture sees."""
    async with listening(silent) as port:
        for scheme in ("HTTP", "HTTPS"):
            with anyio.move_on_after(0.02) as scope:
                await handlers.probe(place(local), probe(port, scheme=scheme))
            assert scope.cancelled_caught
