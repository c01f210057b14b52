"""Whatever bytes and whatever JSON come in, an answer or an end goes out, and never a bug."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.fakes import FakeEngine
from control.harness import Running, replies, running, talk
from podd.control.server import Limits
from podd.control.service import make_service
from podd.control.wire import Malformed, decode_call

METHODS = make_service(FakeEngine())._methods
PARAMETERS = sorted({field for method in METHODS.values() for field in method.parameters.__struct_fields__})
ERRORS = {f"io.podd.{kind}" for kind in ("Invalid", "NotFound", "Unsupported")} | {
    f"org.varlink.service.{name}"
    for name in ("InterfaceNotFound", "MethodNotFound", "InvalidParameter", "ExpectedMore")
}  # fmt: skip
FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = Path(tmp_path_factory.mktemp("fuzz")) / "podd.sock"
    with ExitStack() as stack:
        engine = FakeEngine("web")
        yield stack.enter_context(running(engine, str(path), request.param, Limits(drain_s=0.1)))


def assert_sound(reply: dict[str, Any]) -> None:
    assert set(reply) <= {"error", "parameters", "continues"}
    assert isinstance(reply["parameters"], dict)
    assert reply.get("error") in {None, *ERRORS}


@FUZZ
@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"\0", b"{", b"}", b'"method"', b":", b"1", b"\xff"])).map(b"".join)
)
def test_bytes(server: Running, data: bytes) -> None:
    with server.connect() as sock:
        for reply in talk(sock, data):
            assert_sound(reply)


@given(st.binary() | st.text().map(str.encode))
def test_decoding_bytes(data: bytes) -> None:
    with suppress(Malformed):
        assert isinstance(decode_call(data).method, str)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "web", "nope", "\0", "é", "x" * 5000])
)
values: st.SearchStrategy[Any] = (
    scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=5), scalars, max_size=3)
)
calls = st.fixed_dictionaries(
    {"method": st.sampled_from(sorted(METHODS)) | st.text()},
    optional={
        "parameters": st.dictionaries(st.sampled_from(PARAMETERS) | st.text(max_size=5), values) | values,
        "more": st.booleans() | st.none(),
        "oneway": st.booleans(),
        "upgrade": st.booleans(),
        "unknown": values,
    },
)  # fmt: skip


@settings(FUZZ, max_examples=300)
@given(calls)
def test_calls(server: Running, message: dict[str, Any]) -> None:
    with server.connect() as sock:
        sock.sendall(json.dumps(message).encode() + b"\0")
        if not message.get("oneway"):
            assert_sound(first_reply(sock))
        else:
            sock.sendall(b'{"method":"org.varlink.service.GetInfo"}\0')
            assert first_reply(sock).get("error") in {None, "io.podd.Invalid"}


def first_reply(sock: Any) -> dict[str, Any]:
    received = b""
    while b"\0" not in received:
        chunk = sock.recv(1 << 20)
        assert chunk, "closed without a word"
        received += chunk
    reply: dict[str, Any] = json.loads(received[: received.index(b"\0")])
    return reply


@FUZZ
@given(st.lists(calls.filter(lambda call: "more" not in call), max_size=8), st.integers(1, 2000))
def test_calls_ahead_in_pieces_of_any_size(server: Running, messages: list[dict[str, Any]], size: int) -> None:
    """However the stream is cut, it means the same."""
    data = b"".join(json.dumps(message).encode() + b"\0" for message in messages)

    def answers(step: int) -> list[Any]:
        with server.connect() as sock:
            for start in range(0, len(data), step):
                try:
                    sock.sendall(data[start : start + step])
                except BrokenPipeError:
                    break
            else:
                sock.shutdown(1)
            return replies(sock)

    assert [reply.get("error") for reply in answers(size)] == [reply.get("error") for reply in answers(len(data) or 1)]
