"""Whatever a container answers, a probe ends with a verdict: no exception, no endless reading."""

from __future__ import annotations

import struct

import anyio
import pytest
from anyio.abc import ByteStream
from hypothesis import given
from hypothesis import strategies as some

from podd.engine.handlers import Failed, answer, grpc, http
from podd.engine.handlers.answer import Answer


class Says(ByteStream):
    """Gives these pieces, whatever it is sent, and then hangs up."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if not self.pieces:
            raise anyio.EndOfStream
        return self.pieces.pop(0)

    async def send(self, item: bytes) -> None:
        pass

    async def send_eof(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def get(*pieces: bytes) -> Answer | str:
    async def ask() -> Answer | str:
        try:
            return await http._ask(Says(list(pieces)), b"")
        except Failed as exc:
            return str(exc)

    return anyio.run(ask, backend="trio")


def check(*pieces: bytes) -> str:
    async def ask() -> str:
        try:
            answer = await grpc._call(Says(list(pieces)), "x", "", 1)  # type: ignore[arg-type]
            grpc._judge(answer)
        except Failed as exc:
            return str(exc)
        return "serving"

    return anyio.run(ask, backend="trio")


HEADERS = some.sampled_from(
    [
        b"Content-Length: 5",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Location: //[",
        b"X:\xff",
        b"\x00",
        b"A b: c",
    ]
)
HEAD = some.builds(
    lambda status, headers: b"HTTP/1.1 %d X\r\n%s\r\n\r\n" % (status, b"\r\n".join(headers)),
    some.integers(99, 1000),
    some.lists(HEADERS, max_size=4),
)
CHUNKS = some.sampled_from([b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffffff\r\n", b"hello", b"\r\n"])


@given(some.lists(some.one_of(HEAD, CHUNKS, some.binary(max_size=40)), max_size=12))
def test_http(pieces: list[bytes]) -> None:
    assert isinstance(get(*pieces), Answer | str)


FRAME = some.builds(
    lambda kind, flags, stream, payload: (
        struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
    ),
    some.integers(0, 12),
    some.integers(0, 255),
    some.sampled_from([0, 1, 2, 3, 2**31 - 1]),
    some.binary(max_size=40),
)
SETTINGS = struct.pack(">I", 0)[1:] + struct.pack(">BBI", 4, 0, 0)


@given(some.booleans(), some.lists(some.one_of(FRAME, some.binary(max_size=20)), max_size=10))
def test_grpc(polite: bool, pieces: list[bytes]) -> None:
    assert check(SETTINGS if polite else b"", *pieces)


def test_informational_answers_for_ever() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert get(*[early] * 20_000) == "malformed HTTP response: it is too long"


@pytest.mark.parametrize("size", [1, 4000])
def test_a_body_for_ever(size: int) -> None:
    chunk = b"%x\r\n%s\r\n" % (size, b"x" * size)
    found = get(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[chunk] * 20_000)
    assert isinstance(found, Answer)
    assert len(found.body) <= answer.MAX_BODY


def test_pings_for_ever() -> None:
    ping = struct.pack(">I", 8)[1:] + struct.pack(">BBI", 6, 0, 0) + b"x" * 8
    assert check(SETTINGS, *[ping] * 20_000) == "error: health rpc probe failed: the answer is too long"
