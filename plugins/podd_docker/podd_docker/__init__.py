"""podd's driver on dockerd: a pod is a holder of namespaces, from podd's own image, and containers that join it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podd.driver.contract import Driver
from podd.driver.hookspecs import DriverFactory, DriverPaths, hookimpl

PODD_CONTRACT_VERSION = 1


@hookimpl
def podd_drivers() -> Mapping[str, DriverFactory]:
    return {"docker": _make}


def _make(name: str, section: Mapping[str, Any], paths: DriverPaths) -> Driver:
    from podd_docker.driver import DockerDriver  # noqa: PLC0415 only what is used is imported

    return DockerDriver(name, section, paths)
