"""Plugins are found, guarded one by one, and called in order."""

from __future__ import annotations

import pathlib
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint
from typing import Any

import msgspec
import pytest

from podd.driver import hookspecs, plugins
from podd.driver.contract import Capabilities, Driver
from podd.driver.hookspecs import DriverPaths, hookimpl
from podd.driver.plugins import discover
from podd.errors import Denied, Internal, Invalid
from podd.model.pod import Container, ObjectMeta, Pod, PodSpec

PATHS = DriverPaths(run_dir="/r", state_dir="/s", log_dir="/l")
POD = Pod(metadata=ObjectMeta(name="web"), spec=PodSpec(containers=(Container(name="c"),)))

Plugin = Callable[..., EntryPoint]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Plugin:
    """Make an importable plugin module of these hooks, and the entry point that names it."""

    def make(name: str, *hooks: Callable[..., Any], version: object = 1) -> EntryPoint:
        module = types.ModuleType(f"a_plugin_{name}")
        if version is not None:
            module.PODD_CONTRACT_VERSION = version  # type: ignore[attr-defined]
        for hook in hooks:
            setattr(module, hook.__name__, hookimpl(hook))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return EntryPoint(name=name, value=module.__name__, group="podd")

    return make


def offering(**drivers: object) -> Callable[[], Mapping[str, Any]]:
    def podd_drivers() -> Mapping[str, Any]:
        return drivers

    return podd_drivers


class Idle:
    """A driver that can be made, no more."""

    capabilities = Capabilities(held_start=False, shared_uts=False, pid_pod=False, pid_node=False)

    def __init__(self, name: str, section: Mapping[str, Any], paths: DriverPaths) -> None:
        self.name = name
        if section:
            raise Invalid(f"drivers.{name}: unknown key")


class Boaster(Idle):
    capabilities = Capabilities(held_start=False, shared_uts=False, pid_pod=False, pid_node=False, pause=True)


def raising(exc: BaseException) -> Callable[[], Any]:
    def podd_drivers() -> Any:
        raise exc

    return podd_drivers


async def podd_drivers() -> Any:
    return {}


def misspelt() -> None: ...


misspelt.__name__ = "podd_driverz"


def wrong_arguments() -> Callable[..., None]:
    def podd_admit(pod: Pod, colour: str) -> None: ...

    return podd_admit


BROKEN: dict[str, tuple[tuple[Callable[..., Any], ...], object, str]] = {
    "raises": ((raising(OSError("no disk")),), 1, "OSError: no disk"),
    "exits": ((raising(SystemExit(3)),), 1, "SystemExit: 3"),
    "async": ((podd_drivers,), 1, "async"),
    "misspelt": ((misspelt,), 1, "podd_driverz"),
    "wrong arguments": ((wrong_arguments(),), 1, "colour"),
    "no factory": ((offering(a=3),), 1, "without a factory"),
    "no version": ((offering(a=Idle),), None, "has no PODD_CONTRACT_VERSION"),
    "later version": ((offering(a=Idle),), 2, "written for contract version 2; this podd has version 1"),
}


