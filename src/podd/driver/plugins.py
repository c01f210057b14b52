"""Finding plugins by entry points and calling them, each behind a guard of its own.

A plugin that cannot be loaded, or offers what cannot be used, is recorded with its reason and left out; it never stops
podd. `podd-cli drivers` shows the record.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from inspect import isawaitable, iscoroutine
from types import FrameType
from typing import Any

import pluggy
import structlog

from podd.driver import hookspecs
from podd.driver.contract import (
    CONTRACT_VERSION,
    CanAttach,
    CanConnect,
    CanExec,
    CanImages,
    CanNetwork,
    CanPause,
    CanResize,
    CanStats,
    Capabilities,
    Driver,
)
from podd.driver.hookspecs import GROUP, DriverFactory, DriverPaths
from podd.errors import Internal, Invalid, PoddError
from podd.model.pod import Pod
from podd.model.value import Value

log = structlog.get_logger(__name__)

LOAD_LIMIT_S = 10.0
"""How long one plugin may take to import and register. Real ones take milliseconds."""


class Offer(Value):
    """A driver that some plugin offers."""

    name: str
    plugin: str  # the entry point's name
    distribution: str  # "podd-setns 0.1.0"; "" when it did not come from an installed distribution
    factory: DriverFactory


class Broken(Value):
    """A plugin that was left out."""

    plugin: str
    distribution: str
    reason: str


@dataclass(frozen=True, slots=True)
class Discovered:
    """What `discover` found. The manager holds the plugins that work; the order of names is the order of calls."""

    drivers: Mapping[str, Offer]
    broken: list[Broken]
    manager: pluggy.PluginManager
    _distributions: Mapping[str, str] = field(default_factory=dict)

    def make(self, name: str, section: Mapping[str, Any], paths: DriverPaths, *, called: str = "") -> Driver:
        """The driver of that name, made by its factory and found to have the powers that it declares.

        called: the name that it is to have instead, of a runtime class.
        Raises Invalid: no such driver, or the section is wrong (the factory's own words); Internal: the plugin broke.
        """
        offer = self.drivers.get(name)
        if offer is None:
            raise Invalid(f"drivers.{name}: no such driver", remedy=self._instead(), driver=name)
        try:
            driver = offer.factory(called or name, section, paths)
            wrong = _wrong(driver, called or name)
        except PoddError:
            raise
        except Exception as exc:
            raise Internal(
                f"drivers.{name}: plugin {offer.plugin} ({offer.distribution}) broke: {_told(exc)}", driver=name
            ) from exc
        if wrong:
            raise Internal(f"drivers.{name}: plugin {offer.plugin} ({offer.distribution}) {wrong}", driver=name)
        return driver

    def left_out(self) -> dict[str, str]:
        """Why, by the names of plugins, as of now."""
        return {one.plugin: one.reason for one in self.broken}

    def admit(self, pod: Pod) -> Pod:
        """The pod as the plugins let it pass. Raises what a plugin refused it with; Internal where one broke."""
        for plugin, call in self._callers("podd_admit"):
            try:
                answers = call(pod=pod)
                amended = _amended(pod, answers[0]) if answers else pod
            except PoddError:
                raise
            except Exception as exc:
                raise Internal(
                    f"pod {pod.metadata.name}: plugin {plugin} broke while admitting it: {_told(exc)}",
                    remedy=f"mend or uninstall {self._distributions.get(plugin) or plugin}",
                    plugin=plugin,
                ) from exc
            pod = amended
        return pod

    def observe(self, event: Mapping[str, Any]) -> None:
        """Tell every plugin. Never raises: one that does is recorded as broken and unregistered."""
        for plugin, call in self._callers("podd_observe"):
            try:
                _refuse_awaitables(call(event=event))
            except Exception as exc:  # noqa: BLE001  a stranger's code
                self.manager.unregister(name=plugin)
                self.broken.append(
                    Broken(
                        plugin=plugin,
                        distribution=self._distributions.get(plugin, ""),
                        reason=f"podd_observe: {_told(exc)}",
                    )
                )
                log.warning("plugin.dropped", plugin=plugin, hook="podd_observe", error=_told(exc))

    def _callers(self, hook: str) -> Iterator[tuple[str, Callable[..., list[Any]]]]:
        implemented = {impl.plugin_name for impl in getattr(self.manager.hook, hook).get_hookimpls()}
        for plugin in sorted(implemented):
            yield plugin, _only(self.manager, hook, plugin)

    def _instead(self) -> str:
        choice = f"one of: {', '.join(sorted(self.drivers))}" if self.drivers else "no plugin offers any driver"
        return "; ".join([choice, *(f"plugin {b.plugin} was left out: {b.reason}" for b in self.broken)])


def discover(found: Iterable[EntryPoint] | None = None) -> Discovered:
    """Load every plugin. found: instead of the installed entry points of group "podd". Call before the event loop."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    drivers: dict[str, Offer] = {}
    broken: list[Broken] = []
    distributions: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP) if found is None else found, key=lambda point: point.name):
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist else ""
        try:
            with _time_limit(LOAD_LIMIT_S):
                offered = _load(manager, point, distribution, taken=drivers)
        except (Exception, SystemExit) as exc:  # noqa: BLE001  a stranger's code
            if manager.has_plugin(point.name):
                manager.unregister(name=point.name)
            manager.set_blocked(point.name)
            broken.append(Broken(plugin=point.name, distribution=distribution, reason=_told(exc)))
            continue
        drivers |= offered
        distributions[point.name] = distribution
    return Discovered(drivers, broken, manager, distributions)


