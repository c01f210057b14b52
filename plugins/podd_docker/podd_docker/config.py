"""The driver's own section of the configuration, [drivers.docker]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from podd.errors import Invalid
from podd.supervision import section as common


class Section(common.Section):
    """As every driver's on this host, and more.

    socket: dockerd's. network: what the holder of a pod's namespaces is connected to: "bridge", "none", or the name
        of a network of dockerd's.
    cgroup_parent: "" lets podd choose: the setns driver's with "-docker" after it; where dockerd has the systemd cgroup
        driver, the name of a slice, and podd.slice if none is given.
    exec_root: dockerd's --exec-root, where its OCI runtime keeps what exec needs.
    runtime: of dockerd's runtimes, the one by which members are held and share uts: see podd-cli docker setup; "" for
        its default.
    deadline_s: how long dockerd may take to answer. Pulling an image has pull_deadline_s.
    """

    socket: str = "/var/run/docker.sock"
    network: str = "bridge"
    exec_root: str = "/var/run/docker"
    runtime: str = ""
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 30.0
    pull_deadline_s: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 600.0

    @property
    def is_resolving(self) -> bool:
        """dockerd itself answers for names in this network; else pods ask whom the host asks."""
        return self.network not in ("bridge", "none")


def parse(name: str, section: Mapping[str, Any]) -> Section:
    """Raises Invalid, naming the key."""
    parsed = common.parse(name, section, Section)
    for key in ("socket", "exec_root"):
        if not getattr(parsed, key).startswith("/"):
            raise Invalid(f"drivers.{name}.{key}: is not an absolute path", remedy="give a path that begins with /")
    if parsed.network in ("host", "") or parsed.network.startswith("container:"):
        raise Invalid(
            f'drivers.{name}.network: "{parsed.network}" is no network of a pod',
            remedy='use "bridge", "none" or the name of a network; a pod has the host\'s by spec.hostNetwork',
        )
    return parsed
