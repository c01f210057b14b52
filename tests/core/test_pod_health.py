"""The policy of hooks and probes, by stories."""

from __future__ import annotations

import pytest

from podd.core import events as ev
from podd.core import look, pod, status
from podd.model.pod import ExecAction, Lifecycle, LifecycleHandler, Probe
from world import World, exit_of, make_container

EXEC = ExecAction(command=("true",))
PROBE = Probe(exec=EXEC)
HOOK = LifecycleHandler(exec=EXEC)
PRE_STOP = Lifecycle(pre_stop=HOOK)
POST_START = Lifecycle(post_start=HOOK)


def ready(world: World) -> bool:
    return world.state.conditions["Ready"].status


def reasons(world: World) -> list[str]:
    return [told.reason for told in world.told]


def test_readiness_makes_the_pod_ready_and_unready_and_restarts_nothing() -> None:
    world = World.of(make_container("a", readiness_probe=PROBE), "b")
    world.settle()
    assert (world.running, ready(world)) == (["a", "b"], False)
    shown = status.status(world.state, str)
    assert [c.message for c in shown.conditions if c.type == "Ready"] == ["containers with unready status: [a]"]
    world.says("a", "readiness", True)
    assert ready(world)
    world.says("a", "readiness", False)
    assert not ready(world)
    world.settle()
    assert world.running == ["a", "b"]
    assert not world.signals


def test_liveness_ends_and_restarts_the_container_alone() -> None:
    world = World.of(make_container("a", liveness_probe=PROBE), "b", termination_grace_period_seconds=30)
    world.settle()
    world.says("a", "liveness", True)
    assert ready(world)
    world.says("a", "liveness", False)
    world.settle()
    assert world.signals == [(15, ("a",))]
    assert "Container a failed liveness probe, will be restarted" in [told.message for told in world.told]
    world.sleep(29)
    assert len(world.signals) == 1
    world.sleep(1)
    assert world.signals[1:] == [(9, ("a",))]
    assert world.running == ["a", "b"]
    assert world.state.members["a"].restarts == 1
    assert world.state.members["b"].restarts == 0


def test_a_probe_may_have_a_grace_period_of_its_own() -> None:
    quick = Probe(exec=EXEC, termination_grace_period_seconds=5)
    world = World.of(make_container("a", liveness_probe=quick), termination_grace_period_seconds=300)
    world.settle()
    world.says("a", "liveness", False)
    world.settle()
    world.sleep(5)
    assert world.signals == [(15, ("a",)), (9, ("a",))]


@pytest.mark.parametrize(("policy", "comes_back"), [("Always", True), ("OnFailure", True), ("Never", False)])
def test_a_sick_container_that_ends_with_0_has_not_done_its_work(policy: str, comes_back: bool) -> None:
    world = World.of(make_container("a", liveness_probe=PROBE), restart_policy=policy)
    world.settle()
    world.says("a", "liveness", False)
    world.settle()
    world.exit("a", 0)
    world.settle()
    assert (world.running == ["a"]) is comes_back


def test_a_startup_probe_that_fails_ends_it_too() -> None:
    world = World.of(make_container("a", startup_probe=PROBE))
    world.settle()
    assert not ready(world)
    (asked,) = world.probed.values()
    assert (asked.started, asked.ready) == (False, True)
    world.says("a", "startup", False)
    world.settle()
    assert world.signals == [(15, ("a",))]


def test_a_verdict_on_what_ends_already_changes_nothing() -> None:
    world = World.of(make_container("a", liveness_probe=PROBE))
    world.settle()
    id = world.id_of("a")
    world.feed(ev.StopAsked())
    world.settle()
    before = world.state
    world.feed(ev.Probed(id=id, probe="liveness", success=False))  # type: ignore[arg-type]
    assert world.state == before


def test_probing_goes_on_after_podd_was_restarted_from_what_was_known() -> None:
    world = World.of(make_container("a", readiness_probe=PROBE, startup_probe=PROBE))
    world.go_well()
    assert ready(world)
    world.restart_podd()
    world.settle()
    assert ready(world), "what was ready is so until a probe says otherwise"
    (asked,) = world.probed.values()
    assert (asked.started, asked.ready) == (True, True)


def test_the_post_start_hook_comes_before_anybody_counts_the_container_as_started() -> None:
    world = World.of(make_container("a", lifecycle=POST_START, liveness_probe=PROBE))
    while not world.waits_for(ev.RunHook):
        world.do(world.pending[0])
    assert (world.running, ready(world), world.probed) == (["a"], False, {})
    world.settle()
    assert ready(world)
    assert world.probed


def test_a_post_start_hook_that_fails_ends_the_container() -> None:
    world = World.of(make_container("a", lifecycle=POST_START), "b")
    while not world.waits_for(ev.RunHook):
        world.do(world.pending[0])
    world.do(world.waits_for(ev.RunHook)[0], fail=True)
    world.settle()
    assert world.signals == [(15, ("a",))]
    assert "FailedPostStartHook" in reasons(world)
    world.exit("a", 0)
    world.go_well()
    assert world.running == ["a", "b"]


