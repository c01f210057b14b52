"""The policy of init containers and sidecars, by stories."""

from __future__ import annotations

import pytest

from podd.core import events as ev
from podd.core import look, pod, status
from podd.model.pod import Container, ExecAction, Lifecycle, LifecycleHandler, Probe
from world import SECOND, World, exit_of, make_container

PROBE = Probe(exec=ExecAction(command=("true",)))
HOOK = LifecycleHandler(exec=ExecAction(command=("true",)))
FIRST, SECOND_INIT = make_container("first"), make_container("second")


def sidecar(name: str, **fields: object) -> Container:
    return make_container(name, restart_policy="Always", **fields)


def shown(world: World, name: str) -> str:
    now = status.status(world.state, str)
    every = (*now.init_container_statuses, *now.container_statuses)
    state = next(one.state for one in every if one.name == name)
    if state.waiting:
        return state.waiting.reason
    return state.terminated.reason if state.terminated else "Running"


def test_init_containers_run_one_by_one_and_before_all_others() -> None:
    world = World.of("a", init_containers=(FIRST, SECOND_INIT))
    world.settle()
    assert world.running == ["first"]
    assert (shown(world, "a"), status.phase(world.state)) == ("PodInitializing", "Pending")
    assert not world.state.conditions["Initialized"].status
    world.exit("first")
    world.settle()
    assert (world.running, shown(world, "first")) == (["second"], "Completed")
    world.exit("second")
    world.settle()
    assert (world.running, status.phase(world.state)) == (["a"], "Running")
    assert world.state.conditions["Initialized"].status
    assert status.status(world.state, str).init_container_statuses[0].ready


def test_an_init_container_that_fails_is_tried_again_with_back_off() -> None:
    world = World.of("a", init_containers=(FIRST,))
    world.settle()
    world.exit("first", 1)
    world.settle()
    assert world.running == ["first"], "the first restart is at once"
    world.exit("first", 1)
    world.settle()
    assert (world.running, shown(world, "first")) == ([], "CrashLoopBackOff")
    assert pod.next_wake(world.state) == world.now_ns + 10 * SECOND
    world.sleep(10)
    world.exit("first", 0)
    world.settle()
    assert world.running == ["a"]
    assert world.state.members["first"].restarts == 2


def test_an_init_container_that_fails_fails_a_pod_that_is_never_restarted() -> None:
    world = World.of("a", init_containers=(sidecar("s"), FIRST), restart_policy="Never")
    world.settle()
    assert world.running == ["first", "s"]
    world.exit("first", 3)
    world.settle()
    assert world.signals == [(15, ("s",))], "nothing is left for the sidecar to serve"
    world.exit("s", 0)
    world.settle()
    assert (status.phase(world.state), bool(world.sandboxes), shown(world, "first")) == ("Failed", False, "Error")
    assert "a" not in {world.dead.get(id) for id in world.ran}


def test_a_new_sandbox_runs_the_init_containers_again() -> None:
    world = World.of("a", init_containers=(FIRST,))
    world.go_well()
    assert world.running == ["a"]
    world.lose_sandbox()
    world.settle()
    assert world.running == ["first"]
    world.go_well()
    assert world.running == ["a"]


def test_what_waits_after_a_sidecar_waits_until_it_has_started() -> None:
    world = World.of(
        "a", init_containers=(sidecar("s", startup_probe=PROBE, lifecycle=Lifecycle(post_start=HOOK)), FIRST)
    )
    while not world.waits_for(ev.RunHook):
        world.do(world.pending[0])
    assert world.running == ["s"]
    assert not world.probed, "the hook comes before the probes"
    world.settle()
    assert world.running == ["s"]
    world.says("s", "startup", True)
    world.settle()
    assert world.running == ["first", "s"]


def test_a_sidecar_comes_back_while_init_containers_run_and_after() -> None:
    world = World.of("a", init_containers=(sidecar("s"), FIRST))
    world.settle()
    world.exit("s", 0)
    world.settle()
    assert world.running == ["first", "s"], "a sidecar is restarted whatever its exit code"
    world.exit("first")
    world.settle()
    assert world.running == ["a", "s"]
    world.exit("s", 1)
    world.settle()
    assert world.running == ["a"]
    world.sleep(10)
    assert world.running == ["a", "s"]


def test_sidecars_end_in_reverse_after_all_others_within_one_grace_period() -> None:
    world = World.of("a", "b", init_containers=(sidecar("s"), sidecar("t")), termination_grace_period_seconds=30)
    world.go_well()
    world.feed(ev.StopAsked())
    world.settle()
    assert world.signals == [(15, ("a", "b"))]
    world.exit("a")
    assert len(world.signals) == 1
    world.sleep(10)
    world.exit("b")
    world.settle()
    assert world.signals[1:] == [(15, ("t",))]
    world.sleep(10)
    world.exit("t")
    world.settle()
    assert world.signals[2:] == [(15, ("s",))]
    world.sleep(9)
    assert len(world.signals) == 3
    world.sleep(1)
    assert world.signals[3:] == [(9, ("s",))], "30 s are all that there are for all of them"
    assert not world.sandboxes


def test_when_the_members_have_ended_the_sidecars_end_and_count_for_nothing() -> None:
    world = World.of("a", init_containers=(sidecar("s"),), restart_policy="OnFailure")
    world.go_well()
    world.exit("a", 0)
    world.settle()
    assert world.signals == [(15, ("s",))]
    assert status.phase(world.state) == "Running"
    world.end(world.id_of("s"), exit_of(143, world.now_ns, 15))
    world.settle()
    assert (status.phase(world.state), world.sandboxes) == ("Succeeded", set())
    world.sleep(1000)
    assert not world.live, "a pod that has come to its end stays there"


