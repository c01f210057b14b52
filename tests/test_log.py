"""What podd says: bounded, without secrets, in three forms, and never at the price of its work."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from podd import log
from podd.driver.contract import Handle
from podd.errors import Internal, Unavailable

TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """structlog, the processors and logging as they were."""
    before, handlers = list(log._processors), list(logging.root.handlers)
    level = logging.root.level
    yield
    log._processors[:] = before
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def as_json(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def broken() -> Exception:
    try:
        raise ZeroDivisionError("division by zero")
    except ZeroDivisionError as exc:
        return exc


class TestConsole:
    def test_a_line_for_people(self, out: io.StringIO) -> None:
        log.configure("info", "console", stream=out)
        structlog.get_logger().warning("pod.told", pod="web", reason="it broke", tries=3, ok=True, ids=["a", "b"])
        time, rest = out.getvalue().split(" ", 1)
        assert TIME.fullmatch(time)
        assert rest == 'warning pod.told  pod=web reason="it broke" tries=3 ok=true ids=["a","b"]\n'

    def test_nothing_forges_a_line_or_drives_a_terminal(self, out: io.StringIO) -> None:
        log.configure("info", "console", stream=out)
        evil = "x\n2026-08-01T12:00:00.000Z error   pod.gone\x1b[2J\x9b1m\u202e\u2028"
        structlog.get_logger().info(evil, a=evil, b=[evil], c=f"{evil} ")
        (line,) = out.getvalue().splitlines()
        assert line.isprintable()

    def test_colours_only_for_a_terminal(self, out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(out, "isatty", lambda: True)
        log.configure("info", "console", stream=out)
        structlog.get_logger().error("a.b")
        assert "\x1b[31merror  \x1b[0m a.b" in out.getvalue()


@given(st.text(), st.one_of(st.text(), st.integers(), st.floats(), st.lists(st.text()), st.none(), st.binary()))
def test_whatever_is_said_is_one_line_of_each_form(text: str, value: object) -> None:
    for form in ("console", "json"):
        out = io.StringIO()
        log.configure("info", form, stream=out)  # type: ignore[arg-type]
        structlog.get_logger().info(text, value=value)
        assert out.getvalue().count("\n") == 1
        assert out.getvalue().encode()
    assert json.loads(out.getvalue())["event"] == text.encode("utf-8", "backslashreplace").decode()


class TestLevels:
    def test_less_important_is_left_out(self, out: io.StringIO) -> None:
        log.configure("warning", "json", stream=out)
        say = structlog.get_logger()
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(say, level)(level)
        assert [said["level"] for said in as_json(out)] == ["warning", "error", "critical"]

    def test_a_change_reaches_loggers_that_were_bound_before(self, out: io.StringIO) -> None:
        log.configure("info", "json", stream=out)
        bound = structlog.get_logger().bind(pod="web")
        bound.debug("a.b")
        log.configure("debug", "json", stream=out)
        bound.debug("c.d")
        log.configure("error", "json", stream=out)
        bound.info("e.f")
        assert [(said["event"], said["pod"]) for said in as_json(out)] == [("c.d", "web")]

    def test_capturing_in_tests_works(self, out: io.StringIO) -> None:
        log.configure("info", "json", stream=out)
        with structlog.testing.capture_logs() as told:
            structlog.get_logger().info("a.b", n=1)
        assert told == [{"event": "a.b", "n": 1, "log_level": "info"}]
        assert out.getvalue() == ""


class TestErrors:
    def said(self, out: io.StringIO, level: log.Level, error: Exception) -> dict[str, object]:
        log.configure(level, "json", stream=out)
        structlog.get_logger().error("driver.failed", exc_info=error)
        return as_json(out)[0]

    def test_one_of_podds_own_tells_message_remedy_and_facts(self, out: io.StringIO) -> None:
        said = self.said(out, "info", Unavailable("docker: no answer", remedy="start it", socket="/run/docker.sock"))
        assert said["error"] == "docker: no answer"
        assert said["remedy"] == "start it"
        assert said["socket"] == "/run/docker.sock"
        assert "traceback" not in said

    def test_its_traceback_only_for_debugging(self, out: io.StringIO) -> None:
        assert "Unavailable" in str(self.said(out, "debug", Unavailable("docker: no answer"))["traceback"])

    @pytest.mark.parametrize("error", [Internal("bug"), broken()])
    def test_a_bug_tells_where_it_is(self, out: io.StringIO, error: Exception) -> None:
        assert type(error).__name__ in str(self.said(out, "info", error)["traceback"])

    def test_the_current_exception(self, out: io.StringIO) -> None:
        log.configure("info", "console", stream=out)
        try:
            raise broken()
        except ZeroDivisionError:
            structlog.get_logger().exception("driver.broke", verb="owned")
        first, *rest = out.getvalue().splitlines()
        assert first.endswith('driver.broke  verb=owned error="ZeroDivisionError: division by zero"')
        assert rest[0] == "Traceback (most recent call last):"
        assert rest[-1] == "ZeroDivisionError: division by zero"

    def test_an_error_given_as_a_fact(self, out: io.StringIO) -> None:
        log.configure("info", "json", stream=out)
        structlog.get_logger().error("store.failed", error=Unavailable("disk: full", remedy="free space"))
        (said,) = as_json(out)
        assert (said["error"], said["remedy"]) == ("disk: full", "free space")


class TestSecrets:
    def test_records_are_not_said(self, out: io.StringIO) -> None:
        log.configure("debug", "json", stream=out)
        hidden = "hunter2"
        structlog.get_logger().info(
            "a.b",
            handle=Handle(id=hidden, driver="fake", version=1),
            data=hidden.encode(),
            mapping={"x": hidden},
            nested=[[hidden], {"x": hidden}],
            password=hidden,
            api_token=hidden,
            env=[hidden],
            environment=hidden,
            manifest=hidden,
        )
        assert hidden not in out.getvalue()
        assert as_json(out)[0]["handle"] == "(Handle)"

    def test_what_is_long_is_cut(self, out: io.StringIO) -> None:
        log.configure("info", "json", stream=out)
        structlog.get_logger().info("a.b", text="x" * 10_000_000, many=list(range(1000)))
        assert len(out.getvalue()) < 20_000
        assert str(as_json(out)[0]["text"]).endswith("characters more)")

    def test_facts_do_not_replace_what_every_line_has(self, out: io.StringIO) -> None:
        log.configure("info", "json", stream=out)
        structlog.get_logger().info("a.b", level="warning", time="never")
        (said,) = as_json(out)
        assert (said["level"], said["level_"], said["time_"]) == ("info", "warning", "never")
        assert TIME.fullmatch(str(said["time"]))


class TestJournal:
    @pytest.fixture
    def journal(self, tmp_path: Path) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(tmp_path / "journal"))
            listening.settimeout(5)
            yield listening

    @staticmethod
    def fields(datagram: bytes) -> dict[str, str]:
        """Read as journald does."""
        found: dict[str, str] = {}
        while datagram:
            head, datagram = datagram.split(b"\n", 1)
            if b"=" in head:
                key, value = head.split(b"=", 1)
            else:
                key, size = head, struct.unpack("<Q", datagram[:8])[0]
                value, datagram = datagram[8 : 8 + size], datagram[9 + size :]
            assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", key)
            found[key.decode()] = value.decode()
        return found

    @staticmethod
    def waiting(journal: socket.socket) -> Iterator[bytes]:
        while True:
            try:
                yield journal.recv(65536)
            except BlockingIOError:
                return

    def test_fields(self, journal: socket.socket, out: io.StringIO) -> None:
        log.configure("info", "journal", stream=out, journal=journal.getsockname())
        structlog.get_logger().warning("pod.told", pod="web", message="line\nPRIORITY=0\n", tries=3)
        assert self.fields(journal.recv(65536)) == {
            "MESSAGE": 'pod.told pod=web message="line\\nPRIORITY=0\\n" tries=3',
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "podd",
            "PODD_EVENT": "pod.told",
            "PODD_POD": "web",
            "PODD_MESSAGE": "line\nPRIORITY=0\n",
            "PODD_TRIES": "3",
        }
        assert out.getvalue() == ""

    @pytest.mark.parametrize(("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3)])
    def test_priorities(self, journal: socket.socket, out: io.StringIO, level: str, priority: int) -> None:
        log.configure("debug", "journal", stream=out, journal=journal.getsockname())
        getattr(structlog.get_logger(), level)("a.b")
        assert self.fields(journal.recv(65536))["PRIORITY"] == str(priority)

    def test_a_traceback_is_a_field(self, journal: socket.socket, out: io.StringIO) -> None:
        log.configure("info", "journal", stream=out, journal=journal.getsockname())
        structlog.get_logger().error("driver.broke", exc_info=broken())
        fields = self.fields(journal.recv(65536))
        assert "\n" not in fields["MESSAGE"]
        assert fields["PODD_TRACEBACK"].startswith("Traceback")

    def test_without_a_journal_the_stream_gets_it(self, tmp_path: Path, out: io.StringIO) -> None:
        log.configure("info", "journal", stream=out, journal=str(tmp_path / "absent"))
        structlog.get_logger().info("a.b", n=1)
        assert out.getvalue().endswith("info    a.b  n=1\n")

    def test_a_journal_that_does_not_read_is_not_waited_for(self, journal: socket.socket, out: io.StringIO) -> None:
        log.configure("info", "journal", stream=out, journal=journal.getsockname())
        for n in range(2000):
            structlog.get_logger().info("a.b", n=n)
        journal.setblocking(False)
        received = len(list(self.waiting(journal)))
        assert received < 2000
        structlog.get_logger().info("a.b")
        assert self.fields(journal.recv(65536))["PODD_DROPPED_BEFORE"] == str(2000 - received)
        assert out.getvalue() == ""


def test_what_libraries_say_is_said_likewise(out: io.StringIO) -> None:
    log.configure("info", "json", stream=out)
    logging.getLogger("asyncio").error("task %s failed", "t")
    logging.getLogger("asyncio").info("not important enough")
    (said,) = as_json(out)
    assert (said["event"], said["library"], said["message"]) == ("library.told", "asyncio", "task t failed")


def test_a_stream_that_is_gone_costs_nothing(out: io.StringIO) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        log.configure("info", "console", stream=stream)
        structlog.get_logger().info("a.b")
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # so that closing it can write what is left
    out.close()
    log.configure("info", "console", stream=out)
    structlog.get_logger().info("a.b")
