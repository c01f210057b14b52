"""What dockerd tells of one container, in podd's terms. Pure."""

from __future__ import annotations

import ipaddress
import json
import signal
from collections.abc import Mapping
from typing import Any

import msgspec

from podd.driver.contract import Exit, NamespaceScopes
from podd_docker import groups, plans
from podd_docker.handles import ContainerState
from podd_docker.logs import Log
from podd_docker.times import known


class Found:
    """An answer to inspect."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = told
        self._state: Mapping[str, Any] = told["State"]
        self.docker_id: str = told["Id"]
        self.labels: Mapping[str, str] = told["Config"].get("Labels") or {}
        self.tty: bool = told["Config"].get("Tty", False)

    @property
    def id(self) -> str:
        return self.labels.get(plans.ID, "")

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return int(self._state.get("Pid") or 0)

    @property
    def is_running(self) -> bool:
        return bool(self._state.get("Running")) and self.pid > 0

    @property
    def has_ended(self) -> bool:
        """Also: could not be started."""
        return not self._state.get("Running") and (self.started_at_ns is not None or bool(self._state.get("Error")))

    @property
    def started_at_ns(self) -> int | None:
        return known(self._state.get("StartedAt", ""))

    @property
    def image_id(self) -> str:
        return str(self._told.get("Image", ""))

    @property
    def error(self) -> str:
        return str(self._state.get("Error") or "")

    # ---- of a holder

    @property
    def cgroup(self) -> str:
        return str(self._shape["cgroup"])

    @property
    def hostname(self) -> str:
        return str(self._shape["hostname"])

    @property
    def namespaces(self) -> NamespaceScopes:
        return msgspec.convert(self._shape["namespaces"], NamespaceScopes)

    @property
    def made_with(self) -> str:
        """The OCI runtime that its members get; "" for dockerd's default."""
        return str(self._shape.get("runtime", ""))

    @property
    def shares_uts(self) -> bool:
        return bool(self.made_with) and self.namespaces.uts == "pod" and self.namespaces.net == "pod"

    @property
    def addresses(self) -> tuple[str, ...]:
        networks = (self._told.get("NetworkSettings", {}).get("Networks") or {}).values()
        given = [one.get(key) for one in networks for key in ("IPAddress", "GlobalIPv6Address")]
        return tuple(str(ipaddress.ip_address(address)) for address in given if address)

    @property
    def _shape(self) -> Mapping[str, Any]:
        shape: Mapping[str, Any] = json.loads(self.labels[plans.SHAPE])
        return shape

    # ---- of a member

    @property
    def layer(self) -> str:
        """The directory with what it has written into its root; "" where dockerd's storage has none."""
        data = (self._told.get("GraphDriver") or {}).get("Data") or {}
        return str(data.get("UpperDir") or "")

    def member(self) -> ContainerState:
        pod = groups.of_parent(self._told["HostConfig"]["CgroupParent"])
        return ContainerState(
            sandbox=self.labels[plans.SANDBOX],
            name=self.labels[plans.NAME],
            docker_id=self.docker_id,
            cgroup=groups.of_container(pod, self.docker_id),
        )

    @property
    def log(self) -> Log | None:
        log = msgspec.json.decode(self.labels.get(plans.LOG, "{}"))
        return msgspec.convert(log, Log) if log.get("path") else None

    def exit(self, started: int | None) -> Exit:
        """started: when its program was, CLOCK_REALTIME in ns; None: it never was.

        dockerd gives 128 + the signal for an end by a signal, and does not tell that from a program's own code.
        """
        code = int(self._state.get("ExitCode") or 0) & 0xFF
        if started is None:
            return Exit(code=code or 128, reason="StartError", message=self.error or "it ended before it was started")
        finished = known(self._state.get("FinishedAt", "")) or started
        return Exit(
            code=code,
            signal=code - 128 if 128 < code < 128 + signal.NSIG else 0,
            oom_killed=bool(self._state.get("OOMKilled")),
            started_at_ns=started,
            finished_at_ns=max(started, finished),  # written by two programs: a short life may seem negative
        )
