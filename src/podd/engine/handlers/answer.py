"""A server's answer to a GET, taken in as it comes. Nothing is read or sent here."""

from __future__ import annotations

import httptools

from podd.engine.handlers.place import Failed

MAX_BODY = 10 * 1024  # bytes that are kept, as the kubelet does
MAX_ANSWER = 128 * 1024  # bytes in all, with the head and with what is around the pieces of a body

_REDIRECTS = (301, 302, 303, 307, 308)
_SWITCHING_PROTOCOLS = 101


class Answer:
    """whole: there is no more of it, or nothing that anybody wants to know.

    The parser calls on_...; informational answers come before the one that counts, and leave nothing. What servers get
    wrong and Go's client, which is the kubelet's, lets pass is let pass here.
    """

    def __init__(self) -> None:
        self.status = 0
        self.location = ""
        self.body = b""
        self.whole = False
        self._headed = False  # its headers are complete
        self._measured = False  # it says itself where it ends
        self._room = MAX_ANSWER
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_data_after_close=True,
            lenient_optional_cr_before_lf=True,
        )

    @property
    def redirects(self) -> bool:
        return self.status in _REDIRECTS and bool(self.location)

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    # ---- for whoever reads

    def feed(self, data: bytes) -> None:
        """Raises Failed: it is no answer."""
        self._room -= len(data)
        if self._room < 0:
            raise Failed("malformed HTTP response: it is too long")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as exc:
            if not self.whole:
                raise Failed(f"malformed HTTP response: {str(exc).lower()}") from exc

    def hang_up(self) -> None:
        """Nothing more will come. Raises Failed: something is missing."""
        if not self._headed:
            raise Failed("EOF")
        if self._measured:
            raise Failed("unexpected EOF")
        self.whole = True

    # ---- for the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._headed:  # of a trailer, or of what nobody asked for
            return
        match name.lower():
            case b"location":
                self.location = self.location or value.decode("latin-1")
            case b"content-length" | b"transfer-encoding":
                self._measured = True

    def on_headers_complete(self) -> None:
        if not self._headed:
            self._headed = True
            self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if not self.whole:
            self.body += data[: MAX_BODY - len(self.body)]
            self.whole = len(self.body) == MAX_BODY

    def on_message_complete(self) -> None:
        if self.status >= 200 or self.status == _SWITCHING_PROTOCOLS:
            self.whole = True
        else:
            self._headed = self._measured = False
            self.location = ""
