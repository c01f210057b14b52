"""The drivers that the configuration asks for: made, entered, made again where it changes, and left when podd ends.

A runtime class is a driver of its own: another instance, by the name of the class, with the section of the class over
that of the driver. A stranger's driver that breaks costs only itself, and is shown with the reason.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus
from msgspec.structs import replace

from podd.config import Config
from podd.driver.contract import Driver
from podd.driver.hookspecs import DriverPaths
from podd.driver.plugins import Discovered
from podd.engine.drivers import Choice, Drivers
from podd.errors import Invalid, PoddError, Unavailable
from podd.model.value import Value

log = structlog.get_logger()

ENTER_S = 30
"""How long a driver may take to be entered. Real ones take some ten milliseconds."""


class Recipe(Value):
    """How to make one. section: as the driver gets it."""

    driver: str
    section: Mapping[str, Any] = {}


def recipes(settings: Config, found: Discovered) -> dict[str, Recipe]:
    """By name: each driver that a plugin offers, and each runtime class.

    Raises Invalid: a section, or default_driver, is of none of them. Where a plugin could not be loaded, the driver may
    be its own, and podd does without.
    """
    made = {name: Recipe(driver=name, section=settings.drivers.get(name, {})) for name in found.drivers}
    for name, one in settings.runtime_classes.items():
        if name in found.drivers:
            raise Invalid(f"runtime_classes.{name}: is the name of a driver", remedy="give the class another name")
        made[name] = Recipe(driver=one.driver, section={**settings.drivers.get(one.driver, {}), **one.section})
    asked = {f"drivers.{name}": name for name in settings.drivers if name not in found.drivers}
    if settings.default_driver not in made:
        asked[f"default_driver: {settings.default_driver}"] = settings.default_driver
    for key, name in asked.items():
        if not found.broken:
            raise Invalid(f"{key}: no such driver", remedy=_instead(name, made))
        made.setdefault(name, Recipe(driver=name))
    return made


def _instead(name: str, there: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, there, 1)
    return f"did you mean {near[0]}?" if near else f"drivers here: {', '.join(there) or 'none'}"


def _told(exc: BaseException) -> str:
    """Of several that came together, the first."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return str(exc) if isinstance(exc, PoddError) else f"{type(exc).__name__}: {exc}"


class Backends:
    """Make it before the event loop: it raises Invalid where a section is wrong, so that podd does not start."""

    def __init__(self, settings: Config, found: Discovered, paths: DriverPaths) -> None:
        self._found = found
        self._paths = paths
        self._recipes = recipes(settings, found)
        self._made, self._broken = self._make(self._recipes)
        self._settings = settings
        self._entered: dict[str, Driver] = {}

    async def enter(self, tasks: TaskGroup) -> Drivers:
        """tasks: where drivers live until `leave`."""
        self._tasks = tasks
        self._leave = anyio.Event()
        self._drivers = Drivers(self._choice(), self._found.left_out)
        self._entered, broken = await self._enter(self._made)
        self._broken |= broken
        self._drivers.offer(self._choice())
        return self._drivers

    async def change(self, settings: Config) -> None:
        """For new pods. What has not changed stays; an earlier instance stays for the pods that it made.

        Raises Invalid: a section is wrong; nothing is changed then.
        """
        wanted = recipes(settings, self._found)
        fresh = {name: recipe for name, recipe in wanted.items() if self._recipes.get(name) != recipe}
        made, broken = self._make(fresh)
        entered, not_entered = await self._enter(made)
        kept = wanted.keys() - fresh.keys()
        self._broken = {name: why for name, why in self._broken.items() if name in kept} | broken | not_entered
        self._entered = {name: driver for name, driver in self._entered.items() if name in kept} | entered
        self._recipes, self._settings = wanted, settings
        self._drivers.offer(self._choice())

    def leave(self) -> None:
        """What they run, runs on where `outlives_podd` is declared."""
        self._leave.set()

    def _choice(self) -> Choice:
        return Choice(
            drivers=self._entered,
            default=self._settings.default_driver,
            broken=self._broken,
            classes={name: one.driver for name, one in self._settings.runtime_classes.items()},
        )

    def _make(self, wanted: Mapping[str, Recipe]) -> tuple[dict[str, Driver], dict[str, str]]:
        made, broken = {}, {}
        for name, recipe in wanted.items():
            try:
                made[name] = self._one(name, recipe)
            except Invalid:
                raise  # the configuration is wrong: whoever wrote it is there to mend it
            except PoddError as exc:
                broken[name] = str(exc)
        return made, broken

    def _one(self, name: str, recipe: Recipe) -> Driver:
        if recipe.driver not in self._found.drivers:
            raise Unavailable(
                f"driver {recipe.driver}: no plugin that works offers it", remedy="install it, or name another"
            )
        try:
            return self._found.make(recipe.driver, recipe.section, self._places(name), called=name)
        except Invalid as exc:
            if name == recipe.driver:
                raise
            message = exc.message.replace(f"drivers.{name}", f"runtime_classes.{name}")
            raise Invalid(message, remedy=exc.remedy, **exc.facts) from exc

    def _places(self, name: str) -> DriverPaths:
        """A class has places of its own, so that what lies there is known to be its own."""
        if name in self._found.drivers:
            return self._paths
        apart = {key: f"{getattr(self._paths, key)}/classes/{name}" for key in ("run_dir", "state_dir")}
        return replace(self._paths, **apart)

    async def _enter(self, made: Mapping[str, Driver]) -> tuple[dict[str, Driver], dict[str, str]]:
        entered, broken = {}, {}
        for name, driver in made.items():
            why: str | None = f"not ready within {ENTER_S} s"
            with anyio.move_on_after(ENTER_S):
                why = await self._tasks.start(self._live, driver)
            if why is None:
                entered[name] = driver
            else:
                log.error("driver.broken", driver=name, error=why)
                broken[name] = why
        return entered, broken

    async def _live(self, driver: Driver, *, task_status: TaskStatus[str | None]) -> None:
        """Its life, in one task from end to end, as what it holds may ask for. Tells why it cannot be entered."""
        is_entered = False
        try:
            places = self._places(driver.name)
            for path in (places.run_dir, places.state_dir):
                os.makedirs(path, 0o700, exist_ok=True)
            async with driver:
                is_entered = True
                task_status.started(None)
                await self._leave.wait()
        except Exception as exc:  # noqa: BLE001  a stranger's code costs only itself
            why = _told(exc)
            if not is_entered:
                task_status.started(why)
                return
            log.error("driver.broken", driver=driver.name, error=why)
            self._lose(driver, why)

    def _lose(self, driver: Driver, why: str) -> None:
        """Something of it that runs in the background has failed: it will answer no more."""
        self._drivers.drop(driver)
        if self._entered.get(driver.name) is driver:
            self._entered = {name: one for name, one in self._entered.items() if one is not driver}
            self._broken = {**self._broken, driver.name: why}
            self._drivers.offer(self._choice())
