"""A driver that runs the members of a pod as programs of the host: no namespaces, no images, only control groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podd.driver.contract import Driver
from podd.driver.hookspecs import DriverFactory, DriverPaths, hookimpl

PODD_CONTRACT_VERSION = 1


@hookimpl
def podd_drivers() -> Mapping[str, DriverFactory]:
    return {"process": _make}


def _make(name: str, section: Mapping[str, Any], paths: DriverPaths) -> Driver:
    from podd_process.driver import ProcessDriver  # only what is used is imported

    return ProcessDriver(name, section, paths)
