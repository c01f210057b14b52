"""podd-cli in this process, against a daemon of canned answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.fake_daemon import FakeDaemon, fake_daemon
from podd.cli.main import main


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """UTC and UTF-8, no daemon of this machine, nothing of the developer's own settings."""
    for name in ("NO_COLOR", "PODD_DEBUG", "LC_ALL", "LC_CTYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("PODD_SOCKET", str(tmp_path / "podd.sock"))
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path / "podd.sock") as daemon:
        yield daemon


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """run("get", "pods"): the exit status and what was printed."""

    def command(*argv: str) -> Result:
        status = main(argv)
        return Result(status, *capsys.readouterr())

    return command
