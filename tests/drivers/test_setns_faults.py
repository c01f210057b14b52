"""The setns driver where things go wrong: the zygote dies, shims die, files are damaged, the host is not fit."""

# ruff: noqa: ASYNC240  the files looked at are the kernel's, or the test's own
from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from podd.driver.contract import Handle
from podd.driver.hookspecs import DriverPaths
from podd.errors import Conflict, Denied, Invalid, NotFound, PoddError, Unavailable, Unsupported
from podd.model.ids import ContainerId, SandboxId
from podd.supervision import host
from podd.supervision.handles import VERSION
from podd.testing.contract import until_gone
from podd.testing.lab import IGNORES_TERM, Lab, exits, together
from podd_setns.driver import SetnsDriver

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def zygotes() -> set[int]:
    """Those of this process, whoever has started them."""
    found = set()
    for task in Path("/proc/self/task").iterdir():  # each thread has its own children
        for pid in (task / "children").read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().strip() == "podd-zygote":
                found.add(int(pid))
    return found


@pytest.fixture(autouse=True)
def of_others() -> set[int]:
    """Zygotes that tests of other things keep."""
    return zygotes()


def zygote_pid(of_others: set[int]) -> int:
    """The one of the test's driver."""
    (pid,) = zygotes() - of_others
    return pid


async def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await until_gone(pid)


def sandbox_dir(paths: DriverPaths, sandbox: Handle) -> Path:
    return Path(paths.run_dir, "pods", sandbox.id)


# ---- the zygote ------------------------------------------------------------------------------------------------------


async def test_a_zygote_that_died_is_replaced_and_costs_no_pod(lab: Lab, of_others: set[int]) -> None:
    made = await lab.sandbox()
    container = await lab.started(made.handle, exits(7, after_s=0.1))
    await kill(zygote_pid(of_others))
    other = await lab.sandbox()
    assert (await lab.driver.sandbox_status(other.handle)).state == "ready"
    assert (await lab.driver.wait_container(container)).code == 7
    assert (await lab.driver.sandbox_status(made.handle)).state == "ready"


async def test_sandboxes_asked_for_while_the_zygote_dies_are_made_or_refused(lab: Lab, of_others: set[int]) -> None:
    async def make() -> str:
        config = lab.sandbox_config()
        try:
            await lab.driver.create_sandbox(config)
        except Unavailable:
            await lab.driver.destroy_sandbox(config.id)
            return "refused"
        return "made"

    async def kill_zygote() -> str:
        await kill(zygote_pid(of_others))
        return "killed"

    await lab.sandbox()  # it is up
    answers = await together([make, make, kill_zygote, make])
    assert set(answers) <= {"made", "refused", "killed"}
    await lab.sandbox()


# ---- shims -----------------------------------------------------------------------------------------------------------


async def test_a_sandbox_that_cannot_be_made_leaves_nothing_and_the_driver_well(lab: Lab) -> None:
    config = lab.sandbox_config(sysctls={"kernel.hostname": "x"})
    for _ in range(2):
        with pytest.raises(Invalid, match=r"kernel\.hostname"):
            await lab.driver.create_sandbox(config)
        assert await lab.driver.owned() == []
    await lab.sandbox()


async def test_a_killed_shim_takes_its_containers_along(lab: Lab) -> None:
    made = await lab.sandbox()
    ended = await lab.started(made.handle, exits(7))
    await lab.driver.wait_container(ended)
    running = await lab.started(made.handle, IGNORES_TERM)
    pid = (await lab.driver.container_status(running)).pid
    assert pid is not None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_unknown, lab, running)
        await anyio.wait_all_tasks_blocked()
        await kill(made.handle.state["pid"])
    await until_gone(pid)
    assert (await lab.driver.wait_container(ended)).code == 7
    with pytest.raises(Unavailable):
        await lab.driver.create_container(made.handle, lab.container_config(made.handle))
    await lab.driver.destroy_container(made.handle, ContainerId(running.id))
    await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
    assert await lab.driver.owned() == []


async def _expect_unknown(lab: Lab, container: Handle) -> None:
    ended = await lab.driver.wait_container(container)
    assert (ended.code, ended.signal, ended.reason) == (137, 9, "ContainerStatusUnknown")


