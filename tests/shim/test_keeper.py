"""The keeper and its attendants: nothing is lost between two of them, and the failure of one costs no pod."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from podd.shim import attendant, keeper
from podd.shim.plan import ContainerPlan
from podd.testing.shim import read_log

from .conftest import TestPod
from .test_supervisor import (
    attach,
    attendants,
    exec_plan,
    is_parked,
    next_frame,
    run_exec,
    send_input,
    wait_until,
)

pytestmark = pytest.mark.root

EPOLL_WAITS = {"232", "281", "22"}
"""epoll_wait(2) of x86-64, epoll_pwait(2) there and elsewhere."""

FOR_EVER = 0xFFFFFFFF


def parked(pod: TestPod) -> TestPod:
    wait_until(lambda: is_parked(pod))
    return pod


def attendant_of(pod: TestPod) -> int:
    """Its pid: there is one right after a request."""
    pod.client.call("status")
    (pid,) = attendants(pod)
    return pid


@pytest.fixture
def sleeper(pod: TestPod) -> ContainerPlan:
    plan = pod.sh("a", "exec sleep 987680", stdin=True)
    pod.run(plan)
    return plan


def test_attendant_ends_when_idle_and_another_one_goes_on(pod: TestPod, sleeper: ContainerPlan) -> None:
    before = pod.client.call("status")
    parked(pod)
    assert pod.client.call("status") == before
    assert pod.create(sleeper)[0]["pid"] == before["containers"][sleeper["id"]]["pid"]
    assert [report["error"] for report in pod.start(sleeper)] == [""]


def test_held_container_is_released_by_a_later_attendant(pod: TestPod) -> None:
    plan = pod.sh("a", "echo out; exit 3")
    pod.create(plan)
    parked(pod)
    pod.client.call("subscribe")
    parked(pod)
    assert [report["error"] for report in pod.start(plan)] == [""]
    assert pod.exit_of(plan)["code"] == 3
    assert read_log(plan)["stdout"] == b"out\n"


def test_exit_without_an_attendant_is_told_to_who_has_subscribed(pod: TestPod, sleeper: ContainerPlan) -> None:
    parked(pod)
    begun = time.time_ns()
    os.kill(pod.client.call("status")["containers"][sleeper["id"]]["pid"], signal.SIGKILL)
    ended = pod.exit_of(sleeper)
    assert (ended["code"], ended["signal"]) == (137, 9)
    assert begun <= ended["finished_at_ns"] <= time.time_ns()
    parked(pod)
    assert pod.client.call("status")["containers"][sleeper["id"]]["exit"] == ended


def test_held_container_that_dies_without_an_attendant(pod: TestPod) -> None:
    plan = pod.sh("a", "exit 0")
    (report,) = pod.create(plan)
    pod.client.call("subscribe")
    parked(pod)
    os.kill(report["pid"], signal.SIGKILL)
    ended = pod.exit_of(plan)
    assert (ended["reason"], ended["started_at_ns"], ended["signal"]) == ("StartError", None, 9)


def test_attachment_outlives_the_attendant(pod: TestPod) -> None:
    plan = pod.sh("a", "while read line; do echo got $line; done", stdin=True, stdin_once=True)
    pod.run(plan)
    sock = attach(pod, plan, stdin=True)
    parked(pod)
    send_input(sock, b"one\n")
    assert next_frame(sock) == (1, b"got one\n")
    assert attendants(pod) == []  # the keeper passes on what is said, and may still be at it
    sock.close()
    assert pod.exit_of(plan)["code"] == 0


def test_exec_outlives_the_attendant(pod: TestPod, sleeper: ContainerPlan) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    running = pod.client.call("exec", [null] * 3, container=sleeper["id"], exec=exec_plan("e1", "sleep", "987681"))
    os.close(null)
    parked(pod)
    os.kill(running["pid"], signal.SIGTERM)
    notice = pod.client.notice()
    assert (notice["exec"], notice["exit"]["signal"]) == ("e1", signal.SIGTERM)
    parked(pod)
    assert pod.client.call("exec_wait", exec="e1") == notice["exit"]
    assert run_exec(pod, sleeper, exec_plan("e2", "true"))[0] == 0


def test_init_of_shared_pids_is_known_to_later_attendants(pods: Callable[..., TestPod]) -> None:
    pod = parked(pods(pid="pod").ready())
    plan = pod.sh("a", "sleep 987682")
    pod.run(plan)
    parked(pod)
    pod.client.call("shutdown")
    assert pod.shim_ended()
    assert not os.path.exists(f"/proc/{pod.report['init_pid']}")


def test_killed_attendant_costs_no_container(pod: TestPod, sleeper: ContainerPlan) -> None:
    """Who waited for an answer is disconnected; the next attendant knows what the last one knew."""
    before = pod.client.call("status")
    os.kill(attendant_of(pod), signal.SIGKILL)
    with pytest.raises(ConnectionError):
        pod.client.call("exec_wait", exec="never answered")
    pod.reconnect()
    assert pod.client.call("status") == before
    pod.client.call("subscribe")
    pod.client.call("signal", containers=[sleeper["id"]], signal=signal.SIGKILL)
    assert pod.exit_of(sleeper)["signal"] == 9


def test_container_that_ends_while_there_is_no_attendant_to_tell(pod: TestPod) -> None:
    plan = pod.sh("a", "exec sleep 987683")
    (report,) = pod.run(plan)
    os.kill(attendant_of(pod), signal.SIGKILL)
    os.kill(report["pid"], signal.SIGKILL)
    wait_until(lambda: os.path.exists(f"{pod.run_dir}/exits/{plan['id']}.json"))
    assert json.loads(Path(f"{pod.run_dir}/exits/{plan['id']}.json").read_text())["signal"] == 9


def test_child_of_an_attendant_that_failed_at_once_is_ended(pod: TestPod) -> None:
    """The container was forked, and nobody lived to write that down."""
    plan = pod.sh("a", "exec sleep 987684")
    (report,) = pod.create(plan)
    running = attendant_of(pod)
    os.kill(running, signal.SIGSTOP)
    os.unlink(f"{pod.run_dir}/containers/{plan['id']}.json")
    os.kill(running, signal.SIGKILL)
    wait_until(lambda: not pod.group.pids())
    pod.reconnect()
    pod.client.call("destroy_container", container=plan["id"])
    assert not pod.group.child(plan["id"]).exists()
    assert not os.path.exists(f"/proc/{report['pid']}")
    pod.run(plan)
    assert pod.client.call("status")["containers"][plan["id"]]["state"] == "running"


def test_shim_whose_attendants_cannot_live_ends_with_its_containers(pod: TestPod, sleeper: ContainerPlan) -> None:
    """Never an unsupervised pod: what fails again and again is seen to fail."""
    running = attendant_of(pod)
    os.kill(running, signal.SIGSTOP)
    Path(f"{pod.run_dir}/{attendant.STATE_FILE}").write_text('{"report": null}')
    os.kill(running, signal.SIGKILL)
    assert pod.shim_ended(keeper.MAX_FAILURES * keeper.REST_S + 10.0)
    wait_until(lambda: not pod.group.pids())


def test_idle_shim_uses_no_processor(pod: TestPod, sleeper: ContainerPlan) -> None:
    """Nothing but an event wakes it: it waits without a limit of time."""
    parked(pod)
    wait_until(lambda: waits_at_most_ms(pod.report["shim_pid"]) == FOR_EVER)


def waits_at_most_ms(pid: int) -> int | None:
    """The timeout of the epoll_wait(2) that it is in; None: it is in none. Source: proc_pid_syscall(5)."""
    words = Path(f"/proc/{pid}/syscall").read_text().split()
    return int(words[4], 16) if words[0] in EPOLL_WAITS else None
