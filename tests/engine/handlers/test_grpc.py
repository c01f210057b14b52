"""gRPC probes, against a server of h2's other half."""

from __future__ import annotations

import anyio
import h2.config
import h2.connection
import h2.events
import pytest
from anyio.abc import ByteStream
from handling import Local, Serve, hangs_up, listening, place, silent, unused_port

from podd.engine import handlers
from podd.engine.handlers import Outcome
from podd.engine.handlers.http import USER_AGENT
from podd.model.pod import GRPCAction, Probe

pytestmark = pytest.mark.anyio

SERVING, NOT_SERVING = b"\x00\x00\x00\x00\x02\x08\x01", b"\x00\x00\x00\x00\x02\x08\x02"
OK = {"grpc-status": "0"}


class Server:
    """Answers each call so, and keeps what it was asked. status: of HTTP; reset: ends the call instead."""

    def __init__(
        self,
        body: bytes = SERVING,
        trailers: dict[str, str] = OK,
        *,
        status: str = "200",
        reset: bool = False,
        pieces: int = 4096,
    ) -> None:
        self.body, self.trailers, self.status, self.reset, self.pieces = body, trailers, status, reset, pieces
        self.headers: dict[str, str] = {}
        self.message = b""

    async def serve(self, stream: ByteStream) -> None:
        machine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        machine.initiate_connection()
        await stream.send(machine.data_to_send())
        while True:
            for event in machine.receive_data(await stream.receive()):
                self._take(machine, event)
            answer = machine.data_to_send()
            for start in range(0, len(answer), self.pieces):
                await stream.send(answer[start : start + self.pieces])

    def _take(self, machine: h2.connection.H2Connection, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self.headers = {str(name): str(value) for name, value in event.headers or ()}
            case h2.events.DataReceived():
                self.message += event.data or b""
            case h2.events.StreamEnded(stream_id=call) if self.reset:
                machine.reset_stream(call)
            case h2.events.StreamEnded(stream_id=call):
                head = [(":status", self.status), ("content-type", "application/grpc")]
                if self.body:
                    machine.send_headers(call, head)
                    machine.send_data(call, self.body)
                    machine.send_headers(call, list(self.trailers.items()), end_stream=True)
                else:
                    machine.send_headers(call, [*head, *self.trailers.items()], end_stream=True)


def probe(port: int, timeout_s: int = 5, service: str = "") -> Probe:
    return Probe(grpc=GRPCAction(port=port, service=service), timeout_seconds=timeout_s)


def failure(message: str) -> Outcome:
    return Outcome(result="failure", message=message)


RPC = "error: health rpc probe failed"


@pytest.mark.parametrize(
    ("server", "outcome"),
    {
        "serving": (Server(), Outcome(result="success")),
        "serving, byte by byte": (Server(pieces=1), Outcome(result="success")),
        "not serving": (Server(NOT_SERVING), failure('service unhealthy (responded with "NOT_SERVING")')),
        "a default": (Server(b"\x00\x00\x00\x00\x00"), failure('service unhealthy (responded with "UNKNOWN")')),
        "a new one": (
            Server(b"\x00\x00\x00\x00\x02\x08\x09"),
            failure('service unhealthy (responded with "9")'),
        ),
        "an unknown service": (
            Server(b"", {"grpc-status": "5", "grpc-message": "unknown%20service"}),
            failure(f"{RPC}: rpc error: code = NotFound desc = unknown service"),
        ),
        "no health service": (
            Server(b"", {"grpc-status": "12", "grpc-message": "no"}),
            failure("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no"),
        ),
        "no gRPC": (Server(b"", {}, status="404"), failure(f"{RPC}: rpc error: code = HTTP status 404 desc = ")),
        "no code": (
            Server(b"", {"grpc-status": "ok"}),
            failure(f"{RPC}: rpc error: code = HTTP status 200 desc = "),
        ),
        "another message": (Server(b"\x00\x00\x00\x00\x02\x0a\x00"), failure(f"{RPC}: malformed answer")),
        "a compressed message": (Server(b"\x01\x00\x00\x00\x02\x08\x01"), failure(f"{RPC}: malformed answer")),
        "half a message": (Server(b"\x00\x00\x00\x00\x02\x08"), failure(f"{RPC}: malformed answer")),
        "a reset": (Server(reset=True), failure(f"{RPC}: the server ended the call: NO_ERROR")),
    }.values(),
)
async def test_what_a_server_answers(local: Local, server: Server, outcome: Outcome) -> None:
    async with listening(server.serve) as port:
        assert await handlers.probe(place(local), probe(port)) == outcome


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ("", b"\x00\x00\x00\x00\x00"),
        ("a.B", b"\x00\x00\x00\x00\x05\x0a\x03a.B"),
        ("x" * 200, b"\x0a\xc8\x01" + b"x" * 200),
    ],
)
async def test_what_is_asked(local: Local, service: str, message: bytes) -> None:
    server = Server()
    async with listening(server.serve) as port:
        await handlers.probe(place(local), probe(port, service=service))
    assert server.message.endswith(message)
    assert len(server.message) == 5 + int.from_bytes(server.message[1:5], "big")
    assert server.headers == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": f"127.0.0.1:{port}",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": USER_AGENT,
        "grpc-timeout": "5000m",
    }


async def http_1(stream: ByteStream) -> None:
    await stream.receive()
    await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def not_even_settings(stream: ByteStream) -> None:
    await stream.receive()
    await stream.send(b"\x00\x00\x00\x01\x05\x00\x00\x00\x01")


async def floods(stream: ByteStream) -> None:
    while True:
        await stream.send(b"HTTP/1.1 200 OK\r\n" * 100)


@pytest.mark.parametrize(
    ("serve", "why"),
    [(http_1, "EOF"), (hangs_up, "EOF"), (not_even_settings, "not HTTP/2: "), (floods, "the answer is too long")],
)
async def test_what_is_no_grpc(local: Local, serve: Serve, why: str) -> None:
    async with listening(serve) as port:
        outcome = await handlers.probe(place(local), probe(port))
    assert outcome.result == "failure"
    assert outcome.message.startswith(f"{RPC}: {why}")


async def test_nobody_listens(local: Local) -> None:
    port = await unused_port()
    why = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    expected = failure(f'error: failed to connect service at "127.0.0.1:{port}": {why}')
    assert await handlers.probe(place(local), probe(port)) == expected


async def test_nobody_answers(local: Local) -> None:
    async with listening(silent) as port:
        expected = failure("timeout: health rpc did not complete within 1s")
        assert await handlers.probe(place(local), probe(port, 1)) == expected


async def test_no_socket_in_time(local: Local) -> None:
    async def slow(*_: object) -> int:
        await anyio.sleep_forever()
        raise AssertionError

    local.open_socket = slow  # type: ignore[method-assign]
    text = 'timeout: failed to connect service "127.0.0.1:1" within 1s: context deadline exceeded'
    assert await handlers.probe(place(local), probe(1, 1)) == failure(text)