async def test_exits_of_a_shim_that_died_while_podd_was_away(lab: Lab) -> None:
    made = await lab.sandbox()
    ended, running = await lab.started(made.handle, exits(7)), await lab.started(made.handle)
    await lab.driver.wait_container(ended)
    async with lab.away():
        await kill(made.handle.state["pid"])
    with pytest.raises(NotFound):
        await lab.driver.recover(made.handle, [ended, running])
    assert (await lab.driver.wait_container(ended)).code == 7
    assert (await lab.driver.wait_container(running)).reason == "ContainerStatusUnknown"


async def test_a_sandbox_is_made_over_the_remains_of_one_of_its_id(lab: Lab) -> None:
    config = lab.sandbox_config()
    first = await lab.driver.create_sandbox(config)
    async with lab.away():
        await kill(first.handle.state["pid"])
    second = await lab.driver.create_sandbox(config)
    assert second.handle != first.handle
    assert (await lab.driver.sandbox_status(second.handle)).state == "ready"


async def test_a_sandbox_that_an_earlier_podd_made_and_forgot_is_taken_up(lab: Lab) -> None:
    config = lab.sandbox_config()
    first = await lab.driver.create_sandbox(config)
    async with lab.away():
        pass
    assert await lab.driver.create_sandbox(config) == first


async def test_a_sandbox_is_not_made_from_two_configs(lab: Lab) -> None:
    config = lab.sandbox_config()
    made = await lab.driver.create_sandbox(config)
    other = type(config)(**{name: getattr(config, name) for name in config.__struct_fields__} | {"hostname": "other"})
    with pytest.raises(Conflict):
        await lab.driver.create_sandbox(other)
    async with lab.away():
        pass
    with pytest.raises(Conflict):
        await lab.driver.create_sandbox(other)
    assert await lab.driver.create_sandbox(config) == made


async def test_a_shim_that_hangs_is_killed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podd.supervision.sandboxes.SHUTDOWN_S", 0.1)
    made = await lab.sandbox()
    await lab.started(made.handle, IGNORES_TERM)
    os.kill(made.handle.state["pid"], signal.SIGSTOP)
    await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
    assert await lab.driver.owned() == []


async def test_who_waits_when_podd_stops_is_not_told_of_an_end(lab: Lab) -> None:
    told = list[str]()

    async def wait(call: Callable[[Handle], Awaitable[object]], handle: Handle) -> None:
        with pytest.raises(Unavailable, match="podd has let go of it"):
            await call(handle)
        told.append(handle.id)

    await lab.leave()
    async with anyio.create_task_group() as tasks:
        driver = await lab.enter()
        made = await lab.sandbox()
        container = await lab.started(made.handle)
        tasks.start_soon(wait, driver.wait_sandbox, made.handle)
        tasks.start_soon(wait, driver.wait_container, container)
        await anyio.wait_all_tasks_blocked()
        await lab.leave()
    assert sorted(told) == sorted([made.handle.id, container.id])


async def test_what_a_shim_wrote_of_its_own_errors_is_told_at_its_end(lab: Lab, paths: DriverPaths) -> None:
    made = await lab.sandbox()
    (sandbox_dir(paths, made.handle) / "shim.log").write_text("Traceback: oops\n")
    with capture_logs() as logs:
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
    (told,) = [entry for entry in logs if entry["event"] == "shim.broken"]
    assert (told["sandbox"], told["traceback"]) == (made.handle.id, "Traceback: oops\n")


# ---- files -----------------------------------------------------------------------------------------------------------

DAMAGE = {
    "empty": b"",
    "not JSON": b"\0\xff{",
    "no object": b"[1, 2]",
    "nothing in it": b"{}",
    "wrong types": b'{"shim": {"pid": "1"}, "sandbox": 7}',
    "of somebody else": json.dumps(
        {"shim": {"pid": 1, "starttime_ticks": 1, "boot_id": "x"}, "sandbox": {"run_dir": "/", "cgroup": "x"}}
    ).encode(),
}