@pytest.mark.parametrize(("hooks", "version", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_plugin_is_left_out_with_its_reason(
    plugin: Plugin, hooks: tuple[Callable[..., Any], ...], version: object, reason: str
) -> None:
    found = discover([plugin("bad", *hooks, version=version), plugin("good", offering(mine=Idle))])
    assert list(found.drivers) == ["mine"]
    assert [b.plugin for b in found.broken] == ["bad"]
    assert reason in found.broken[0].reason
    assert [name for name, module in found.manager.list_name_plugin() if module] == ["good"]


def test_plugin_that_cannot_be_imported_is_left_out(plugin: Plugin) -> None:
    gone = EntryPoint(name="gone", value="no_such_module_anywhere", group="podd")
    found = discover([gone, plugin("good", offering(mine=Idle))])
    assert list(found.drivers) == ["mine"]
    assert "no_such_module_anywhere" in found.broken[0].reason


def test_plugin_that_hangs_is_left_out(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    def podd_drivers() -> Any:
        time.sleep(3600)

    monkeypatch.setattr(plugins, "LOAD_LIMIT_S", 0.05)
    found = discover([plugin("bad", podd_drivers), plugin("good", offering(mine=Idle))])
    assert list(found.drivers) == ["mine"]
    assert "longer than 0.05 s" in found.broken[0].reason


def test_a_driver_name_is_given_once(plugin: Plugin) -> None:
    found = discover([plugin("b", offering(mine=Idle)), plugin("a", offering(mine=Idle))])
    assert found.drivers["mine"].plugin == "a"
    assert [(b.plugin, "plugin a has offered already" in b.reason) for b in found.broken] == [("b", True)]


def test_two_plugins_of_one_name(plugin: Plugin) -> None:
    found = discover([plugin("a", offering(mine=Idle)), plugin("a", offering(other=Idle))])
    assert len(found.broken) == 1


def test_make(plugin: Plugin) -> None:
    def breaks(name: str, section: Mapping[str, Any], paths: DriverPaths) -> Driver:
        raise ZeroDivisionError("oops")

    found = discover(
        [plugin("p", offering(mine=Idle, boaster=Boaster, breaks=breaks)), plugin("q", raising(OSError("no disk")))]
    )
    assert found.make("mine", {}, PATHS).name == "mine"
    with pytest.raises(Invalid, match=r"^drivers\.mine: unknown key"):
        found.make("mine", {"x": 1}, PATHS)
    with pytest.raises(Invalid, match="one of: boaster, breaks, mine; plugin q was left out: OSError: no disk"):
        found.make("other", {}, PATHS)
    with pytest.raises(Internal, match="declares pause but lacks the methods"):
        found.make("boaster", {}, PATHS)
    with pytest.raises(Internal, match=r"plugin p .* broke: ZeroDivisionError: oops"):
        found.make("breaks", {}, PATHS)


def admitting(answer: Callable[[Pod], Any]) -> Callable[..., Any]:
    def podd_admit(pod: Pod) -> Any:
        return answer(pod)

    return podd_admit


def hostname(name: str) -> Callable[[Pod], Pod]:
    return lambda pod: msgspec.structs.replace(
        pod, spec=msgspec.structs.replace(pod.spec, hostname=f"{pod.spec.hostname}{name}")
    )


def test_admit_amends_in_the_order_of_names(plugin: Plugin) -> None:
    found = discover(
        [
            plugin("b", admitting(hostname("b"))),
            plugin("a", admitting(hostname("a"))),
            plugin("c", admitting(lambda _: None)),
        ]
    )
    assert not found.broken
    assert found.admit(POD).spec.hostname == "ab"


def refuse(exc: Exception) -> Callable[[Pod], Any]:
    def answer(pod: Pod) -> Any:
        raise exc

    return answer


def renamed(pod: Pod) -> Pod:
    return msgspec.structs.replace(pod, metadata=ObjectMeta(name="other"))


ADMISSIONS: dict[str, tuple[Callable[[Pod], Any], type[Exception], str]] = {
    "refuses": (refuse(Denied("pod web: not on Sundays")), Denied, "^pod web: not on Sundays"),
    "breaks": (
        refuse(KeyError("x")),
        Internal,
        "plugin p broke while admitting it: KeyError: 'x'; mend or uninstall p",
    ),
    "renames": (renamed, Internal, "changed the pod's name"),
    "answers nonsense": (lambda _: 7, Internal, "answered int"),
}


@pytest.mark.parametrize(("answer", "kind", "message"), ADMISSIONS.values(), ids=ADMISSIONS)
def test_admit_is_closed_when_in_doubt(
    plugin: Plugin, answer: Callable[[Pod], Any], kind: type[Exception], message: str
) -> None:
    found = discover([plugin("p", admitting(answer))])
    for _ in range(2):
        with pytest.raises(kind, match=message):
            found.admit(POD)


def test_observer_that_raises_is_dropped_and_costs_nobody_else(plugin: Plugin) -> None:
    seen: list[str] = []

    def observing(name: str, exc: Exception | None) -> Callable[..., None]:
        def podd_observe(event: Mapping[str, Any]) -> None:
            seen.append(name)
            if exc:
                raise exc

        return podd_observe

    found = discover([plugin("a", observing("a", OSError("gone"))), plugin("b", observing("b", None))])
    found.observe({"n": 1})
    found.observe({"n": 2})
    assert seen == ["a", "b", "b"]
    assert [(b.plugin, b.reason) for b in found.broken] == [("a", "podd_observe: OSError: gone")]


def hooks() -> Iterator[str]:
    return (name for name in vars(hookspecs) if name.startswith("podd_"))


def test_every_hook_is_documented_and_tested_here() -> None:
    text = pathlib.Path(__file__).read_text(encoding="utf-8")
    for hook in hooks():
        assert getattr(hookspecs, hook).__doc__
        assert f"def {hook}(" in text


def test_our_own_plugin_is_found_as_a_strangers_would_be() -> None:
    found = discover()
    assert not found.broken
    assert found.drivers["setns"].distribution.startswith("podd-setns ")
