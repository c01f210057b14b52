"""What every driver that makes pods on this host takes from its own section of the configuration, [drivers.NAME]."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

import msgspec

from podd.errors import Invalid
from podd.linux.cgroup.group import parts_of
from podd.model.value import Value


class Section(Value):
    """cgroup_parent: the group in which pods get theirs, from the hierarchies' mount points; "" lets podd choose: the
        group that systemd handed over to podd.service, else "podd".
    log_max_bytes, log_max_files: instead of what podd asks for, when a container's log is rotated and how many files
        of it are kept, the current one included.
    """

    cgroup_parent: str = ""
    log_max_bytes: Annotated[int, msgspec.Meta(ge=4096)] | None = None
    log_max_files: Annotated[int, msgspec.Meta(ge=2, le=1000)] | None = None


S = TypeVar("S", bound=Section)


def parse(name: str, section: Mapping[str, Any], kind: type[S]) -> S:
    """kind: Section, or what a driver adds to it. Raises Invalid, naming the key."""
    known = kind.__struct_fields__
    for key in section:
        if key not in known:
            near = get_close_matches(key, known, 1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise Invalid(f"drivers.{name}.{key}: unknown key", remedy=remedy)
    try:
        parsed = msgspec.convert(dict(section), kind)
    except msgspec.ValidationError as exc:
        what, _, where = str(exc).partition(" - at `$.")
        raise Invalid(f"drivers.{name}.{where.rstrip('`')}: {what[:1].lower()}{what[1:]}") from exc
    if parsed.cgroup_parent:
        try:
            parts_of(parsed.cgroup_parent)
        except Invalid as exc:
            raise Invalid(
                f"drivers.{name}.cgroup_parent: {exc.message}", remedy='give a path such as "podd", without a leading /'
            ) from exc
    return parsed
