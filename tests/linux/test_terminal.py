"""Terminals of a devpts instance that is given by descriptor."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from podd.linux import mounts
from podd.linux.terminal import open_terminal

pytestmark = pytest.mark.root


def test_both_sides_are_connected() -> None:
    devpts = mounts.devpts()
    terminal = open_terminal(devpts)
    os.write(terminal.master, b"line\n")
    assert os.read(terminal.slave, 100) == b"line\n"
    status = os.fstat(terminal.slave)
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o620, 5)
    assert not os.get_inheritable(terminal.master)
    assert not os.get_inheritable(terminal.slave)
    for fd in (*terminal, devpts):
        os.close(fd)


def test_instances_are_apart() -> None:
    one, two = mounts.devpts(), mounts.devpts()
    terminals = [open_terminal(one), open_terminal(two)]
    assert [os.stat("0", dir_fd=devpts).st_rdev for devpts in (one, two)] == [os.makedev(136, 0)] * 2
    assert os.fstat(terminals[0].slave).st_dev != os.fstat(terminals[1].slave).st_dev
    for fd in (*terminals[0], *terminals[1], one, two):
        os.close(fd)


def test_directory_that_only_looks_like_a_devpts_is_refused(tmp_path: Path) -> None:
    """CVE-2025-52565."""
    (tmp_path / "ptmx").symlink_to("/dev/ptmx")
    directory = os.open(tmp_path, os.O_PATH)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="not a devpts file system"):
        open_terminal(directory)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(directory)
