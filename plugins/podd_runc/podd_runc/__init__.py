"""Containers made by an OCI runtime, runc or crun, in the namespaces and under the supervision of podd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podd.driver.contract import Driver
from podd.driver.hookspecs import DriverFactory, DriverPaths, hookimpl

PODD_CONTRACT_VERSION = 1


@hookimpl
def podd_drivers() -> Mapping[str, DriverFactory]:
    return {"runc": _make}


def _make(name: str, section: Mapping[str, Any], paths: DriverPaths) -> Driver:
    from podd_runc.driver import RuncDriver  # noqa: PLC0415 only what is used is imported

    return RuncDriver(name, section, paths)
