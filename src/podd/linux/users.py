"""Who a user is, by the /etc/passwd and /etc/group of a container: files that the container's image wrote.

They are read through `inroot` and bounded. What is not there or makes no sense is as if it were not written; that the
file as a whole cannot be read safely is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from podd.errors import Invalid
from podd.linux.inroot import Root

MAX_ID = 2**32 - 2
"""(uid_t) -1 is "no change" to the kernel, so it is nobody's."""

LIMIT_BYTES = 1024 * 1024


class User(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def parse_id(text: str) -> int | None:
    """A uid or gid as decimal digits, 0..MAX_ID; None for anything else."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    number = int(text)
    return number if number <= MAX_ID else None


def parse_passwd(text: str) -> Iterator[User]:
    """name:password:uid:gid:gecos:home:shell. Source: passwd(5)."""
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) < 6 or not fields[0]:
            continue
        uid, gid = parse_id(fields[2]), parse_id(fields[3])
        if uid is not None and gid is not None:
            yield User(fields[0], uid, gid, fields[5])


def parse_group(text: str) -> Iterator[Group]:
    """name:password:gid:member,member. Source: group(5)."""
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) < 4 or not fields[0]:
            continue
        gid = parse_id(fields[2])
        if gid is not None:
            yield Group(fields[0], gid, tuple(name for name in fields[3].strip().split(",") if name))


def find_user(root: Root, uid: int) -> User | None:
    """The first entry of that number."""
    return next((user for user in parse_passwd(_read(root, "etc/passwd")) if user.uid == uid), None)


def groups_of(root: Root, name: str) -> tuple[int, ...]:
    """The groups that list the user as a member, in order, each once."""
    found = (group.gid for group in parse_group(_read(root, "etc/group")) if name in group.members)
    return tuple(dict.fromkeys(found))


def _read(root: Root, path: str) -> str:
    try:
        return root.read(path, LIMIT_BYTES).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as exc:
        raise Invalid(f"/{path} in the container: {exc.strerror}", remedy="repair the file in the image") from exc
