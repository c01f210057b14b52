"""Changing what runs, on the fake driver and a clock that jumps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from harness import apply, engine
from msgspec.structs import replace

from podd.control.messages import PodObject
from podd.core.resources import CPU_PERIOD_US, widest
from podd.driver.contract import Limits
from podd.engine.engine import Engine
from podd.engine.view import PodView
from podd.errors import Conflict, Invalid, NotFound, Unavailable, Unsupported
from podd.model.pod import Container
from podd.testing.fake import CAPABILITIES, FakeDriver, FakeHost, Fault

pytestmark = pytest.mark.anyio

MIB = 1 << 20
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: a, image: "rootfs:/", command: [/bin/a], resources: {limits: {cpu: 500m, memory: 64Mi}}}
  - {name: b, image: "rootfs:/", command: [/bin/b], resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {cpu: 1m}}}
"""
LOOK = Container(name="look", image="rootfs:/", command=("/bin/sh",))


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


async def resize(one: Engine, container: str | None = "a", **limits: str) -> PodView:
    return await one.resize("web", None, container, limits=limits, requests={})


def limits_of(host: FakeHost, name: str) -> tuple[int | None, int | None]:
    """Processor and memory, as the kernel has them; name "": of the pod."""
    (box,) = host.sandboxes.values()
    found = {c.config.name: c.observed.limits for c in host.containers()} | {"": box.observed.limits}
    return found[name].cpu_quota_us, found[name].memory_bytes


def resizes(host: FakeHost) -> list[str]:
    return [entry.of for entry in host.journal if entry.name in ("sandbox_resized", "container_resized")]


# ---- resize ----------------------------------------------------------------------------------------------------------


