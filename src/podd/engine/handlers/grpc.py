"""Ask a gRPC server for its health: one call of grpc.health.v1.Health/Check, by hand.

Source: gRPC's "gRPC over HTTP2" and "GRPC Health Checking Protocol"; the two messages have one field each.
"""

from __future__ import annotations

from urllib.parse import unquote

import anyio
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from podd.engine.handlers.dial import OWN, Connection, dial, join
from podd.engine.handlers.http import USER_AGENT
from podd.engine.handlers.place import Failed, Place
from podd.model.pod import GRPCAction

MAX_ANSWER = 64 * 1024  # bytes, with everything that HTTP/2 has around a status of two
SERVING = 1
UNIMPLEMENTED = 12

_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_CODES = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
    *("PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented"),
    *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)


class Answer:
    """What has come of one call so far."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}  # trailers included
        self.body = b""
        self.ended = False


async def check(place: Place, action: GRPCAction, timeout_s: float) -> None:
    """Raises Failed: it does not say that it serves."""
    address = join(OWN[0], action.port)
    connection: Connection | None = None
    try:
        with anyio.fail_after(timeout_s):
            connection = await _dialled(place, action.port, address)
            answer = await _call(connection, address, action.service, timeout_s)
    except TimeoutError as exc:
        if connection is None:
            text = f'timeout: failed to connect service "{address}" within {timeout_s:g}s: context deadline exceeded'
            raise Failed(text) from exc
        raise Failed(f"timeout: health rpc did not complete within {timeout_s:g}s") from exc
    finally:
        if connection is not None:
            await connection.aclose()
    _judge(answer)


async def _dialled(place: Place, port: int, address: str) -> Connection:
    try:
        return await dial(place, "", port)
    except Failed as exc:
        raise Failed(f'error: failed to connect service at "{address}": {exc}') from exc


def _judge(answer: Answer) -> None:
    status = answer.headers.get("grpc-status", "")
    if status != "0":
        raise Failed(_refusal(answer, status))
    serving = _status(answer.body)
    if serving != SERVING:
        raise Failed(f'service unhealthy (responded with "{_STATUS.get(serving, serving)}")')


def _refusal(answer: Answer, status: str) -> str:
    said = unquote(answer.headers.get("grpc-message", ""))
    if status == str(UNIMPLEMENTED):
        return f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {said}"
    known = status.isascii() and status.isdecimal() and len(status) < 3 and int(status) < len(_CODES)
    code = _CODES[int(status)] if known else f"HTTP status {answer.headers.get(':status', 'missing')}"
    return f"error: health rpc probe failed: rpc error: code = {code} desc = {said}"


# ---- the call --------------------------------------------------------------------------------------------------------


async def _call(stream: Connection, authority: str, service: str, timeout_s: float) -> Answer:
    machine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    machine.initiate_connection()
    call = machine.get_next_available_stream_id()
    machine.send_headers(call, _headers(authority, timeout_s))
    machine.send_data(call, _framed(_request(service)), end_stream=True)
    answer, room = Answer(), MAX_ANSWER
    try:
        while not answer.ended:
            await stream.send(machine.data_to_send())
            data = await stream.receive()
            room -= len(data)
            if room < 0:
                raise Failed("error: health rpc probe failed: the answer is too long")
            for event in machine.receive_data(data):
                _take(answer, event)
    except (h2.exceptions.ProtocolError, UnicodeDecodeError) as exc:
        raise Failed(f"error: health rpc probe failed: not HTTP/2: {exc}") from exc
    except anyio.EndOfStream as exc:
        raise Failed("error: health rpc probe failed: EOF") from exc
    return answer


def _headers(authority: str, timeout_s: float) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", USER_AGENT),
        ("grpc-timeout", f"{min(int(timeout_s * 1000), 99_999_999)}m"),
    ]


def _take(answer: Answer, event: h2.events.Event) -> None:
    match event:
        case h2.events.ResponseReceived() | h2.events.TrailersReceived():
            answer.headers.update((str(name), str(value)) for name, value in event.headers or ())
        case h2.events.DataReceived():
            answer.body += event.data or b""
        case h2.events.StreamEnded():
            answer.ended = True
        case h2.events.StreamReset() | h2.events.ConnectionTerminated():
            raise Failed(f"error: health rpc probe failed: the server ended the call: {_name(event.error_code)}")


def _name(code: h2.errors.ErrorCodes | int | None) -> str:
    return code.name if isinstance(code, h2.errors.ErrorCodes) else str(code)


# ---- messages --------------------------------------------------------------------------------------------------------


def _request(service: str) -> bytes:
    """HealthCheckRequest: field 1, a string."""
    text = service.encode()
    return b"\x0a" + _varint(len(text)) + text if text else b""


def _framed(message: bytes) -> bytes:
    """Not compressed, and its length before it."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _status(body: bytes) -> int:
    """Of a HealthCheckResponse: field 1, an enumeration; 0 where there is none. Raises Failed: it is something else."""
    message = body[5:]
    if len(body) < 5 or body[0] or int.from_bytes(body[1:5], "big") != len(message):
        raise Failed("error: health rpc probe failed: malformed answer")
    if not message:
        return 0
    if len(message) < 2 or message[0] != 0x08 or message[1] > 0x7F:
        raise Failed("error: health rpc probe failed: malformed answer")
    return message[1]