@pytest.mark.parametrize("text", DAMAGE.values(), ids=DAMAGE)
async def test_a_damaged_shim_file_is_swept(lab: Lab, paths: DriverPaths, text: bytes) -> None:
    made = await lab.sandbox()
    container = await lab.started(made.handle, IGNORES_TERM)
    pid = (await lab.driver.container_status(container)).pid
    assert pid is not None
    async with lab.away():
        (sandbox_dir(paths, made.handle) / "shim.json").write_bytes(text)
    (owned,) = await lab.driver.owned()
    assert (owned.sandbox_id, owned.handle, list(owned.containers)) == (made.handle.id, None, [container.id])
    os.kill(made.handle.state["pid"], signal.SIGKILL)  # nothing tells which process it is any more
    await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
    await until_gone(pid)


async def test_names_that_are_no_ids_are_not_ours(lab: Lab, paths: DriverPaths) -> None:
    for name in ("lost+found", "..data", "0123456789ABCDEF", "0" * 17):
        Path(paths.run_dir, "pods", name).mkdir()
    try:
        assert await lab.driver.owned() == []
    finally:
        for name in os.listdir(f"{paths.run_dir}/pods"):
            Path(paths.run_dir, "pods", name).rmdir()


@pytest.mark.parametrize("wrong", ["../../etc", "", "0" * 15, "0" * 15 + "/", "0123456789abcdeF"])
async def test_an_id_that_could_lead_elsewhere_is_refused(lab: Lab, wrong: str) -> None:
    with pytest.raises(Invalid, match="16 lower-case hexadecimal digits"):
        await lab.driver.destroy_sandbox(SandboxId(wrong))
    made = await lab.sandbox()
    with pytest.raises(Invalid, match="16 lower-case hexadecimal digits"):
        await lab.driver.destroy_container(made.handle, ContainerId(wrong))


async def test_a_socket_that_somebody_else_listens_on_is_not_the_shims(lab: Lab, paths: DriverPaths) -> None:
    made = await lab.sandbox()
    address = sandbox_dir(paths, made.handle) / "shim.sock"
    async with lab.away():
        address.rename(address.with_suffix(".away"))
        impostor = socket.socket(socket.AF_UNIX)
        os.chdir(address.parent)
        impostor.bind("shim.sock")
        impostor.listen()
    try:
        with pytest.raises(Unavailable, match="listens in its place"):
            await lab.driver.recover(made.handle, [])
    finally:
        impostor.close()
        address.with_suffix(".away").rename(address)
        os.chdir("/")
    assert (await lab.driver.recover(made.handle, [])).state == "ready"


HANDLES: dict[str, tuple[dict[str, Any], type[PoddError]]] = {
    "another version": ({"version": VERSION + 1}, Unsupported),
    "no state": ({"state": {}}, Invalid),
    "wrong types": ({"state": {"run_dir": 7}}, Invalid),
    "an id that is none": ({"id": "../x"}, Invalid),
}


@pytest.mark.parametrize(("changes", "kind"), HANDLES.values(), ids=HANDLES)
async def test_a_handle_that_is_not_ours(lab: Lab, changes: dict[str, Any], kind: type[PoddError]) -> None:
    made = await lab.sandbox()
    handle = made.handle
    fields = {"id": handle.id, "driver": handle.driver, "version": handle.version, "state": handle.state}
    with pytest.raises(kind):
        await lab.driver.recover(Handle(**{**fields, **changes}), [])


# ---- the host --------------------------------------------------------------------------------------------------------


@pytest.fixture
def unprivileged() -> Iterator[None]:
    os.seteuid(65534)
    yield
    os.seteuid(0)


async def test_without_root_it_says_so_and_does_nothing(paths: DriverPaths, unprivileged: None) -> None:
    async with SetnsDriver("setns", {}, paths) as driver:
        health = await driver.probe()
        assert (health.usable, health.remedy) == (False, "run podd as root")
        with pytest.raises(Denied, match="need root"):
            await driver.destroy_sandbox(SandboxId("0" * 16))
    assert not os.path.exists(paths.run_dir)


async def test_probe_tells_what_works_with_less(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Less:
        effective = 0

    monkeypatch.setattr(host, "capget", Less)
    monkeypatch.setenv("PATH", "")
    health = await lab.driver.probe()
    assert health.usable
    assert any("CAP_SYS_RESOURCE is missing" in note for note in health.notes)
    assert any("skopeo is not installed" in note for note in health.notes)
