"""The driver's own section of the configuration, [drivers.docker]."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec

from podd.errors import Invalid
from podd.linux.cgroup.group import parts_of
from podd.model.value import Value


class Section(Value):
    """socket: dockerd's. network: what the holder of a pod's namespaces is connected to: "bridge", "none", or the name
        of a network of dockerd's.
    cgroup_parent: the group in which pods get theirs, from the hierarchies' mount points; "" lets podd choose: the
        setns driver's with "-docker" after it.
    exec_root: dockerd's --exec-root, where its OCI runtime keeps what exec needs.
    runtime: of dockerd's runtimes, the one by which members share uts: see podd-cli docker setup; "" for its default.
    deadline_s: how long dockerd may take to answer. Pulling an image has pull_deadline_s.
    """

    socket: str = "/var/run/docker.sock"
    network: str = "bridge"
    cgroup_parent: str = ""
    exec_root: str = "/var/run/docker"
    runtime: str = ""
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 30.0
    pull_deadline_s: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 600.0
    log_max_bytes: Annotated[int, msgspec.Meta(ge=4096)] | None = None
    log_max_files: Annotated[int, msgspec.Meta(ge=2, le=1000)] | None = None


def parse(name: str, section: Mapping[str, Any]) -> Section:
    """Raises Invalid, naming the key."""
    known = Section.__struct_fields__
    for key in section:
        if key not in known:
            near = get_close_matches(key, known, 1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise Invalid(f"drivers.{name}.{key}: unknown key", remedy=remedy)
    try:
        parsed = msgspec.convert(dict(section), Section)
    except msgspec.ValidationError as exc:
        what, _, where = str(exc).partition(" - at `$.")
        raise Invalid(f"drivers.{name}.{where.rstrip('`')}: {what[:1].lower()}{what[1:]}") from exc
    for key in ("socket", "exec_root"):
        if not getattr(parsed, key).startswith("/"):
            raise Invalid(f"drivers.{name}.{key}: is not an absolute path", remedy="give a path that begins with /")
    if parsed.network in ("host", "") or parsed.network.startswith("container:"):
        raise Invalid(
            f'drivers.{name}.network: "{parsed.network}" is no network of a pod',
            remedy='use "bridge", "none" or the name of a network; a pod has the host\'s by spec.hostNetwork',
        )
    if parsed.cgroup_parent:
        parts_of(parsed.cgroup_parent)
    return parsed
