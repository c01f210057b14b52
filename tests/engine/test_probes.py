"""Probes and hooks as the engine runs them, on a clock that jumps; what they ask is played by the fake driver."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from harness import apply, engine

from podd.engine.engine import Engine
from podd.errors import Unavailable
from podd.model.status import ContainerStatus
from podd.testing.fake import FOREVER, FakeHost, Program

pytestmark = pytest.mark.anyio

GOOD, BAD = Program(exits_after_s=0), Program(exits_after_s=0, code=1, output=["no database"])
CHECK = {"exec": {"command": ["check"]}}


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


def pod(grace_s: int = 30, **member: Any) -> str:
    container = {"name": "a", "image": "rootfs:/", "command": ["/bin/a"], **member}
    spec = {"containers": [container], "terminationGracePeriodSeconds": grace_s}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec})


async def status(one: Engine) -> ContainerStatus:
    (found,) = (await one.get("web", None)).status.container_statuses
    return found


async def told(one: Engine, reason: str) -> list[str]:
    events = [e for batch in [b async for b in one.events(None, None, since=None, follow=False)] for e in batch]
    return [e.message for e in events if e.reason == reason]


def runs(host: FakeHost, command: str = "check") -> list[float]:
    return [e.at_s for e in host.effects("exec_started") if e.detail == command]


def approx(at_s: Any) -> Any:
    """The engine's clock and the host's are read one after the other."""
    return pytest.approx(at_s, abs=0.1)


# ---- readiness


async def test_ready_when_the_probe_says_so(tmp_path: Path, host: FakeHost) -> None:
    host.execs["check"] = BAD
    async with engine(tmp_path, host) as one:
        began = anyio.current_time()
        await apply(one, pod(readinessProbe={**CHECK, "initialDelaySeconds": 2, "periodSeconds": 5}))
        await anyio.sleep(8)
        assert [at - began for at in runs(host)] == approx([2, 7])
        assert not (await status(one)).ready
        host.execs["check"] = GOOD
        await anyio.sleep(5)
        assert (await status(one)).ready
        assert (await status(one)).restart_count == 0
        assert await told(one, "Unhealthy") == ["Readiness probe failed: no database"]


@pytest.mark.parametrize("ahead_h", [-1, 1])
async def test_a_host_whose_clock_was_set_since_podd_read_it(tmp_path: Path, ahead_h: int) -> None:
    host = FakeHost(wall_ns=time.time_ns() + ahead_h * 3600 * 10**9)
    host.execs["check"] = GOOD
    host.programs["a"] = [Program(exits_after_s=1, code=1)] * 3 + [Program()]
    async with engine(tmp_path, host) as one:
        began = anyio.current_time()
        await apply(one, pod(livenessProbe={**CHECK, "initialDelaySeconds": 7, "periodSeconds": 5}))
        await anyio.sleep(48)
        begun = [e.at_s - began for e in host.effects("released")]
        assert begun == approx([0, 1, 12, 33]), "restarts wait as long as ever"
        assert [at - began for at in runs(host)] == approx([40, 45])


async def test_an_idle_pod_that_is_probed_writes_nothing(tmp_path: Path, host: FakeHost) -> None:
    probe = {**CHECK, "periodSeconds": 1}
    async with engine(tmp_path, host) as one:
        await apply(one, pod(readinessProbe=probe, livenessProbe=probe))
        await anyio.sleep(5)
        before = one._store._db.total_changes
        await anyio.sleep(600)
        assert len(runs(host)) >= 2 * 600
        assert one._store._db.total_changes == before


async def test_a_driver_that_is_away_changes_nothing(tmp_path: Path, host: FakeHost) -> None:
    probe = {**CHECK, "periodSeconds": 1, "failureThreshold": 1}
    async with engine(tmp_path, host) as one:
        await apply(one, pod(livenessProbe=probe, readinessProbe=probe))
        await anyio.sleep(1)
        host.fault("exec_start", error=Unavailable("shim: no answer"))
        await anyio.sleep(10)
        assert (await status(one)).ready
        assert (await status(one)).restart_count == 0
        errored = "probe errored and resulted in unknown state: shim: no answer"
        assert set(await told(one, "Unhealthy")) == {f"Liveness {errored}", f"Readiness {errored}"}


async def test_a_driver_that_breaks_is_blamed_and_costs_no_pod(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        host.fault("exec_start", error=ZeroDivisionError("oops"))
        await apply(one, pod(livenessProbe=CHECK))
        await anyio.sleep(25)
        message = "Liveness probe errored and resulted in unknown state: unexpected ZeroDivisionError: oops"
        assert await told(one, "Unhealthy") == [message]
        assert (await status(one)).state.running is not None


# ---- liveness and startup


async def test_one_that_is_not_alive_is_restarted(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, pod(livenessProbe={**CHECK, "periodSeconds": 1, "failureThreshold": 2}))
        await anyio.sleep(3.5)
        host.execs["check"] = BAD
        await anyio.sleep(2)
        host.execs["check"] = GOOD
        await anyio.sleep(60)
        assert (await status(one)).restart_count == 1
        assert (await status(one)).state.running is not None
        assert await told(one, "Unhealthy") == ["Liveness probe failed: no database"]
        assert "Container a failed liveness probe, will be restarted" in await told(one, "Killing")


async def test_others_wait_for_the_startup_probe(tmp_path: Path, host: FakeHost) -> None:
    host.execs["started"] = BAD
    startup = {"exec": {"command": ["started"]}, "periodSeconds": 3, "failureThreshold": 100}
    async with engine(tmp_path, host) as one:
        await apply(one, pod(startupProbe=startup, livenessProbe=CHECK, readinessProbe=CHECK), wait=False)
        await anyio.sleep(100)
        assert runs(host) == []
        assert not (await status(one)).started
        host.execs["started"] = GOOD
        await anyio.sleep(3)
        started_s = runs(host, "started")[-1]
        assert runs(host) == [started_s, started_s]
        assert (await status(one)).started
        assert (await status(one)).ready
        await anyio.sleep(100)
        assert runs(host, "started")[-1] == started_s


async def test_one_that_does_not_start_is_restarted(tmp_path: Path, host: FakeHost) -> None:
    host.execs["check"] = BAD
    async with engine(tmp_path, host) as one:
        startup = {**CHECK, "periodSeconds": 1, "failureThreshold": 3}
        await apply(one, pod(startupProbe=startup), wait=False)
        await anyio.sleep(2.5)
        assert (await status(one)).restart_count == 1
        assert "Container a failed startup probe, will be restarted" in await told(one, "Killing")


async def test_a_command_that_hangs_counts_as_a_failure(tmp_path: Path, host: FakeHost) -> None:
    host.execs["check"] = FOREVER
    async with engine(tmp_path, host) as one:
        await apply(one, pod(livenessProbe={**CHECK, "timeoutSeconds": 2, "failureThreshold": 1}))
        await anyio.sleep(2.5)
        assert await told(one, "Unhealthy") == ['Liveness probe failed: command "check" timed out']


# ---- when probes rest and end


async def test_probes_rest_while_the_pod_is_paused(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, pod(livenessProbe={**CHECK, "periodSeconds": 1}))
        await anyio.sleep(5.5)
        await one.pause("web", None)
        before = len(runs(host))
        await anyio.sleep(3600)
        assert len(runs(host)) == before
        await one.resume("web", None)
        await anyio.sleep(0.1)
        assert len(runs(host)) == before + 1
        assert (await status(one)).restart_count == 0


async def test_what_was_asked_of_one_that_then_froze_does_not_count(tmp_path: Path, host: FakeHost) -> None:
    host.execs["check"] = FOREVER
    async with engine(tmp_path, host) as one:
        await apply(one, pod(livenessProbe={**CHECK, "timeoutSeconds": 5, "failureThreshold": 1}))
        await anyio.sleep(1)
        await one.pause("web", None)
        await anyio.sleep(60)
        host.execs["check"] = GOOD
        await one.resume("web", None)
        await anyio.sleep(60)
        assert await told(one, "Unhealthy") == []
        assert (await status(one)).restart_count == 0


async def test_probes_end_with_their_container(tmp_path: Path, host: FakeHost) -> None:
    """At once, also one that is under way; nobody hears that a container which was told to end is not alive."""
    host.programs["a"] = Program(term_takes_s=20)
    async with engine(tmp_path, host) as one:
        await apply(one, pod(livenessProbe={**CHECK, "periodSeconds": 1}))
        await anyio.sleep(3.5)
        host.execs["check"] = FOREVER
        await anyio.sleep(0.6)
        before = len(runs(host))
        await one.stop("web", None, grace_period_s=None, wait=True)
        assert len(runs(host)) == before
        assert host.calls("exec_kill")
        assert await told(one, "Unhealthy") == []


async def test_each_instance_is_probed_by_itself(tmp_path: Path, host: FakeHost) -> None:
    host.programs["a"] = [Program(exits_after_s=3.5), FOREVER]
    async with engine(tmp_path, host) as one:
        await apply(one, pod(readinessProbe={**CHECK, "periodSeconds": 1}))
        await anyio.sleep(10)
        first, second = (e.at_s for e in host.effects("released"))
        assert [at - first for at in runs(host)] == approx(
            [0, 1, 2, 3, *(second - first + n for n in range(len(runs(host)) - 4))]
        )


async def test_probes_go_on_after_a_restart_of_podd(tmp_path: Path, host: FakeHost) -> None:
    """Spread over their period, and with the readiness that was known."""
    async with engine(tmp_path, host) as one:
        await apply(one, pod(readinessProbe={**CHECK, "periodSeconds": 10}))
        await anyio.sleep(5)
        assert (await status(one)).ready
    await anyio.sleep(1000)
    before = len(runs(host))
    async with engine(tmp_path, host) as one:
        assert (await status(one)).ready
        await anyio.sleep(10)
        assert len(runs(host)) == before + 1
        host.execs["check"] = BAD
        await anyio.sleep(31)
        assert not (await status(one)).ready


# ---- hooks


async def test_post_start_comes_before_everything(tmp_path: Path, host: FakeHost) -> None:
    host.execs["prepare"] = Program(exits_after_s=7)
    lifecycle = {"postStart": {"exec": {"command": ["prepare"]}}}
    async with engine(tmp_path, host) as one:
        began = anyio.current_time()
        await apply(one, pod(lifecycle=lifecycle, readinessProbe=CHECK), wait=False)
        await anyio.sleep(6)
        assert not (await status(one)).ready
        await anyio.sleep(2)
        assert [at - began for at in runs(host)] == approx([7])
        assert (await status(one)).ready


async def test_post_start_that_fails_ends_the_container(tmp_path: Path, host: FakeHost) -> None:
    host.execs["prepare -x"] = Program(exits_after_s=1, code=2, output=["no disk"])
    async with engine(tmp_path, host) as one:
        await apply(one, pod(lifecycle={"postStart": {"exec": {"command": ["prepare", "-x"]}}}), wait=False)
        await anyio.sleep(1.5)
        uid = (await one.get("web", None)).pod.metadata.uid
        expected = (
            f'Exec lifecycle hook ([prepare -x]) for Container "a" in Pod "web_default({uid})" failed - '
            "error: command 'prepare -x' exited with 2: no disk"
        )
        assert await told(one, "FailedPostStartHook") == [expected]
        assert host.effects("signalled")


async def test_pre_stop_comes_before_the_signal(tmp_path: Path, host: FakeHost) -> None:
    host.execs["drain"] = Program(exits_after_s=4)
    async with engine(tmp_path, host) as one:
        await apply(one, pod(lifecycle={"preStop": {"exec": {"command": ["drain"]}}}))
        began = anyio.current_time()
        await one.stop("web", None, grace_period_s=None, wait=True)
        (signalled,) = host.effects("signalled")
        assert (signalled.detail, signalled.at_s - began) == ("15", approx(4))


async def test_pre_stop_that_takes_too_long_is_told_and_killed(tmp_path: Path, host: FakeHost) -> None:
    host.execs["drain"] = FOREVER
    async with engine(tmp_path, host) as one:
        await apply(one, pod(5, lifecycle={"preStop": {"exec": {"command": ["drain"]}}}))
        began = anyio.current_time()
        await one.stop("web", None, grace_period_s=None, wait=True)
        assert anyio.current_time() - began < 8
        assert host.calls("exec_kill")


async def test_sleep_is_a_hook(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, pod(lifecycle={"preStop": {"sleep": {"seconds": 9}}}))
        began = anyio.current_time()
        await one.stop("web", None, grace_period_s=None, wait=True)
        assert anyio.current_time() - began == approx(9)


async def test_a_hook_ends_with_its_container(tmp_path: Path, host: FakeHost) -> None:
    host.programs["a"] = [Program(exits_after_s=3), FOREVER]
    host.fault("open_socket", hang=True)
    async with engine(tmp_path, host) as one:
        began = anyio.current_time()
        await apply(one, pod(lifecycle={"postStart": {"tcpSocket": {"port": 80}}}), wait=False)
        await anyio.sleep(3.5)
        answers = [e for e in host.journal if (e.what, e.name) == ("answer", "open_socket")]
        assert [(e.at_s - began, e.detail[:9]) for e in answers] == [(approx(3), "Cancelled")]
        assert await told(one, "FailedPostStartHook") == []


async def test_a_hook_runs_again_after_a_restart_of_podd(tmp_path: Path, host: FakeHost) -> None:
    """Whether it had run through nobody can say: hooks run at least once."""
    host.execs["prepare"] = FOREVER
    async with engine(tmp_path, host) as one:
        await apply(one, pod(lifecycle={"postStart": {"exec": {"command": ["prepare"]}}}), wait=False)
        await anyio.sleep(1)
    host.execs["prepare"] = GOOD
    async with engine(tmp_path, host) as one:
        await anyio.sleep(1)
        assert (await status(one)).ready
        assert len(runs(host, "prepare")) == 2
