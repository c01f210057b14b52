"""The /etc/passwd and /etc/group of a container: whatever they hold, the answer is a sane user or none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podd.errors import Invalid
from podd.linux.inroot import Root
from podd.linux.users import (
    LIMIT_BYTES,
    MAX_ID,
    User,
    find_group,
    find_user,
    groups_of,
    parse_group,
    parse_id,
    parse_passwd,
)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


@pytest.fixture
def root(etc: Path) -> Iterator[Root]:
    with Root.at(str(etc.parent)) as root:
        yield root


IDS: dict[str, int | None] = {
    "0": 0,
    "1000": 1000,
    "4294967294": MAX_ID,
    "4294967295": None,
    "4294967296": None,
    "99999999999999999999999999": None,
    "-1": None,
    "+1": None,
    " 1": None,
    "1 ": None,
    "1\n": None,
    "0x10": None,
    "1_000": None,
    "٣": None,
    "²": None,
    "": None,
}


@pytest.mark.parametrize(("text", "number"), IDS.items(), ids=repr)
def test_parse_id(text: str, number: int | None) -> None:
    assert parse_id(text) == number


@given(st.text())
def test_any_line_is_a_user_in_range_or_none(line: str) -> None:
    user = parse_passwd(line)
    assert user is None or (0 <= user.uid <= MAX_ID and 0 <= user.gid <= MAX_ID and user.name)
    group = parse_group(line)
    assert group is None or (0 <= group.gid <= MAX_ID and group.name)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_file_is_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    place = tmp_path_factory.mktemp("root")
    (place / "etc").mkdir()
    (place / "etc/passwd").write_bytes(content)
    (place / "etc/group").write_bytes(content)
    with Root.at(str(place)) as root:
        find_user(root, 0)
        groups_of(root, "root")


def test_first_entry_of_a_number_counts(etc: Path, root: Root) -> None:
    (etc / "passwd").write_text("# a comment\n\nbad:x:1::\na:x:1:2::/a:\nb:x:1:3::/b:\n")
    assert find_user(root, 1) == User("a", 1, 2, "/a")
    assert find_user(root, 2) is None


def test_first_entry_of_a_name_counts(etc: Path, root: Root) -> None:
    (etc / "passwd").write_text("1:x:7:7::/seven:\na:x:1:2::/a:\na:x:2:3::/b:\n")
    (etc / "group").write_text("web:x:::\nweb:x:33:app\nweb:x:34:\n")
    assert find_user(root, "a") == User("a", 1, 2, "/a")
    assert find_user(root, "b") is None
    assert find_user(root, 1) == User("a", 1, 2, "/a"), "a name made of digits is no number"
    group = find_group(root, "web")
    assert group is not None
    assert group.gid == 33
    assert find_group(root, "we") is None


def test_groups_each_once_and_by_whole_name(etc: Path, root: Root) -> None:
    (etc / "group").write_text("a:x:1:app\nb:x:2:other,app,\nc:x:1:app\nd:x:3:apple,happy\ne:x:4:\napp:x:5:\n")
    assert groups_of(root, "app") == (1, 2)


def test_missing_files_are_empty(root: Root) -> None:
    assert find_user(root, 0) is None
    assert groups_of(root, "root") == ()


def test_file_that_is_too_large_is_refused(etc: Path, root: Root) -> None:
    (etc / "passwd").write_text("root:x:0:0::/root:\n".ljust(LIMIT_BYTES + 1, "#"))
    with pytest.raises(Invalid, match=f"/etc/passwd in the container: larger than {LIMIT_BYTES} bytes"):
        find_user(root, 0)


def test_fifo_is_refused_without_waiting(etc: Path, root: Root) -> None:
    os.mkfifo(etc / "group")
    with pytest.raises(Invalid, match="/etc/group in the container: not a regular file"):
        groups_of(root, "root")
