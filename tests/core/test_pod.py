"""The policy, by stories: what is asked and happens, and what podd then does."""

from __future__ import annotations

import msgspec
import pytest

from podd.core import container, look, pod, sandbox, state, status
from podd.core import events as ev
from podd.driver.contract import ContainerCreated, Observed
from podd.errors import Conflict
from podd.model.pod import Probe
from world import BOOM, SECOND, World, exit_of, make_container, make_pod

POLICIES = ("Always", "OnFailure", "Never")


def started(*names: str, **spec: object) -> World:
    world = World.of(*names, **spec)
    world.settle()
    assert world.running == sorted(names or ("a", "b", "c"))
    return world


def shown(world: World, name: str) -> str:
    """The state of a container as kubectl would show it: a reason, or Running."""
    members = status.status(world.state, str).container_statuses
    now = next(m.state for m in members if m.name == name)
    if now.waiting:
        return now.waiting.reason
    return now.terminated.reason if now.terminated else "Running"


def phase(world: World) -> str:
    return status.phase(world.state)


def test_members_are_let_go_together_and_only_when_all_are_held() -> None:
    world = World.of()
    world.do(world.pending[0])  # volumes
    world.do(world.pending[0])  # sandbox
    first, second, third = world.waits_for(ev.CreateContainer)
    world.do(second)
    world.do(first)
    assert not world.waits_for(ev.StartContainers)
    assert not world.ran
    world.do(third)
    (start,) = world.waits_for(ev.StartContainers)
    assert len(start.ids) == 3
    world.settle()
    assert (world.running, phase(world)) == (["a", "b", "c"], "Running")
    assert world.state.start_skew_us == 2
    assert world.state.conditions["Ready"].status


def test_the_volumes_of_a_new_sandbox_are_prepared_again() -> None:
    """The host may have been restarted meanwhile; and what is there stays there, whatever comes of it."""
    world = started("a")
    world.lose_sandbox()
    world.do(world.pending[0])
    (prepare,) = world.pending
    assert isinstance(prepare, ev.PrepareVolumes)
    world.do(prepare, fail=True)
    world.settle()
    assert (world.running, status.status(world.state, str).reason) == ([], "FailedMount")
    world.feed(ev.DeleteAsked())
    world.settle()
    assert (world.forgotten, world.volumes) == (True, False)


def test_a_pod_without_volumes_does_not_wait_for_any() -> None:
    world = World.of(volumes=())
    assert [type(action) for action in world.pending] == [ev.CreateSandbox]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", [0, 1, 2])
def test_one_member_that_cannot_be_made_undoes_all(policy: str, broken: int) -> None:
    world = World.of(restart_policy=policy)
    world.do(world.pending[0])
    world.do(world.pending[0])
    creates = world.waits_for(ev.CreateContainer)
    for n, create in enumerate(creates):
        if create in world.pending:
            world.do(create, fail=n == broken)
    world.settle()
    assert not world.ran
    assert not world.sandboxes
    assert shown(world, creates[broken].name) == "CreateContainerError"
    assert phase(world) == ("Failed" if policy == "Never" else "Pending")
    assert status.status(world.state, str).message == "boom: no such file; give another"


def test_only_the_first_failure_of_a_start_counts() -> None:
    world = World.of()
    world.do(world.pending[0])
    world.do(world.pending[0])
    first, second, third = world.waits_for(ev.CreateContainer)
    world.do(first)
    world.do(second, fail=True)
    world.feed(ev.ContainerExited(id=first.id, exit=exit_of(137, world.now_ns, 9)))
    world.feed(ev.ContainerFailed(id=third.id, failure=BOOM))
    assert world.state.failed_start is not None
    assert (world.state.failed_start.culprit, world.state.failed_start.tries) == (second.name, 1)