async def test_a_pod_is_resized_while_it_runs(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        shown = await resize(one, cpu="1500m", memory="32Mi")
        assert limits_of(host, "a") == (150_000, 32 * MIB)
        assert limits_of(host, "b") == (50_000, 64 * MIB)
        assert limits_of(host, "") == (200_000, 96 * MIB)
        assert resizes(host) == ["web", "a", "b", "web"]
        assert shown.pod.spec.containers[0].resources.limits == {"cpu": "1500m", "memory": "32Mi"}
        assert not [c for c in shown.status.conditions if c.type.startswith("PodResize")]
        (told,) = [e async for batch in one.events("web", None, since=None, follow=False) for e in batch][-1:]
        assert (told.type, told.reason) == ("Normal", "ResizeCompleted")
        assert [s.restart_count for s in shown.status.container_statuses] == [0, 0]
    host.verify()


async def test_what_restarts_later_has_the_new_limits(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await resize(one, memory="128Mi")
        await one.restart("web", None, grace_period_s=0, wait=True)
        assert limits_of(host, "a") == (50_000, 128 * MIB)
        assert limits_of(host, "") == (100_000, 192 * MIB)


async def test_a_refusal_leaves_all_as_it_was_and_is_told(tmp_path: Path, host: FakeHost) -> None:
    host.fault("resize_container", of="b", call=1, error=Conflict("b: more memory is in use"))
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        with pytest.raises(Conflict, match="more memory is in use"):
            await resize(one, cpu="1", memory="32Mi")
        assert limits_of(host, "a") == (50_000, 64 * MIB)
        assert limits_of(host, "") == (100_000, 128 * MIB)
        (pending,) = [c for c in (await one.get("web", None)).status.conditions if c.type == "PodResizePending"]
        assert (pending.reason, pending.message) == ("Infeasible", "b: more memory is in use")
        await resize(one, cpu="2")  # another wish is another try
        assert limits_of(host, "a") == (200_000, 32 * MIB)


async def test_a_resize_that_podd_did_not_live_to_finish_is_finished_by_the_next(
    tmp_path: Path, host: FakeHost
) -> None:
    host.fault("resize_container", of="b", call=1, hang=True)
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        with anyio.move_on_after(5):
            await resize(one, memory="128Mi")
    assert limits_of(host, "b") == (50_000, 64 * MIB)
    async with engine(tmp_path, host) as one:
        await one._registry.find("web", None).until(lambda s: s.resized == s.generation == 2)
        assert limits_of(host, "a") == (50_000, 128 * MIB)
        assert limits_of(host, "") == (100_000, 192 * MIB)


async def test_a_driver_that_does_not_answer_is_not_waited_for_for_ever(tmp_path: Path, host: FakeHost) -> None:
    host.fault("resize_container", of="b", call=1, hang=True)
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        with pytest.raises(Unavailable, match="no answer within 30"):
            await resize(one, memory="128Mi")
        assert limits_of(host, "a") == (50_000, 64 * MIB)


REFUSED: dict[str, tuple[str | None, dict[str, str], type[Exception], str]] = {
    "which one": (None, {"cpu": "1"}, Invalid, "several containers"),
    "no such": ("c", {"cpu": "1"}, NotFound, "none such"),
    "no amount": ("a", {"cpu": "plenty"}, Invalid, r"^spec\.containers\[0\]\.resources\.limits\.cpu: "),
    "another QoS class": ("b", {"cpu": "1m"}, Conflict, "makes the pod Guaranteed, which is Burstable"),
    "not in place": ("a", {"podd.io/pids": "7"}, Conflict, "cannot change while the pod is there"),
}


@pytest.mark.parametrize(("container", "limits", "error", "message"), REFUSED.values(), ids=list(REFUSED))
async def test_what_cannot_be_is_refused_before_anything_changes(
    tmp_path: Path, host: FakeHost, container: str | None, limits: dict[str, str], error: type[Exception], message: str
) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        with pytest.raises(error, match=message):
            await resize(one, container, **limits)
        assert resizes(host) == []
        assert (await one.get("web", None)).pod.spec.containers[0].resources.limits == {"cpu": "500m", "memory": "64Mi"}


async def test_a_pod_that_is_stopped_has_the_limits_when_it_starts(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await one.stop("web", None, grace_period_s=0, wait=True)
        await resize(one, memory="128Mi")
        await one.start("web", None, wait=True)
        assert resizes(host) == []
        assert limits_of(host, "a") == (50_000, 128 * MIB)


async def test_a_resize_waits_for_members_that_are_being_started(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="create_container", of="b", delay_s=20))
    async with engine(tmp_path, host) as one:
        await apply(one, POD, wait=False)
        await resize(one, memory="32Mi")
        assert limits_of(host, "a") == (50_000, 32 * MIB)
        assert resizes(host) == ["web", "a", "b", "web"]
        assert (await one.get("web", None)).status.phase == "Running"
    host.verify()


async def test_a_changed_manifest_waits_for_members_that_are_being_started(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="start_containers", delay_s=20))
    async with engine(tmp_path, host) as one:
        await apply(one, POD, wait=False)
        await anyio.sleep(1)
        result = await apply(one, POD.replace("64Mi", "32Mi", 1))
        assert (result.action, result.reason) == ("resized", "")
        assert limits_of(host, "a") == (50_000, 32 * MIB)


async def test_a_resize_of_a_pod_that_is_being_stopped_is_taken_when_it_is(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="destroy_sandbox", delay_s=20))
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await one.stop("web", None, grace_period_s=0, wait=False)
        await resize(one, memory="32Mi")
        assert resizes(host) == []
        await one.start("web", None, wait=True)
        assert limits_of(host, "a") == (50_000, 32 * MIB)


async def test_a_resize_waits_for_nothing_for_ever(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="create_container", of="b", delay_s=50))
    async with engine(tmp_path, host) as one:
        await apply(one, POD, wait=False)
        await anyio.sleep(1)
        before = anyio.current_time()
        with pytest.raises(Conflict, match="being started"):
            await resize(one, memory="32Mi")
        assert anyio.current_time() - before == pytest.approx(30)


class CannotResize(FakeDriver):
    def __init__(self, host: FakeHost) -> None:
        super().__init__(host, capabilities=replace(CAPABILITIES, resize=False, pid_target=False))


async def test_a_driver_that_cannot_says_so(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host, driver=CannotResize) as one:
        await apply(one, POD)
        with pytest.raises(Conflict, match="the driver cannot change limits"):
            await resize(one, memory="128Mi")
        with pytest.raises(Unsupported, match="driver fake: cannot show a container the processes of another"):
            await one.debug("web", None, LOOK, target="a")


