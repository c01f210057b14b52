"""What containers say of their ends: files that nobody can turn against podd, and the status that shows them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from harness import apply, engine

from podd.engine import messages
from podd.engine.engine import Engine
from podd.errors import Unavailable
from podd.model.status import ContainerStateTerminated
from podd.testing.fake import Entry, FakeHost, Program


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "deep/er/message"
    messages.make(str(made))
    return made


# ---- the file --------------------------------------------------------------------------------------------------------


def test_anybody_may_write_to_it_and_nobody_reaches_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.write_text("x")
    messages.make(str(path))
    assert messages.said(str(path), "") == "x"


def test_no_more_is_read_than_the_kubelet_would(path: Path) -> None:
    path.write_bytes(b"\xff" + b"x" * 9000)
    assert messages.said(str(path), "") == "\ufffd" + "x" * 4095


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def fifo(path: Path) -> None:
    os.mkfifo(path)


OTHERS: dict[str, Callable[[Path], None]] = {"a link": link, "a pipe": fifo, "a directory": Path.mkdir, "gone": Path}


@pytest.mark.parametrize("put", OTHERS.values(), ids=list(OTHERS))
def test_what_is_no_file_says_nothing(path: Path, put: Callable[[Path], None]) -> None:
    path.unlink()
    put(path)
    assert messages.said(str(path), "") == ""


def test_a_link_in_its_place_is_not_followed_when_it_is_made(path: Path) -> None:
    path.unlink()
    link(path)
    with pytest.raises(Unavailable, match="termination message"):
        messages.make(str(path))


def test_all_of_a_pod_go_together(path: Path) -> None:
    messages.remove(str(path))
    messages.remove(str(path))
    messages.make(str(path))
    messages.remove_all(str(path.parent))
    messages.remove_all(str(path.parent))
    assert not path.parent.parent.exists()


LOGS: dict[str, tuple[list[str], str]] = {
    "lines": (["F one", "F two"], "one\ntwo\n"),
    "pieces": (["P on", "F e", "P last words"], "one\nlast words"),
    "the last eighty": ([f"F {n}" for n in range(200)], "".join(f"{n}\n" for n in range(120, 200))),
    "two kilobytes": (["F " + "x" * 1500] * 3, ("x" * 1500 + "\n" + "x" * 1500 + "\n")[-2048:]),
    "nothing": ([], ""),
}


@pytest.mark.parametrize(("entries", "said"), LOGS.values(), ids=list(LOGS))
def test_the_end_of_a_log(tmp_path: Path, entries: list[str], said: str) -> None:
    log = tmp_path / "0.log"
    log.write_text("".join(f"2024-01-01T00:00:00.000000000Z stdout {entry}\n" for entry in entries))
    assert messages.said(str(tmp_path / "none"), str(log)) == said


def test_of_a_log_that_is_not_there_nothing_is_said(tmp_path: Path) -> None:
    assert messages.said(str(tmp_path / "none"), str(tmp_path / "0.log")) == ""


# ---- in the status ---------------------------------------------------------------------------------------------------

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - {name: a, image: "rootfs:/", command: [/bin/a], terminationMessagePolicy: POLICY}
  - {name: b, image: "rootfs:/", command: [/bin/b]}
"""


class Speaker:
    """Has a container write its message when it is let go."""

    def __init__(self, host: FakeHost, words: str) -> None:
        self._host, self._words = host, words
        host.on_effect = self._effect

    def _effect(self, entry: Entry) -> None:
        if (entry.name, entry.of) == ("released", "a"):
            _, container = self._host.find(entry.id)
            (mount,) = (m for m in container.config.mounts if m.container_path == "/dev/termination-log")
            Path(mount.host_path).write_text(self._words)


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


def files(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "state").rglob(".messages/*"))


async def end_of_a(one: Engine) -> ContainerStateTerminated:
    state = (await one.get("web", None)).status.container_statuses[0].state
    assert state.terminated is not None
    return state.terminated


async def ended(one: Engine) -> ContainerStateTerminated:
    await anyio.sleep(10)
    return await end_of_a(one)


ENDS = {
    "the file": ("File", "written", 3, "written"),
    "the file before the log": ("FallbackToLogsOnError", "written", 3, "written"),
    "the log": ("FallbackToLogsOnError", "", 3, "line 1\nline 2\n"),
    "no log without an error": ("FallbackToLogsOnError", "", 0, ""),
    "no log unless it is asked for": ("File", "", 3, ""),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("policy", "words", "code", "said"), ENDS.values(), ids=list(ENDS))
async def test_the_message_is_in_the_status(tmp_path: Path, policy: str, words: str, code: int, said: str) -> None:
    host = FakeHost()
    host.programs["a"] = Program(exits_after_s=5, code=code, output=("line 1", "line 2"))
    Speaker(host, words)
    async with engine(tmp_path, host) as one:
        await apply(one, POD.replace("POLICY", policy))
        found = await ended(one)
        assert (found.exit_code, found.message) == (code, said)
        assert len(files(tmp_path)) == 2
        await one.stop("web", None, grace_period_s=0, wait=True)
        assert files(tmp_path) == []
        assert (await end_of_a(one)).message == said
        await one.delete("web", None, grace_period_s=0, wait=True)
        assert list((tmp_path / "state/volumes").iterdir()) == []


@pytest.mark.anyio
async def test_the_message_of_an_end_while_podd_was_away(tmp_path: Path) -> None:
    host = FakeHost()
    host.programs["a"] = Program(exits_after_s=5, code=1)
    Speaker(host, "while you were out")
    async with engine(tmp_path, host) as one:
        await apply(one, POD.replace("POLICY", "File"))
    await anyio.sleep(60)
    async with engine(tmp_path, host) as one:
        assert (await ended(one)).message == "while you were out"


@pytest.mark.anyio
async def test_each_instance_has_its_own(tmp_path: Path) -> None:
    host = FakeHost()
    host.programs["a"] = [Program(exits_after_s=5, code=1), Program(exits_after_s=600)]
    Speaker(host, "first")
    async with engine(tmp_path, host) as one:
        await apply(one, POD.replace("POLICY", "File").replace("Never", "Always"))
        before = files(tmp_path)
        await anyio.sleep(60)
        shown = (await one.get("web", None)).status.container_statuses[0]
        assert shown.state.running is not None
        assert shown.last_state.terminated is not None
        assert shown.last_state.terminated.message == "first"
        assert len(files(tmp_path)) == 2
        assert files(tmp_path) != before
