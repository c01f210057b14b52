"""Members that podd's OCI runtime holds below dockerd: what the driver contract does not ask of every driver."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from dockerd import IMAGE, Dockerd, a_dockerd
from podd.driver.contract import Driver, Handle
from podd.driver.hookspecs import DriverPaths
from podd.errors import Unavailable
from podd.testing.contract import DriverContract, until_gone
from podd.testing.lab import FOREVER, SHARED, Act, Lab, exits
from podd_docker.driver import DockerDriver

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.anyio]


LabOn = Callable[[Dockerd, str], AbstractAsyncContextManager[Lab]]
"""Of the driver, with that OCI runtime of that dockerd's."""


class Contract(DriverContract):
    image = IMAGE


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def lab(make_docker_with_runtime: Callable[[], Driver], tmp_path: Path) -> AsyncIterator[Lab]:
    async with a_lab(make_docker_with_runtime, tmp_path) as lab:
        yield lab


@asynccontextmanager
async def a_lab(make_driver: Callable[[], Driver], tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(make_driver, Contract().arrange, tmp_path / "shared")
    lab.shared.mkdir()
    await lab.enter()
    try:
        yield lab
    finally:
        await lab.close()


@pytest.fixture
def lab_on(paths: DriverPaths, cgroup_parent: str, tmp_path: Path) -> LabOn:
    def make(dockerd: Dockerd, runtime: str) -> AbstractAsyncContextManager[Lab]:
        section = {**dockerd.section, "cgroup_parent": cgroup_parent, "runtime": runtime}
        return a_lab(lambda: DockerDriver("docker", section, paths), tmp_path)

    return make


def fifo(dockerd: Dockerd, member: Handle) -> Path:
    (found,) = dockerd.exec_root.glob(f"runtime-*/moby/{member.state['docker_id']}")
    return found / "exec.fifo"


async def test_one_that_is_killed_while_it_waits_was_never_started(lab: Lab) -> None:
    made = await lab.sandbox()
    first, second = [(await lab.created(made.handle, Act(f"echo ran > {SHARED}/{n}"))).handle for n in "ab"]
    os.kill(first.state["hold"]["pid"], signal.SIGKILL)
    await until_gone(first.state["hold"]["pid"])
    told = await lab.driver.start_containers([first, second])
    assert [bool(one.error) for one in told] == [True, False]
    ended = await lab.driver.wait_container(first)
    assert (ended.code, ended.reason, ended.started_at_ns) == (137, "StartError", None)
    assert (await lab.driver.wait_container(second)).code == 0
    assert os.listdir(lab.shared) == ["b"]


async def test_a_signal_to_one_that_waits_is_none_to_its_program(lab: Lab) -> None:
    made = await lab.sandbox()
    held = (await lab.created(made.handle)).handle
    await lab.driver.signal_containers([held], signal.SIGTERM)
    (started,) = await lab.driver.start_containers([held])
    assert (started.pid, started.error) == (held.state["hold"]["pid"], "")


async def test_a_podd_that_was_killed_between_letting_go_and_tidying_up(lab: Lab, dockerd: Dockerd) -> None:
    """The FIFO is still there; to open it once more would wait for somebody who has gone."""
    made = await lab.sandbox()
    member = (await lab.created(made.handle)).handle
    (began,) = await lab.driver.start_containers([member])
    os.mkfifo(fifo(dockerd, member))
    assert (await lab.driver.container_status(member)).state == "created"
    assert (await lab.driver.start_containers([member]))[0] == began
    assert not fifo(dockerd, member).exists()
    assert (await lab.driver.container_status(member)).state == "running"


async def test_one_that_was_started_by_hand_while_it_waited_is_taken_as_it_is(lab: Lab, dockerd: Dockerd) -> None:
    made = await lab.sandbox()
    member = (await lab.created(made.handle)).handle
    os.close(os.open(fifo(dockerd, member), os.O_RDONLY))
    fifo(dockerd, member).unlink()
    (told,) = await lab.driver.start_containers([member])
    assert (await lab.driver.container_status(member)).state in ("running", "exited"), told


async def test_whoever_restarts_a_member_by_hand_has_it_run(lab: Lab, dockerd: Dockerd) -> None:
    made = await lab.sandbox()
    member = await lab.started(made.handle, FOREVER)
    before = await lab.driver.container_status(member)
    dockerd.restart(member.state["docker_id"])
    after = await lab.driver.container_status(member)
    assert (after.state, after.pid != before.pid) == ("running", True)
    assert list((dockerd.exec_root / "podd-hold").iterdir()) == []


async def test_a_runtime_that_does_not_hold_is_found_out(dockerd: Dockerd, lab_on: LabOn) -> None:
    async with lab_on(dockerd, "runc") as lab:
        made = await lab.sandbox()
        with pytest.raises(Unavailable, match="did not hold it"):
            await lab.created(made.handle)
        (mine,) = [one for one in await lab.driver.owned() if one.sandbox_id == made.handle.id]
        assert not mine.containers


@pytest.fixture
def own_dockerd(request: pytest.FixtureRequest) -> Iterator[Dockerd]:
    """One that the test may end."""
    yield from a_dockerd(*getattr(request, "param", ()))


@pytest.mark.parametrize("own_dockerd", [["--live-restore"]], indirect=True)
async def test_one_waits_on_while_dockerd_is_started_again(own_dockerd: Dockerd, lab_on: LabOn) -> None:
    async with lab_on(own_dockerd, "podd") as lab:
        made = await lab.sandbox()
        held = (await lab.created(made.handle, exits(7))).handle
        own_dockerd.stop()
        own_dockerd.start()
        assert (await lab.driver.container_status(held)).state == "created"
        await lab.driver.start_containers([held])
        assert (await lab.driver.wait_container(held)).code == 7
