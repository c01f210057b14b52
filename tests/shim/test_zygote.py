"""The zygote: what it runs from, what it keeps, how it ends."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from podd.errors import Invalid
from podd.linux.cgroup import Layout
from podd.shim import launch
from podd.shim.plan import SandboxPlan
from podd.testing.shim import ZygoteProcess, sandbox_plan

from .conftest import CGROUP

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True, scope="module")
def _clean_up() -> Iterator[None]:
    yield
    Layout.detect().group(CGROUP).remove()


def plan_of(base: Path, number: int = 0) -> SandboxPlan:
    name = f"test-{os.getpid()}-{number}"
    return sandbox_plan(str(base), name, cgroup=f"{CGROUP}/{name}")


@pytest.fixture(params=["overlay", "sealed copy"])
def executable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """An interpreter opened the one way or the other."""

    def refused(path: str) -> int:
        raise OSError(f"no overlay of {path}")

    if request.param == "sealed copy":
        monkeypatch.setattr(launch, "_through_overlay", refused)
    return launch.open_protected(os.path.realpath(sys.executable))


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC])
def test_executable_cannot_be_written(executable: int, flags: int) -> None:
    """CVE-2019-5736: even by root, and also when nobody runs it."""
    path = os.path.realpath(sys.executable)
    before = os.stat(path)
    try:
        with pytest.raises(OSError):  # noqa: PT011 - EROFS through the overlay, EPERM for the sealed copy
            os.write(os.open(f"/proc/self/fd/{executable}", flags), b"#!/bin/false\n")
        with pytest.raises(OSError):  # noqa: PT011
            os.truncate(f"/proc/self/fd/{executable}", 0)
    finally:
        os.close(executable)
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_zygote_of_a_sealed_copy_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_through_overlay", launch._sealed_copy)
    with ZygoteProcess() as zygote, pytest.raises(Invalid):
        zygote.client.call("fork", sandbox={})


def test_zygote_and_shims_run_from_the_protected_executable(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    with ZygoteProcess() as zygote:
        client, pidfd = zygote.fork(plan)
        shim = client.answer(0)[0]["shim_pid"]
        for pid in (zygote.process.pid, shim):
            exe = f"/proc/{pid}/exe"
            assert os.stat(exe).st_size == os.path.getsize(sys.executable)
            with pytest.raises(OSError):  # noqa: PT011
                os.open(exe, os.O_WRONLY)
            assert os.stat(exe).st_dev != os.stat(sys.executable).st_dev
        client.call("shutdown")
        client.close()
        os.close(pidfd)


def test_nothing_of_who_started_it_is_kept(tmp_path: Path) -> None:
    leak, end = os.pipe()
    for fd in (leak, end):
        os.set_inheritable(fd, True)
    with ZygoteProcess() as zygote, pytest.raises(Invalid):
        zygote.client.call("fork", sandbox={})  # answered: it is warm
    with ZygoteProcess() as zygote:
        with pytest.raises(Invalid):
            zygote.client.call("fork", sandbox={})
        pid = zygote.process.pid
        links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert os.readlink(f"/proc/self/fd/{leak}") not in links
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert Path(f"/proc/{pid}/environ").read_bytes().strip(b"\0") == b""
        assert os.getsid(pid) == pid
    for fd in (leak, end):
        os.close(fd)


def test_children_are_reaped(tmp_path: Path) -> None:
    with ZygoteProcess() as zygote:
        for n in range(3):
            client, pidfd = zygote.fork(plan_of(tmp_path, n))
            client.answer(0)
            client.call("shutdown")
            client.close()
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            assert poll.poll(10_000)
            os.close(pidfd)
            zygote.sweep(plan_of(tmp_path, n))
        children = Path(f"/proc/{zygote.process.pid}/task/{zygote.process.pid}/children")
        deadline = time.monotonic() + 5.0  # a sweeper answers, and then ends
        while children.read_text() and time.monotonic() < deadline:
            select.select([], [], [], 0.005)
        assert children.read_text() == ""


def test_zygote_ends_with_its_channel_and_not_by_a_terminal() -> None:
    with ZygoteProcess() as zygote:
        with pytest.raises(Invalid):
            zygote.client.call("fork", sandbox={})
        os.kill(zygote.process.pid, signal.SIGINT)
        os.kill(zygote.process.pid, signal.SIGHUP)
        with pytest.raises(Invalid):
            zygote.client.call("fork", sandbox={})
    assert zygote.process.returncode == 0
