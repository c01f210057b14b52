"""podd's own driver: namespaces, cgroups and mounts made directly by a shim for each pod, with no container runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podd.driver.contract import Driver
from podd.driver.hookspecs import DriverFactory, DriverPaths, hookimpl

PODD_CONTRACT_VERSION = 1


@hookimpl
def podd_drivers() -> Mapping[str, DriverFactory]:
    return {"setns": _make}


def _make(name: str, section: Mapping[str, Any], paths: DriverPaths) -> Driver:
    from podd_setns.driver import SetnsDriver  # noqa: PLC0415 only what is used is imported

    return SetnsDriver(name, section, paths)