WIDEST: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"memory_bytes": 1}, {"memory_bytes": 2}, {"memory_bytes": 2}),
    ({"memory_bytes": 2, "pids": 9}, {"memory_bytes": 1, "pids": 10}, {"memory_bytes": 2, "pids": 10}),
    ({"memory_bytes": None}, {"memory_bytes": 1}, {}),
    ({"cpu_quota_us": 5000}, {"cpu_quota_us": None}, {}),
    ({"cpu_quota_us": None}, {"cpu_quota_us": 5000}, {}),
    (
        {"cpu_quota_us": 5000, "cpu_period_us": 10_000},
        {"cpu_quota_us": 6000, "cpu_period_us": CPU_PERIOD_US},
        {"cpu_quota_us": 5000, "cpu_period_us": 10_000},
    ),
    ({"cpu_shares": 5}, {"cpu_shares": 4}, {"cpu_shares": 4}),
]


@pytest.mark.parametrize(("one", "other", "both"), WIDEST)
async def test_the_widest_of_two(one: dict[str, Any], other: dict[str, Any], both: dict[str, Any]) -> None:
    assert widest(Limits(**one), Limits(**other)) == Limits(**both)


# ---- debug -----------------------------------------------------------------------------------------------------------


async def test_a_container_is_added_and_sees_the_processes_of_its_target(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        added = await one.debug("web", None, LOOK, target="a")
        assert added.container == "look"
        pids = {c.config.name: c.observed.namespaces["pid"] for c in host.containers()}
        assert pids["look"] == pids["a"] != pids["b"]
        (shown,) = added.view.status.ephemeral_container_statuses
        assert (shown.name, shown.state.running is not None) == ("look", True)
        assert added.view.status.phase == "Running"
        (given,) = msgspec.to_builtins(PodObject.of(added.view))["spec"]["ephemeralContainers"]
        assert (given["name"], given["targetContainerName"], given["command"]) == ("look", "a", LOOK.command)
        with pytest.raises(Conflict, match="has one of this name"):
            await one.debug("web", None, LOOK, target=None)
    host.verify()


async def test_a_name_is_made_up(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        names = [(await one.debug("web", None, replace(LOOK, name=""), target=None)).container for _ in range(2)]
        assert len(set(names)) == 2
        assert all(name.startswith("debugger-") for name in names)


async def test_one_that_cannot_be_made_is_told_and_the_pod_runs_on(tmp_path: Path, host: FakeHost) -> None:
    host.fault("create_container", of="look", error=Invalid("look: no such command"))
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        with pytest.raises(Conflict, match="look: no such command"):
            await one.debug("web", None, LOOK, target=None)
        assert (await one.get("web", None)).status.phase == "Running"


WRONG: dict[str, tuple[dict[str, Any], str | None, type[Exception], str]] = {
    "its name": ({"name": "No Name"}, None, Invalid, "^container No Name: name: .*RFC 1123"),
    "no command": ({"command": ()}, None, Invalid, "what to run"),
    "no such target": ({}, "c", NotFound, "none such"),
}


@pytest.mark.parametrize(("changed", "target", "error", "message"), WRONG.values(), ids=list(WRONG))
async def test_what_is_added_is_held_to_the_rules_of_manifests(
    tmp_path: Path, host: FakeHost, changed: dict[str, Any], target: str | None, error: type[Exception], message: str
) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        with pytest.raises(error, match=message):
            await one.debug("web", None, replace(LOOK, **changed), target=target)
        assert len(list(host.containers())) == 2


async def test_nothing_is_added_to_a_pod_that_does_not_run(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await one.stop("web", None, grace_period_s=0, wait=True)
        with pytest.raises(Conflict, match="is not running"):
            await one.debug("web", None, LOOK, target=None)


async def test_a_container_that_was_added_ends_with_its_target_and_stays_ended(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await one.debug("web", None, LOOK, target="a")
        target = next(c for c in host.containers() if c.config.name == "a")
        host.signal(target, 9)
        await one._registry.find("web", None).until(lambda s: s.members["a"].restarts == 1)
        (shown,) = (await one.get("web", None)).status.ephemeral_container_statuses
        assert shown.state.terminated is not None
        assert shown.state.terminated.exit_code == 137
        assert shown.restart_count == 0