def test_a_start_that_failed_is_tried_again_ever_more_rarely_and_then_works() -> None:
    world = World.of("a")
    delays = []
    for _ in range(7):
        while not world.waits_for(ev.CreateContainer):
            world.do(world.pending[0])
        world.do(world.waits_for(ev.CreateContainer)[0], fail=True)
        world.settle()
        wake = pod.next_wake(world.state)
        assert wake is not None
        delays.append((wake - world.now_ns) // SECOND)
        world.now_ns = wake
        world.feed(ev.Woke())
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    world.settle()
    assert (world.running, phase(world), world.state.failed_start) == (["a"], "Running", None)
    assert world.state.members["a"].restarts == 0


@pytest.mark.parametrize(
    ("policy", "code", "comes_back", "ends"),
    [
        ("Always", 0, True, "Running"),
        ("Always", 1, True, "Running"),
        ("OnFailure", 0, False, "Succeeded"),
        ("OnFailure", 1, True, "Running"),
        ("Never", 0, False, "Succeeded"),
        ("Never", 1, False, "Failed"),
    ],
)
def test_restart_policy(policy: str, code: int, comes_back: bool, ends: str) -> None:
    world = started("a", restart_policy=policy)
    world.exit("a", code)
    world.settle()
    assert (world.running == ["a"]) is comes_back
    assert phase(world) == ends
    assert world.state.members["a"].restarts == int(comes_back)
    assert bool(world.sandboxes) is comes_back, "a pod that has ended holds nothing of the host"


def test_crash_loop_backs_off_as_the_kubelet_does() -> None:
    world = started("a", "b")
    waits = []
    for _ in range(8):
        world.exit("a", 1)
        world.settle()
        wake = pod.next_wake(world.state)
        waits.append(0 if wake is None else (wake - world.now_ns) // SECOND)
        if wake is not None:
            assert shown(world, "a") == "CrashLoopBackOff"
            assert (
                world.told[-1].message == f"Back-off restarting failed container a in pod p_default({world.state.uid})"
            )
            assert world.running == ["b"]
            world.sleep((wake - world.now_ns) / SECOND)
        assert world.running == ["a", "b"]
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    assert world.state.members["a"].restarts == 8
    world.sleep(600)
    world.exit("a", 1)
    world.settle()
    assert world.running == ["a", "b"], "ten minutes of running begin the back-off anew"


def test_stop_is_one_signal_to_all_then_a_kill_at_the_deadline() -> None:
    world = started(termination_grace_period_seconds=30)
    world.feed(ev.StopAsked())
    world.settle()
    assert world.signals == [(15, ("a", "b", "c"))]
    world.exit("b", 0)
    world.sleep(29.9)
    assert world.running == ["a", "c"]
    world.sleep(0.2)
    assert world.signals[1:] == [(9, ("a", "c"))]
    world.settle()
    assert not world.sandboxes
    assert [shown(world, n) for n in "abc"] == ["Error", "Completed", "Error"]
    world.sleep(10_000)
    assert not world.sandboxes, "a pod that is stopped stays stopped"
    assert world.volumes, "and keeps what is in its volumes"


def test_a_stop_asked_again_shortens_the_time_and_never_lengthens_it() -> None:
    world = started("a")
    world.feed(ev.StopAsked(grace_s=10))
    world.feed(ev.StopAsked(grace_s=1000))
    assert world.state.goal.kill_at_ns == world.now_ns + 10 * SECOND
    world.feed(ev.DeleteAsked(grace_s=2))
    world.settle()
    world.sleep(2)
    assert world.forgotten


def test_processes_that_survive_a_kill_lose_their_sandbox() -> None:
    world = started("a")
    world.feed(ev.StopAsked(grace_s=0))
    world.pending.clear()  # the signals are lost
    assert pod.next_wake(world.state) == world.now_ns + 10 * SECOND
    world.sleep(10)
    assert not world.sandboxes


def test_delete_without_grace_takes_the_sandbox_at_once() -> None:
    world = started()
    world.feed(ev.DeleteAsked(grace_s=0))
    assert [type(a) for a in world.pending] == [ev.DestroySandbox]
    world.settle()
    assert world.forgotten
    assert not world.volumes


def test_delete_while_starting_undoes_and_forgets() -> None:
    world = World.of()
    for steps in range(6):
        world = World.of()
        for _ in range(steps):
            if world.pending:
                world.do(world.pending[0])
        world.feed(ev.DeleteAsked())
        world.settle()
        world.sleep(30)  # those that were being let go may run already
        assert world.forgotten, steps
        assert not world.sandboxes


def test_what_cannot_be_removed_is_tried_until_it_is() -> None:
    world = started("a")
    world.feed(ev.DeleteAsked(grace_s=0))
    for _ in range(3):
        world.do(world.pending[0], fail=True)
        wake = pod.next_wake(world.state)
        assert wake is not None
        world.now_ns = wake
        world.feed(ev.Woke())
    assert [t.reason for t in world.told][-3:] == ["FailedKillPod"] * 3
    world.do(world.pending[0])
    world.do(world.pending[0], fail=True)  # the volumes will not go either, once
    assert not world.forgotten
    world.sleep(10)
    assert world.forgotten


@pytest.mark.parametrize("policy", POLICIES)
def test_a_lost_sandbox_fails_the_pod_and_the_policy_brings_it_back(policy: str) -> None:
    world = started(restart_policy=policy)
    world.lose_sandbox()
    world.settle()
    if policy == "Never":
        assert (phase(world), world.running) == ("Failed", [])
    else:
        assert (phase(world), world.running) == ("Running", ["a", "b", "c"])
        assert [m.restarts for m in world.state.members.values()] == [1, 1, 1]
    world.sleep(60)
    if policy != "Never":
        world.lose_sandbox()
        world.settle()
        assert world.running == []
        world.sleep(10)
        assert world.running == ["a", "b", "c"]


def test_restart_is_a_stop_and_a_start_with_a_new_sandbox() -> None:
    world = started("a")
    (before,) = world.sandboxes
    world.feed(ev.RestartAsked())
    world.settle()
    world.exit("a", 0)
    world.settle()
    assert world.sandboxes != {before}
    assert world.running == ["a"]


def test_start_of_a_stopped_pod_and_of_one_that_has_ended() -> None:
    world = started("a", restart_policy="Never")
    world.exit("a", 3)
    world.settle()
    assert phase(world) == "Failed"
    world.feed(ev.StartAsked())
    world.settle()
    assert world.running == ["a"]
    world.feed(ev.StartAsked())
    assert not world.pending, "starting what runs does nothing"


def test_pause_holds_restarts_and_stop_thaws_first() -> None:
    world = started("a", "b")
    world.feed(ev.PauseAsked())
    world.settle()
    assert world.frozen
    assert not world.state.conditions["Ready"].status
    world.end(world.id_of("b"), exit_of(137, world.now_ns, 9))
    assert not world.pending, "nothing is made in a frozen pod"
    world.feed(ev.StopAsked())
    (thaw,) = world.pending
    assert isinstance(thaw, ev.Thaw)
    world.do(thaw)
    world.do(world.pending[0])
    assert world.signals == [(15, ("a",))]


@pytest.mark.parametrize("request_", [ev.PauseAsked(), ev.StartAsked(), ev.RestartAsked(), ev.ResumeAsked()])
def test_a_pod_that_is_being_deleted_takes_no_other_wish(request_: ev.Request) -> None:
    world = started("a")
    world.feed(ev.DeleteAsked())
    with pytest.raises(Conflict, match="being deleted"):
        pod.step(world.state, request_, world.now_ns)


def test_a_pod_that_does_not_run_cannot_be_paused() -> None:
    world = World.of()
    with pytest.raises(Conflict, match="not running"):
        pod.step(world.state, ev.PauseAsked(), world.now_ns)


def test_a_member_unlike_its_plan_never_runs() -> None:
    world = World.of("a")
    world.do(world.pending[0])
    world.do(world.pending[0])
    (create,) = world.waits_for(ev.CreateContainer)
    box = world.state.sandbox
    assert isinstance(box, sandbox.Ready)
    world.state = pod.replace(world.state, sandbox=pod.replace(box, observed=Observed(namespaces={"net": 7})))
    world.pending.remove(create)
    created = ContainerCreated(handle=box.handle, observed=Observed(namespaces={"net": 8}))
    world.feed(ev.ContainerMade(id=create.id, created=created))
    world.settle()
    assert not world.ran
    assert phase(world) == "Failed"
    assert "net namespace: is 8, planned is 7" in status.status(world.state, str).message


def test_a_program_that_ends_before_its_start_is_answered_is_no_failed_start() -> None:
    world = World.of("a", restart_policy="Never")
    while not world.waits_for(ev.StartContainers):
        world.do(world.pending[0])
    (start,) = world.waits_for(ev.StartContainers)
    (id,) = start.ids
    world.end(id, exit_of(0, world.now_ns))
    world.do(start)
    world.settle()
    assert phase(world) == "Succeeded"


def test_reports_of_what_is_no_longer_there_change_nothing() -> None:
    world = started("a")
    before = world.state
    for report in (
        ev.SandboxFailed(id="ffff", failure=BOOM),
        ev.SandboxLost(id="ffff", reason="?"),
        ev.SandboxDestroyed(id="ffff"),
        ev.ContainerFailed(id="ffff", failure=BOOM),
        ev.ContainerDestroyed(id="ffff"),
        ev.Woke(),
    ):
        world.feed(report)
        assert (world.state, world.pending) == (before, [])


def test_ids_are_known_before_and_never_used_twice() -> None:
    world = started("a")
    ids = {world.id_of("a")}
    for _ in range(5):
        world.exit("a", 0)
        world.settle()
        world.sleep(400)
        ids.add(world.id_of("a"))
    assert len(ids) == 6
    assert all(len(i) == 16 for i in ids)


def test_a_new_pod_is_pending_and_wakes_at_once() -> None:
    fresh = state.new(World.of().state.uid, make_pod(), "fake", 5)
    assert status.phase(fresh) == "Pending"
    assert look.next_wake(fresh) == 0
    assert isinstance(container.Creating(id="0" * 16, attempt=0), container.State)


def test_nothing_is_asked_of_a_sandbox_that_goes_in_the_same_step() -> None:
    """Else the engine would look for a handle that is no more, and podd would end."""
    world = World.of("a")
    world.do(world.pending[0])  # volumes
    (create,) = world.pending
    world.feed(ev.StopAsked())
    world.do(create)  # the answer was on its way already
    assert [type(action) for action in world.pending] == [ev.DestroySandbox]

    recovered = World.of("a")
    recovered.do(recovered.pending[0])
    recovered.do(recovered.pending[0])
    recovered.restart_podd()
    recovered.feed(ev.StopAsked())
    recovered.settle()
    assert not recovered.sandboxes


def test_what_cannot_be_taken_up_again_can_be_deleted_without_grace() -> None:
    world = started("a")
    world.restart_podd()
    world.feed(ev.DeleteAsked())
    assert [type(action) for action in world.pending] == [ev.RecoverSandbox]
    world.feed(ev.DeleteAsked(grace_s=0))
    world.settle()
    assert world.forgotten


def test_removing_volumes_again_waits_for_the_answer() -> None:
    world = started("a")
    world.feed(ev.DeleteAsked(grace_s=0))
    world.do(world.pending[0])
    world.do(world.pending[0], fail=True)
    wake = pod.next_wake(world.state)
    assert wake is not None
    world.now_ns = wake
    world.feed(ev.Woke())
    assert world.waits_for(ev.RemoveVolumes)
    assert pod.next_wake(world.state) is None, "it would turn in circles as long as the removal takes"


def paused(*names: str) -> World:
    world = started(*names)
    world.feed(ev.PauseAsked())
    world.settle()
    assert world.frozen
    return world


def test_what_could_not_be_thawed_stays_paused_and_says_so() -> None:
    world = paused("a")
    world.feed(ev.ResumeAsked())
    world.do(world.pending[0], fail=True)
    assert (world.state.freezer, world.told[-1].reason) == ("frozen", "FailedResume")
    world.feed(ev.ResumeAsked())
    world.settle()
    assert (world.state.freezer, world.frozen) == ("thawed", False)


def test_what_could_not_be_thawed_to_end_is_destroyed_as_a_whole() -> None:
    """Signals do not reach it, so to wait out its grace period would be for nothing."""
    world = paused("a")
    world.feed(ev.StopAsked(grace_s=30))
    world.do(world.pending[0], fail=True)
    assert [type(action) for action in world.pending] == [ev.DestroySandbox]
    world.settle()
    assert status.status(world.state, str).reason == "Stopped"


def test_resuming_a_pod_whose_sandbox_is_being_removed_asks_nothing_of_it() -> None:
    world = paused("a")
    world.lose_sandbox()
    world.feed(ev.Frozen(frozen=True))  # late
    world.feed(ev.ResumeAsked())
    assert [type(action) for action in world.pending] == [ev.DestroySandbox]


def test_a_failed_start_is_of_those_that_were_to_start() -> None:
    """Two members come back at the same time, and one release fails: the other runs."""
    world = started("a", "b")
    world.exit("a", 1)
    world.exit("b", 1)
    world.do(world.pending[0])
    world.do(world.pending[0])
    world.do(world.pending[0])
    world.do(world.pending[0])
    first, second = world.waits_for(ev.StartContainers)
    world.do(first, fail=True)
    assert (shown(world, "a"), shown(world, "b")) == ("RunContainerError", "ContainerCreating")
    world.do(second)
    assert shown(world, "b") == "Running"


def test_a_pod_that_lost_its_sandbox_is_not_ready() -> None:
    """Not even while the remains of it will not go."""
    world = started("a")
    world.lose_sandbox()
    world.do(world.pending[0], fail=True)
    shown_now = status.status(world.state, str)
    assert {c.type: c.status for c in shown_now.conditions}["Ready"] == "False"
    assert not shown_now.container_statuses[0].ready


def test_only_what_was_made_counts_as_a_restart() -> None:
    """As for the kubelet: a container that could not be created leaves the count and the last state as they were."""
    world = started("a", "b")
    world.exit("a", 3)
    world.do(world.pending[0])  # the old one is removed
    for _ in range(3):
        (create,) = world.waits_for(ev.CreateContainer)
        world.do(create, fail=True)
        world.now_ns = pod.next_wake(world.state) or 0
        world.feed(ev.Woke())
    a = status.status(world.state, str).container_statuses[0]
    assert a.last_state.terminated is not None
    assert (a.restart_count, a.last_state.terminated.exit_code) == (1, 3)
    world.do(world.pending[0], fail=True)
    assert shown(world, "a") == "CreateContainerError"


def test_a_clock_that_was_set_back_while_podd_was_away_holds_nothing_up() -> None:
    """A day back: what was due within minutes is due within minutes."""
    day_ns = 86400 * SECOND
    looping = started("a", "b")
    for _ in range(2):
        looping.exit("a", 1)
        looping.settle()
    ending = started("a")
    ending.feed(ev.StopAsked(grace_s=30))
    failed = World.of("a")
    failed.do(failed.pending[0], fail=True)
    stuck = started("a")
    stuck.lose_sandbox()
    stuck.do(stuck.pending[0], fail=True)
    for world in (looping, ending, failed, stuck):
        assert pod.next_wake(world.state) is not None
        world.now_ns -= day_ns
        world.restart_podd()
        world.settle()
        wake = pod.next_wake(world.state)
        assert wake is None or wake <= world.now_ns + 300 * SECOND


def test_a_long_patience_is_as_long_after_podd_was_restarted() -> None:
    world = World.of(make_container("a", liveness_probe=Probe(termination_grace_period_seconds=3600)))
    world.settle()
    world.says("a", "liveness", success=False)
    before = pod.next_wake(world.state)
    world.restart_podd()
    world.settle()
    assert pod.next_wake(world.state) == before == world.now_ns + 3600 * SECOND


def test_what_says_nothing_is_not_shown_but_where_kubernetes_shows_it() -> None:
    world = started("a")
    world.exit("a", 3)
    shown = msgspec.to_builtins(status.status(world.state, str))
    (member,) = shown["containerStatuses"]
    assert "reason" not in next(c for c in shown["conditions"] if c["status"] == "True")
    assert {"lastState", "imageID", "state", "ready", "restartCount"} <= member.keys()
    assert not {"pid", "allocatedResources", "resources"} & member.keys()
    terminated = (member["state"].get("terminated") or member["lastState"]["terminated"]).keys()
    assert {"exitCode", "reason", "finishedAt", "containerID"} <= terminated
    assert not {"signal", "message"} & terminated
