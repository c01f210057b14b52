"""The socket's file: who may open it, what it replaces, and what it refuses to."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from control.harness import open_descriptors
from podd.control.listener import inherit, listen
from podd.errors import Conflict, Denied, Invalid, Unavailable

GROUP = next(group for group in grp.getgrall() if group.gr_gid not in (0, os.getgid()))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "podd.sock")


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0


@pytest.mark.root
def test_the_group_may_open_it(path: str) -> None:
    with listen(path, group=GROUP.gr_name):
        assert mode_of(path) == 0o660
        assert os.stat(path).st_gid == GROUP.gr_gid
        assert connects(path)
    assert not os.path.exists(path)


def test_without_a_group_only_its_owner_may(path: str) -> None:
    old = os.umask(0)
    try:
        with listen(path, group=""):
            assert mode_of(path) == 0o600
            assert mode_of(path + ".lock") == 0o600
    finally:
        os.umask(old)


def test_a_group_that_does_not_exist_is_told_and_leaves_it_to_root(path: str) -> None:
    with capture_logs() as logs, listen(path, group="no-such-group"):
        assert mode_of(path) == 0o600
    (entry,) = logs
    assert (entry["event"], entry["log_level"], entry["group"]) == ("socket.group_missing", "warning", "no-such-group")


@pytest.mark.root
def test_a_missing_directory_is_made_for_the_same_group(tmp_path: Path) -> None:
    path = str(tmp_path / "run" / "podd.sock")
    with listen(path, group=GROUP.gr_name):
        directory = os.path.dirname(path)
        assert mode_of(directory) == 0o750
        assert os.stat(directory).st_gid == GROUP.gr_gid


def test_a_socket_that_nobody_listens_on_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    assert not connects(path)
    with listen(path, group=""):
        assert connects(path)


def test_a_second_podd_is_refused_and_does_no_harm(path: str) -> None:
    with listen(path, group=""):
        before = open_descriptors()
        with pytest.raises(Conflict, match="another podd listens there"):
            listen(path, group="")
        assert open_descriptors() == before
        assert connects(path)


@pytest.mark.parametrize("backlog_is_full", [False, True])
def test_a_stranger_that_listens_is_left_alone(path: str, backlog_is_full: bool) -> None:
    with socket.socket(socket.AF_UNIX) as stranger, socket.socket(socket.AF_UNIX) as waiting:
        stranger.bind(path)
        stranger.listen(0)
        if backlog_is_full:
            waiting.connect(path)
        with pytest.raises(Conflict, match="another podd listens there"):
            listen(path, group="")
        assert os.path.exists(path)


def test_what_is_not_a_socket_is_left_alone(path: str) -> None:
    Path(path).write_text("precious")
    before = open_descriptors()
    with pytest.raises(Conflict, match="something that is not a socket"):
        listen(path, group="")
    assert Path(path).read_text() == "precious"
    assert open_descriptors() == before


def test_a_link_is_not_followed(tmp_path: Path, path: str) -> None:
    victim = tmp_path / "victim.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(victim))
    os.symlink(victim, path)
    with pytest.raises(Conflict, match="something that is not a socket"):
        listen(path, group="")
    os.unlink(path)
    os.unlink(path + ".lock")
    os.symlink(victim, path + ".lock")
    with pytest.raises(Unavailable, match="Too many levels of symbolic links"):
        listen(path, group="")
    assert victim.exists()


@pytest.mark.parametrize(("mode", "trusted"), [(0o777, False), (0o1777, True), (0o775, True), (0o700, True)])
def test_a_directory_in_which_all_may_write_is_refused(tmp_path: Path, mode: int, trusted: bool) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    directory.chmod(mode)
    if trusted:
        listen(f"{directory}/podd.sock", group="").__exit__(None, None, None)
    else:
        with pytest.raises(Denied, match="others may replace what is in it"):
            listen(f"{directory}/podd.sock", group="")


@pytest.mark.root
def test_a_directory_of_someone_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 4711, 4711)
    with pytest.raises(Denied, match="others may replace what is in it"):
        listen(f"{tmp_path}/podd.sock", group="")


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="longer than the 107 bytes"):
        listen(f"{tmp_path}/{'x' * 107}", group="")


def test_the_socket_of_a_successor_is_not_removed(path: str) -> None:
    with listen(path, group=""):
        os.unlink(path)
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(path)
    assert os.path.exists(path)
    successor.close()


def test_only_a_listening_unix_stream_socket_is_inherited(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET)
    with ours, theirs, datagram, tcp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        for sock in (ours, datagram, tcp):
            with pytest.raises(Invalid, match="not a listening Unix stream socket"):
                inherit(sock)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        with inherit(sock) as listener:
            assert listener.sock is sock
    assert (tmp_path / "s").exists(), "the file is the service manager's"
