"""Answers of HTTP servers, each whole, in single bytes, and with its end missing."""

from __future__ import annotations

import gc
import weakref

import pytest

from podd.engine.handlers import Failed
from podd.engine.handlers.answer import MAX_ANSWER, MAX_BODY, Answer

HELLO = b"Content-Length: 5\r\n\r\nhello"

GOOD = {
    "length": (b"HTTP/1.1 200 OK\r\n" + HELLO, 200, b"hello"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 200, b"hello"),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b""),
    "no reason": (b"HTTP/1.1 503\r\n" + HELLO, 503, b"hello"),
    "hints before it": (b"HTTP/1.1 103 Early Hints\r\nLocation: /x\r\n\r\nHTTP/1.1 200 OK\r\n" + HELLO, 200, b"hello"),
    "lines as of a shell": (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", 200, b"hello"),
    "a folded header": (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n" + HELLO, 200, b"hello"),
    "length and chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        *(200, b"hello"),
    ),
    "another protocol": (b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 101, b""),
}

TOO_MUCH = {
    "a line more than it says": (b"HTTP/1.1 200 OK\r\n" + HELLO + b"\n", 200, b"hello"),
    "more than it says": (b"HTTP/1.1 200 OK\r\n" + HELLO + b", world", 200, b"hello"),
    "more, though it closes": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + HELLO + b"!", 200, b"hello"),
    "a second answer": (b"HTTP/1.1 200 OK\r\n" + HELLO + b"HTTP/1.1 500 X\r\nLocation: /\r\n" + HELLO, 200, b"hello"),
    "another protocol's": (b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello", 101, b""),
    "a location after the body": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nLocation: /\r\n\r\n",
        *(200, b"hello"),
    ),
}


def told(answer: Answer) -> tuple[int, bytes]:
    return answer.status, answer.body


@pytest.mark.parametrize(("said", "status", "body"), {**GOOD, **TOO_MUCH}.values(), ids={**GOOD, **TOO_MUCH})
def test_at_once(said: bytes, status: int, body: bytes) -> None:
    answer = Answer()
    answer.feed(said)
    assert answer.whole
    assert (answer.status, answer.body, answer.location) == (status, body, "")


@pytest.mark.parametrize(("said", "status", "body"), GOOD.values(), ids=GOOD)
def test_byte_by_byte(said: bytes, status: int, body: bytes) -> None:
    answer = Answer()
    for number in range(len(said)):
        assert not answer.whole
        answer.feed(said[number : number + 1])
    assert answer.whole
    assert told(answer) == (status, body)


@pytest.mark.parametrize(("said", "status", "body"), GOOD.values(), ids=GOOD)
def test_an_end_that_comes_too_early(said: bytes, status: int, body: bytes) -> None:
    for size in range(len(said)):
        answer = Answer()
        answer.feed(said[:size])
        with pytest.raises(Failed, match=r"^(EOF|unexpected EOF)$"):
            answer.hang_up()


def test_a_body_up_to_the_end() -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.0 200 OK\r\n\r\nhe")
    answer.feed(b"llo")
    assert not answer.whole
    answer.hang_up()
    assert (answer.whole, *told(answer)) == (True, 200, b"hello")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(status: int) -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.1 %d X\r\nlocation: /first\r\nLocation: /second\r\n" % status + HELLO)
    assert (answer.redirects, answer.location) == (True, "/first")


@pytest.mark.parametrize("head", [b"HTTP/1.1 302 X\r\n", b"HTTP/1.1 200 X\r\nLocation: /\r\n"])
def test_what_is_no_redirect(head: bytes) -> None:
    answer = Answer()
    answer.feed(head + HELLO)
    assert not answer.redirects


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 99 X\r\n\r\n",
        b"HTTP/1.1 1000 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n",
    ],
)
def test_what_is_none(said: bytes) -> None:
    with pytest.raises(Failed, match=r"^malformed HTTP response: "):
        Answer().feed(said)


def test_enough_of_a_body_is_all_of_it() -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 20_000)
    assert answer.whole
    assert told(answer) == (200, b"x" * MAX_BODY)


@pytest.mark.parametrize("piece", [b"X: y\r\n", b"X" * 1000])
def test_a_head_without_end(piece: bytes) -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.1 200 OK\r\n")
    for _ in range(MAX_ANSWER // len(piece) - len(piece)):
        answer.feed(piece)
    with pytest.raises(Failed, match="it is too long"):
        answer.feed(piece * len(piece) * 2)


def test_nothing_of_it_stays() -> None:
    """It and its parser know each other."""
    answer = Answer()
    answer.feed(b"HTTP/1.1 200 OK\r\n")
    left = weakref.ref(answer)
    del answer
    gc.collect()
    assert left() is None