def test_a_post_start_hook_is_run_again_when_podd_was_killed_meanwhile() -> None:
    world = World.of(make_container("a", lifecycle=POST_START))
    while not world.waits_for(ev.RunHook):
        world.do(world.pending[0])
    world.restart_podd()
    world.settle()
    assert ready(world)


def test_the_pre_stop_hook_comes_before_the_signal_and_inside_the_grace_period() -> None:
    world = World.of(make_container("a", lifecycle=PRE_STOP), "b", termination_grace_period_seconds=30)
    world.settle()
    world.feed(ev.StopAsked())
    (hook,) = world.waits_for(ev.RunHook)
    assert isinstance(hook, ev.RunHook)
    assert (hook.name, hook.hook, hook.limit_s) == ("a", "preStop", 30)
    world.do(world.waits_for(ev.SignalContainers)[0])
    assert world.signals == [(15, ("b",))], "those without a hook do not wait for it"
    world.now_ns += 20 * 10**9
    world.do(hook)
    world.settle()
    assert world.signals[1:] == [(15, ("a",))]
    world.exit("b")
    world.sleep(10)
    assert world.signals[2:] == [(9, ("a",))]


def test_a_hook_that_takes_all_the_time_leaves_two_seconds_for_the_signal() -> None:
    world = World.of(make_container("a", lifecycle=PRE_STOP), termination_grace_period_seconds=30)
    world.settle()
    world.feed(ev.StopAsked())
    world.pending.clear()  # it hangs
    world.now_ns += 30 * 10**9
    world.feed(ev.Woke())
    world.settle()
    assert world.signals == [(15, ("a",))]
    world.sleep(1.9)
    assert len(world.signals) == 1
    world.sleep(0.1)
    assert world.signals[1:] == [(9, ("a",))]


def test_a_pre_stop_hook_that_fails_is_told_and_stops_nothing() -> None:
    world = World.of(make_container("a", lifecycle=PRE_STOP))
    world.settle()
    world.feed(ev.StopAsked())
    world.do(world.waits_for(ev.RunHook)[0], fail=True)
    world.settle()
    assert world.signals == [(15, ("a",))]
    assert "FailedPreStopHook" in reasons(world)


def test_without_grace_there_is_no_hook() -> None:
    world = World.of(make_container("a", lifecycle=PRE_STOP))
    world.settle()
    world.feed(ev.StopAsked(grace_s=0))
    assert not world.waits_for(ev.RunHook)


def test_a_sick_container_runs_its_pre_stop_hook_too() -> None:
    world = World.of(make_container("a", lifecycle=PRE_STOP, liveness_probe=PROBE))
    world.settle()
    world.says("a", "liveness", False)
    (hook,) = world.waits_for(ev.RunHook)
    world.restart_podd()
    assert not world.signals
    world.settle()
    assert world.signals == [(15, ("a",))]
    assert isinstance(hook, ev.RunHook)


def test_each_container_gets_the_signal_that_it_wants() -> None:
    quit_ = make_container("a", lifecycle=Lifecycle(stop_signal="SIGQUIT"))
    real_time = make_container("b", lifecycle=Lifecycle(stop_signal="SIGRTMIN+3"))
    world = World.of(quit_, real_time, "c")
    world.settle()
    world.feed(ev.StopAsked())
    world.settle()
    assert sorted(world.signals) == [(3, ("a",)), (15, ("c",)), (37, ("b",))]


def test_an_image_says_what_stops_it_where_the_manifest_does_not() -> None:
    real_time = make_container("b", lifecycle=Lifecycle(stop_signal="SIGRTMIN+3"))
    world = World.of("a", real_time, "c")
    world.image_signals = {"a": 3, "b": 3}
    world.settle()
    world.feed(ev.StopAsked())
    world.restart_podd()
    world.settle()
    assert sorted(world.signals) == [(3, ("a",)), (15, ("c",)), (37, ("b",))]


def test_hooks_of_sidecars_run_at_once_and_their_signals_in_turn() -> None:
    sidecar = make_container("s", restart_policy="Always", lifecycle=PRE_STOP)
    world = World.of("a", init_containers=(sidecar,))
    world.go_well()
    world.feed(ev.StopAsked())
    assert [hook.name for hook in world.waits_for(ev.RunHook) if isinstance(hook, ev.RunHook)] == ["s"]
    world.settle()
    assert world.signals == [(15, ("a",))]
    world.exit("a")
    world.settle()
    assert world.signals[1:] == [(15, ("s",))]


def test_a_paused_pod_is_not_ready_and_looks_at_no_clock() -> None:
    world = World.of(make_container("a", liveness_probe=PROBE))
    world.settle()
    world.feed(ev.PauseAsked())
    world.settle()
    assert not ready(world)
    assert pod.next_wake(world.state) is None


def test_the_old_end_of_a_container_does_not_end_the_new_one() -> None:
    world = World.of(make_container("a", liveness_probe=PROBE))
    world.settle()
    old = world.id_of("a")
    world.exit("a", 1)
    world.settle()
    world.feed(ev.Probed(id=old, probe="liveness", success=False))  # type: ignore[arg-type]
    world.feed(ev.HookDone(id=old, hook="postStart", failure=None))  # type: ignore[arg-type]
    assert not world.signals
    assert look.live(world.state)["a"].id != old
    world.end(world.id_of("a"), exit_of(0, world.now_ns))
