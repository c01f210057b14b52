"""The drivers of this podd: which one runs a pod, and how they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import anyio

from podd.core import needs
from podd.core.state import PodState
from podd.driver.contract import CanNetwork, Driver, Health, NetworkStatus
from podd.engine import recovery
from podd.engine.view import DriverReport
from podd.errors import Internal, Invalid, PoddError
from podd.model.pod import Pod
from podd.model.value import Value

PROBE_S = 10


class Choice(Value):
    """What a configuration offers to new pods. Drivers and runtime classes are chosen alike, by their names."""

    drivers: Mapping[str, Driver]
    default: str
    broken: Mapping[str, str] = {}  # why a driver or class of that name is not to be had
    classes: Mapping[str, str] = {}  # the driver that a runtime class is of; it may be broken


class Drivers:
    """Which driver runs a pod. Another choice holds for new pods: one that is there keeps the driver that made it."""

    def __init__(self, choice: Choice, left_out: Callable[[], Mapping[str, str]] = dict) -> None:
        """left_out: plugins that are of no use, by their names, and why, as of now."""
        self.choice = choice
        self._left_out = left_out
        self._ever = list(choice.drivers.values())

    def __iter__(self) -> Iterator[Driver]:
        """Those of earlier choices too."""
        return iter(self._ever)

    def offer(self, choice: Choice) -> None:
        """From now on."""
        self.choice = choice
        self._ever += [one for one in choice.drivers.values() if not any(one is known for known in self._ever)]

    def drop(self, driver: Driver) -> None:
        """It has broken: nobody is to ask it any more, and those whose pods it runs are told by its own errors."""
        self._ever = [one for one in self._ever if one is not driver]

    def name_for(self, pod: Pod) -> str:
        return pod.spec.runtime_class_name or self.choice.default

    def for_new(self, pod: Pod) -> Driver:
        """Raises Invalid: there is none such; Unsupported: it cannot run this pod."""
        name = self.name_for(pod)
        found = self.choice.drivers.get(name)
        if found is None:
            why = self._broken().get(name, "there is no such driver or runtime class")
            remedy = f"here are: {', '.join(self.choice.drivers) or 'none'}"
            if pod.spec.runtime_class_name:
                field = "spec.runtimeClassName"
                raise Invalid(f"{field}: {name}: {why}", remedy=remedy, field=field)
            raise Invalid(f"default_driver: {name}: {why}", remedy=remedy)
        self.check(pod, found)
        return found

    def check(self, pod: Pod, driver: Driver) -> None:
        """Raises Unsupported: it cannot run this pod."""
        others = {name: one.capabilities for name, one in self.choice.drivers.items()}
        needs.check(pod, driver.name, {**others, driver.name: driver.capabilities})

    def that_made(self, state: PodState) -> Driver:
        """Whatever the configuration says today; one that is not there is stood in for."""
        for driver in reversed(self._ever):
            if driver.name == state.driver:
                return driver
        reason = self._broken().get(state.driver, "is not installed, and no runtime class has this name")
        remedy = f"install it, or configure [runtime_classes.{state.driver}], as it was; then restart podd"
        return recovery.Absent(state.driver, reason, remedy)

    # ---- how they are

    async def network_of(self, driver: Driver) -> NetworkStatus | None:
        """Whether new pods of it get addresses now. None: it gives none. A stranger's code: there is an answer."""
        if not driver.capabilities.network or not isinstance(driver, CanNetwork):
            return None
        try:
            found = await recovery.answer(driver.network_status(), PROBE_S)
            if not isinstance(found, NetworkStatus):
                raise Internal(f"answered {type(found).__name__}, not NetworkStatus")
        except PoddError as exc:
            return NetworkStatus(ready=False, reason=f"network_status: {exc.message}", remedy=exc.remedy)
        return found

    async def reports(self) -> Sequence[DriverReport]:
        """Of all that were found, broken ones included. Probes them, all at once."""
        found: dict[str, DriverReport] = {}

        async def look(name: str, driver: Driver) -> None:
            found[name] = self._report(name, await _health(driver), driver, await self.network_of(driver))

        async with anyio.create_task_group() as tasks:
            for name, driver in self.choice.drivers.items():
                tasks.start_soon(look, name, driver)
        broken = [self._report(name, recovery.no_health(reason), None) for name, reason in self._broken().items()]
        return [*(found[name] for name in sorted(found)), *broken]

    def _broken(self) -> dict[str, str]:
        return {**self._left_out(), **self.choice.broken}

    def _report(
        self, name: str, health: Health, driver: Driver | None, network: NetworkStatus | None = None
    ) -> DriverReport:
        return DriverReport(
            name=name,
            driver=self.choice.classes.get(name, name),
            is_default=name == self.choice.default,
            health=health,
            capabilities=driver.capabilities if driver else None,
            network=network,
        )


async def _health(driver: Driver) -> Health:
    """A stranger's code: whatever it does, there is an answer."""
    try:
        health = await recovery.answer(driver.probe(), PROBE_S)
        if not isinstance(health, Health):
            raise Internal(f"answered {type(health).__name__}, not Health")
    except PoddError as exc:
        return recovery.no_health(f"probe: {exc}")
    return health