def test_a_pod_that_has_ended_can_be_started_again() -> None:
    world = World.of("a", init_containers=(sidecar("s"), FIRST), restart_policy="Never")
    world.go_well()
    world.exit("a", 0)
    world.settle()
    world.feed(ev.StartAsked())
    world.exit("s", 0)
    world.go_well()
    assert world.running == ["a", "s"]


def test_one_that_cannot_be_made_undoes_all_that_ran_before_it() -> None:
    world = World.of("a", init_containers=(sidecar("s"), FIRST))
    world.settle()
    world.exit("first")
    world.do(world.waits_for(ev.CreateContainer)[0], fail=True)
    world.settle()
    assert (world.live, world.sandboxes) == ({}, set())
    assert shown(world, "a") == "CreateContainerError"


def test_a_retried_init_container_that_cannot_be_made_costs_only_itself() -> None:
    world = World.of("a", init_containers=(sidecar("s"), FIRST))
    world.settle()
    world.exit("first", 1)
    while not world.waits_for(ev.CreateContainer):
        world.do(world.pending[0])
    world.do(world.waits_for(ev.CreateContainer)[0], fail=True)
    world.settle()
    assert world.running == ["s"]
    assert shown(world, "first") == "CreateContainerError"


@pytest.mark.parametrize("steps", range(12))
def test_stopping_in_the_midst_of_the_init_containers_leaves_nothing(steps: int) -> None:
    world = World.of("a", init_containers=(sidecar("s"), FIRST))
    for _ in range(steps):
        if world.pending:
            world.do(world.pending[0])
    world.feed(ev.DeleteAsked())
    world.settle()
    world.sleep(45)
    assert world.forgotten
    assert not world.sandboxes


@pytest.mark.parametrize("steps", range(14))
def test_podd_may_be_killed_in_the_midst_of_the_init_containers(steps: int) -> None:
    world = World.of("a", init_containers=(sidecar("s"), FIRST))
    for _ in range(steps):
        if world.pending:
            world.do(world.pending[0])
    world.restart_podd()
    world.go_well()
    assert world.running == ["a", "s"]
    assert world.state.members["first"].restarts == 0


def test_the_place_of_another_pod_is_taken_only_when_that_is_gone() -> None:
    world = World.of("a", "b", replaces=World.of().state.uid)
    world.settle()
    assert look.is_prepared(world.state)
    assert (sorted(world.held.values()), world.running) == (["a", "b"], [])
    world.sleep(1000)
    assert not world.ran
    world.feed(ev.PredecessorGone())
    world.settle()
    assert world.running == ["a", "b"]


def test_a_successor_with_init_containers_holds_the_first_of_them() -> None:
    world = World.of("a", init_containers=(FIRST,), replaces=World.of().state.uid)
    world.settle()
    assert look.is_prepared(world.state)
    assert list(world.held.values()) == ["first"]
    world.feed(ev.PredecessorGone())
    world.go_well()
    assert world.running == ["a"]


@pytest.mark.parametrize("want", ["end", "stop"])
def test_what_has_come_to_rest_has_been_initialized(want: str) -> None:
    world = World.of("a", init_containers=(FIRST, sidecar("proxy")), restart_policy="Never")
    world.go_well()
    assert world.running == ["a", "proxy"]
    if want == "stop":
        world.feed(ev.StopAsked())
    world.exit("a")
    world.settle()
    world.exit("proxy")
    world.settle()
    assert world.state.sandbox is None
    assert world.state.conditions["Initialized"].status
    world.feed(ev.StartAsked())
    world.settle()
    assert not world.state.conditions["Initialized"].status


def test_what_was_never_initialized_says_so_at_rest() -> None:
    world = World.of("a", init_containers=(FIRST,), restart_policy="Never")
    world.settle()
    world.exit("first", 1)
    world.settle()
    assert world.state.sandbox is None
    assert not world.state.conditions["Initialized"].status
    assert shown(world, "a") == "PodInitializing"


def test_an_end_names_its_container_as_the_container_is_named() -> None:
    world = World.of("a", restart_policy="Never")
    world.settle()
    world.exit("a")
    (one,) = status.status(world.state, str).container_statuses
    assert one.state.terminated is not None
    assert one.state.terminated.container_id == one.container_id != ""


def test_a_sidecar_hears_its_signal_though_a_member_takes_all_the_time() -> None:
    world = World.of("a", init_containers=(sidecar("one"), sidecar("two")))
    world.go_well()
    world.feed(ev.StopAsked(grace_s=5))
    world.settle()
    assert world.signals == [(15, ("a",))]
    world.sleep(5)
    assert sorted(world.signals[1:]) == [(9, ("a",)), (15, ("one", "two"))]
    world.exit("one")
    world.settle()
    world.sleep(2)
    assert world.signals[3:] == [(9, ("two",))]
    assert world.state.sandbox is None


def test_at_once_means_sidecars_too() -> None:
    world = World.of("a", init_containers=(sidecar("proxy"),))
    world.go_well()
    world.feed(ev.StopAsked(grace_s=5))
    world.settle()
    world.feed(ev.StopAsked(grace_s=0))
    world.settle()
    assert world.signals[1:] == [(9, ("proxy", "a"))]


def test_the_deadline_of_one_that_takes_anothers_place_begins_when_it_is_let_go() -> None:
    world = World.of("a", active_deadline_seconds=5, replaces=World.of().state.uid)
    world.settle()
    world.sleep(60)
    assert (world.running, status.phase(world.state)) == ([], "Pending")
    world.feed(ev.PredecessorGone())
    world.settle()
    world.sleep(4)
    assert world.running == ["a"]
    world.sleep(1)
    assert world.signals == [(15, ("a",))]
