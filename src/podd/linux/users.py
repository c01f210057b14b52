"""Who a user is, by the /etc/passwd and /etc/group of a container: files that the container's image wrote.

They are read through `inroot` and bounded. What is not there or makes no sense is as if it were not written; that the
file as a whole cannot be read safely is an error.
"""

from __future__ import annotations

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


def parse_passwd(line: str) -> User | None:
    """name:password:uid:gid:gecos:home:shell; None for what is no such line. Source: passwd(5)."""
    fields = line.split(":")
    if len(fields) < 6 or not fields[0]:
        return None
    uid, gid = parse_id(fields[2]), parse_id(fields[3])
    return None if uid is None or gid is None else User(fields[0], uid, gid, fields[5])


def parse_group(line: str) -> Group | None:
    """name:password:gid:member,member; None for what is no such line. Source: group(5)."""
    fields = line.split(":")
    if len(fields) < 4 or not fields[0]:
        return None
    gid = parse_id(fields[2])
    return None if gid is None else Group(fields[0], gid, tuple(name for name in fields[3].split(",") if name))


def find_user(root: Root, who: int | str) -> User | None:
    """The first entry of that number, or of that name."""
    users = map(parse_passwd, _lines(root, "etc/passwd"))
    return next((user for user in users if user is not None and who in (user.uid, user.name)), None)


def find_group(root: Root, name: str) -> Group | None:
    """The first entry of that name."""
    groups = map(parse_group, _lines(root, "etc/group"))
    return next((group for group in groups if group is not None and group.name == name), None)


def groups_of(root: Root, name: str) -> tuple[int, ...]:
    """The groups that list the user as a member, in order, each once."""
    groups = (parse_group(line) for line in _lines(root, "etc/group") if name in line)
    return tuple(dict.fromkeys(group.gid for group in groups if group is not None and name in group.members))


def _lines(root: Root, path: str) -> list[str]:
    try:
        return root.read(path, LIMIT_BYTES).decode("utf-8", "surrogateescape").split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise Invalid(f"/{path} in the container: {exc.strerror}", remedy="repair the file in the image") from exc
