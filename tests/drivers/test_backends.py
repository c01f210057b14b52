"""What a configuration makes of the drivers that plugins offer: classes, changes, and what is broken."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Self

import anyio
import pytest
from msgspec.structs import replace

from podd import backends, config
from podd.backends import Backends
from podd.config import Config
from podd.core import state as st
from podd.driver.contract import Driver
from podd.driver.hookspecs import DriverPaths
from podd.driver.plugins import Discovered, Offer, discover
from podd.engine.drivers import Drivers
from podd.errors import Invalid, PoddError, Unavailable
from podd.model.ids import PodUid, SandboxId
from podd.testing.fake import FakeDriver, FakeHost
from world import make_pod

pytestmark = pytest.mark.anyio

Factory = Callable[[str, Mapping[str, Any], DriverPaths], Driver]


class Made(FakeDriver):
    """As configured. A section may have it fail in the ways of drivers."""

    def __init__(self, name: str, section: Mapping[str, Any], paths: DriverPaths) -> None:
        super().__init__(FakeHost(wall_ns=0))
        self.name, self.section, self.paths = name, dict(section), paths
        if "colour" in section:
            raise Invalid(f"drivers.{name}.colour: unknown key", remedy="did you mean color?")
        if section.get("factory") == "breaks":
            raise ZeroDivisionError("oops")

    async def __aenter__(self) -> Self:
        match self.section.get("enter"):
            case "breaks":
                raise OSError("no disk")
            case "refuses":
                raise Unavailable("no daemon", remedy="start it")
            case "hangs":
                await anyio.sleep_forever()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.section["left"] = True


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


@pytest.fixture
def found() -> Discovered:
    nothing = discover([])
    offers = {name: Offer(name=name, plugin=name, distribution="", factory=Made) for name in ("a", "b")}
    return Discovered(offers, [], nothing.manager)


def parse(text: str) -> Config:
    return config.parse(text.encode(), "/etc/podd/podd.toml")


class Running:
    def __init__(self, one: Backends, drivers: Drivers) -> None:
        self.backends, self.drivers = one, drivers

    def __getitem__(self, name: str) -> Made:
        driver = self.drivers.choice.drivers[name]
        assert isinstance(driver, Made)
        return driver

    async def change(self, text: str) -> None:
        await self.backends.change(parse(text))


@asynccontextmanager
async def running(text: str, found: Discovered, tmp_path: Path) -> AsyncIterator[Running]:
    paths = DriverPaths(run_dir=f"{tmp_path}/run", state_dir=f"{tmp_path}/state", log_dir=f"{tmp_path}/log")
    one = Backends(parse(text), found, paths)
    async with anyio.create_task_group() as tasks:
        yield Running(one, await one.enter(tasks))
        one.leave()


CLASS = 'default_driver = "a"\n[drivers.a]\nx = 1\ny = 1\n[runtime_classes.fast]\ndriver = "a"\ny = 2\n'


async def test_a_class_is_a_driver_of_its_own_with_a_section_over_the_drivers(
    found: Discovered, tmp_path: Path
) -> None:
    async with running(CLASS, found, tmp_path) as one:
        fast, plain = one["fast"], one["a"]
        assert (fast.name, fast.section, plain.section) == ("fast", {"x": 1, "y": 2}, {"x": 1, "y": 1})
        assert fast.paths.run_dir == f"{tmp_path}/run/classes/fast"
        assert os.listdir(f"{tmp_path}/state/classes") == ["fast"]
        assert plain.paths.run_dir == f"{tmp_path}/run"
        assert one.drivers.for_new(make_pod(runtime_class_name="fast")) is fast
        assert one.drivers.for_new(make_pod()) is plain
        shown = {report.name: (report.driver, report.is_default) for report in await one.drivers.reports()}
        assert shown == {"a": ("a", True), "b": ("b", False), "fast": ("a", False)}
    assert fast.section["left"]


WRONG = {
    '[runtime_classes.b]\ndriver = "a"': "runtime_classes.b: is the name of a driver; give the class another name",
    '[runtime_classes.fast]\ndriver = "a"\ncolour = 1': "runtime_classes.fast.colour: unknown key; did you mean color?",
    "[drivers.a]\ncolour = 1": "drivers.a.colour: unknown key; did you mean color?",
    "[drivers.bb]": "drivers.bb: no such driver; did you mean b?",
    'default_driver = "zzz"': "default_driver: zzz: no such driver; drivers here: a, b",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=list(WRONG))
async def test_what_is_wrong_is_refused_at_the_start_and_changes_nothing_later(
    found: Discovered, tmp_path: Path, text: str, message: str
) -> None:
    whole = text if "default_driver" in text else f'default_driver = "a"\n{text}'
    with pytest.raises(Invalid) as refused:
        async with running(whole, found, tmp_path):
            pass
    assert str(refused.value) == message
    async with running(CLASS, found, tmp_path) as one:
        before = one.drivers.choice
        with pytest.raises(Invalid, match=message.split(":", maxsplit=1)[0]):
            await one.change(whole)
        assert one.drivers.choice is before


BROKEN = {
    'driver = "gone"': "driver gone: no plugin that works offers it; install it, or name another",
    'driver = "a"\nfactory = "breaks"': "drivers.a: plugin a () broke: ZeroDivisionError: oops",
    'driver = "a"\nenter = "breaks"': "OSError: no disk",
    'driver = "a"\nenter = "refuses"': "no daemon; start it",
    'driver = "a"\nenter = "hangs"': f"not ready within {backends.ENTER_S} s",
}


@pytest.mark.parametrize(("section", "reason"), BROKEN.items(), ids=list(BROKEN))
async def test_what_cannot_be_had_is_shown_and_costs_only_itself(
    found: Discovered, tmp_path: Path, section: str, reason: str
) -> None:
    async with running(f'default_driver = "a"\n[runtime_classes.fast]\n{section}', found, tmp_path) as one:
        shown = {report.name: report.health.reason for report in await one.drivers.reports()}
        assert shown == {"a": "", "b": "", "fast": reason}
        with pytest.raises(PoddError, match=r"spec\.runtimeClassName: fast: "):
            one.drivers.for_new(make_pod(runtime_class_name="fast"))


async def test_a_driver_that_may_be_of_a_plugin_that_does_not_load_is_no_mistake(tmp_path: Path) -> None:
    gone = EntryPoint(name="gone", value="no_such_module_anywhere", group="podd")
    async with running('default_driver = "x"\n[drivers.y]\nz = 1', discover([gone]), tmp_path) as one:
        assert {report.name for report in await one.drivers.reports()} == {"gone", "x", "y"}
        with pytest.raises(Invalid, match=r"default_driver: x: driver x: no plugin that works offers it"):
            one.drivers.for_new(make_pod())


# ---- a changed configuration


async def test_a_change_makes_anew_what_has_changed_and_nothing_else(found: Discovered, tmp_path: Path) -> None:
    async with running(CLASS, found, tmp_path) as one:
        plain, other, fast = one["a"], one["b"], one["fast"]
        await one.change(CLASS.replace("y = 2", "y = 3").replace('"a"\n[drivers', '"b"\n[drivers', 1))
        assert (one["a"], one["b"]) == (plain, other)
        assert one["fast"].section == {"x": 1, "y": 3}
        assert one.drivers.for_new(make_pod()) is other
        await one.change(CLASS.replace("x = 1", "x = 2"))
        assert (one["a"].section["x"], one["fast"].section) == (2, {"x": 2, "y": 2})
        assert list(one.drivers)[:3] == [plain, other, fast]
        assert "left" not in fast.section


async def test_a_pod_keeps_the_driver_that_made_it_until_podd_ends(found: Discovered, tmp_path: Path) -> None:
    pod = make_pod(runtime_class_name="fast")
    made = st.new(PodUid("u"), pod, "fast", 0)
    async with running(CLASS, found, tmp_path) as one:
        fast = one["fast"]
        await one.change('default_driver = "a"')
        assert one.drivers.that_made(made) is fast
        with pytest.raises(Invalid, match=r"spec\.runtimeClassName: fast: there is no such driver or runtime class"):
            one.drivers.for_new(pod)
    async with running('default_driver = "a"', found, tmp_path) as one:
        absent = one.drivers.that_made(made)
        with pytest.raises(Unavailable, match="is not installed, and no runtime class has this name") as away:
            await absent.destroy_sandbox(SandboxId("0" * 16))
        assert "configure [runtime_classes.fast], as it was" in away.value.remedy


async def test_what_was_broken_is_tried_again_when_it_is_changed(found: Discovered, tmp_path: Path) -> None:
    async with running(CLASS + 'enter = "breaks"', found, tmp_path) as one:
        assert "fast" not in one.drivers.choice.drivers
        await one.change(CLASS)
        assert one["fast"].section == {"x": 1, "y": 2}
        assert one.drivers.choice.broken == {}


async def test_a_driver_that_fails_while_it_lives_is_given_up(found: Discovered, tmp_path: Path) -> None:
    class Frail(Made):
        async def __aenter__(self) -> Self:
            self.fails = anyio.Event()
            self.tasks = await anyio.create_task_group().__aenter__()
            self.tasks.start_soon(self._work)
            return self

        async def _work(self) -> None:
            await self.fails.wait()
            raise OSError("the connection is lost")

        async def __aexit__(self, *why: object) -> bool | None:  # type: ignore[override]
            self.tasks.cancel_scope.cancel()
            return await self.tasks.__aexit__(*why)

    frail = replace(found.drivers["b"], factory=Frail)
    found = Discovered({**found.drivers, "b": frail}, [], found.manager)
    async with running('default_driver = "a"', found, tmp_path) as one:
        one["b"].fails.set()  # type: ignore[attr-defined]
        await anyio.sleep(1)
        shown = {report.name: report.health.reason for report in await one.drivers.reports()}
        assert shown["a"] == ""
        assert "the connection is lost" in shown["b"]
        assert [driver.name for driver in one.drivers] == ["a"]
