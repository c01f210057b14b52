"""The drivers of this podd: which one runs a pod, and how they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podd.core import needs
from podd.driver.contract import Driver
from podd.engine import recovery
from podd.engine.view import DriverReport
from podd.errors import Invalid, PoddError
from podd.model.pod import Pod

PROBE_S = 10


class Drivers:
    """Which driver runs a pod."""

    def __init__(self, drivers: Mapping[str, Driver], broken: Mapping[str, str], default: str) -> None:
        self._drivers = drivers
        self._broken = broken
        self._default = default

    def name_for(self, pod: Pod) -> str:
        return pod.spec.runtime_class_name or self._default

    def for_new(self, pod: Pod) -> Driver:
        """Raises Invalid: there is none such; Unsupported: it cannot run this pod."""
        name = self.name_for(pod)
        found = self._drivers.get(name)
        if found is None:
            known = ", ".join(self._drivers) or "none"
            why = self._broken.get(name, "there is no such driver")
            remedy = f"drivers here: {known}"
            if pod.spec.runtime_class_name:
                field = "spec.runtimeClassName"
                raise Invalid(f"{field}: {name}: {why}", remedy=remedy, field=field)
            raise Invalid(f"default_driver: {name}: {why}", remedy=remedy)
        needs.check(pod, name, {each: driver.capabilities for each, driver in self._drivers.items()})
        return found


async def reports(drivers: Mapping[str, Driver], broken: Mapping[str, str], default: str) -> Sequence[DriverReport]:
    """Of all that were found, broken ones included. Probes them."""
    found = []
    for name, driver in drivers.items():
        try:
            health = await recovery.answer(driver.probe(), PROBE_S)
        except PoddError as exc:
            health = recovery.no_health(f"probe: {exc}")
        is_default = name == default
        found.append(DriverReport(name=name, is_default=is_default, health=health, capabilities=driver.capabilities))
    for name, reason in broken.items():
        health = recovery.no_health(reason)
        found.append(DriverReport(name=name, is_default=False, health=health, capabilities=None))
    return found