def missing_powers(driver: Driver) -> list[str]:
    """Capabilities that the driver declares without having the methods."""
    powers = {
        "exec": CanExec,
        "attach": CanAttach,
        "pause": CanPause,
        "stats": CanStats,
        "connect": CanConnect,
        "resize": CanResize,
        "images": CanImages,
        "network": CanNetwork,
    }
    return [
        name for name, power in powers.items() if getattr(driver.capabilities, name) and not isinstance(driver, power)
    ]


def _wrong(driver: Driver, name: str) -> str:
    """What a factory has made is a stranger's; "" where it will do."""
    if not isinstance(driver.capabilities, Capabilities):
        return f"declares {type(driver.capabilities).__name__}, not Capabilities"
    if missing := missing_powers(driver):
        return f"declares {', '.join(missing)} but lacks the methods"
    if driver.name != name:
        return f"calls its driver {driver.name}, and not {name} as it was told"
    return ""


def _load(
    manager: pluggy.PluginManager, point: EntryPoint, distribution: str, taken: Mapping[str, Offer]
) -> dict[str, Offer]:
    if manager.has_plugin(point.name):
        raise ValueError("another distribution has a plugin of this name")
    plugin = point.load()
    version = getattr(plugin, "PODD_CONTRACT_VERSION", None)
    if version != CONTRACT_VERSION:
        wrong = "has no PODD_CONTRACT_VERSION" if version is None else f"is written for contract version {version}"
        raise ValueError(f"{wrong}; this podd has version {CONTRACT_VERSION}")
    manager.register(plugin, name=point.name)
    manager.check_pending()  # without it a misspelt hook is silent
    offered: dict[str, Offer] = {}
    for answer in _refuse_awaitables(_only(manager, "podd_drivers", point.name)()):
        for name, factory in answer.items():
            if name in taken:
                raise ValueError(f"offers driver {name}, which plugin {taken[name].plugin} has offered already")
            if not callable(factory):
                raise TypeError(f"offers driver {name} without a factory: {factory!r}")
            offered[name] = Offer(name=name, plugin=point.name, distribution=distribution, factory=factory)
    return offered


def _only(manager: pluggy.PluginManager, hook: str, plugin: str) -> Callable[..., list[Any]]:
    """The hook, called for this plugin alone, so that its failure costs nobody else's answer."""
    others = [other for name, other in manager.list_name_plugin() if name != plugin and other is not None]
    caller: Callable[..., list[Any]] = manager.subset_hook_caller(hook, others)
    return caller


def _refuse_awaitables(answers: list[Any]) -> list[Any]:
    """Hooks are synchronous: an async one comes back as a coroutine that nobody would await."""
    for answer in answers:
        if iscoroutine(answer):
            answer.close()
        if isawaitable(answer):
            raise TypeError("the hook is async; hooks are plain functions")
    return answers


def _amended(pod: Pod, answer: object) -> Pod:
    _refuse_awaitables([answer])
    if not isinstance(answer, Pod):
        raise TypeError(f"podd_admit answered {type(answer).__name__}, not a Pod or None")
    before, after = pod.metadata, answer.metadata
    if (before.name, before.namespace, before.uid) != (after.name, after.namespace, after.uid):
        raise ValueError("podd_admit changed the pod's name, namespace or uid")
    return answer


def _told(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the body when it takes longer. Only the main thread can be interrupted so; others wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expired(_signum: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"took longer than {seconds:g} s to load")

    before = signal.signal(signal.SIGALRM, expired)
    outer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *outer)
