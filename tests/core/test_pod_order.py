"""What podd adds to Kubernetes' pods, and what ends a pod as a whole, by stories."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from podd.core import events as ev
from podd.core import look, status
from podd.core.decide import sandbox_id
from podd.errors import Conflict
from podd.model.pod import (
    Container,
    ContainerPort,
    ContainerResizePolicy,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    ExecAction,
    Probe,
    ResourceRequirements,
)
from world import BOOM, World, make_container

PROBE = Probe(exec=ExecAction(command=("true",)))


def reason(world: World) -> str:
    return status.status(world.state, str).reason


def shown(world: World, name: str) -> str:
    state = next(one.state for one in status.status(world.state, str).container_statuses if one.name == name)
    return state.waiting.reason if state.waiting else "Running" if state.running else "Ended"


# ---- annotations


def test_members_that_wait_are_held_until_what_they_wait_for_is_so() -> None:
    db = make_container("db", readiness_probe=PROBE)
    world = World.of("web", db, "cache", annotations={"podd.io/depends-on": "web=db:ready,cache:started"})
    world.settle()
    assert (world.running, list(world.held.values())) == (["cache", "db"], ["web"])
    assert shown(world, "web") == "WaitingForDependency"
    assert status.phase(world.state) == "Running"
    world.says("db", "readiness", True)
    world.settle()
    assert world.running == ["cache", "db", "web"]


def test_a_restart_waits_again() -> None:
    db = make_container("db", readiness_probe=PROBE)
    world = World.of("web", db, annotations={"podd.io/depends-on": "web=db:ready"})
    world.go_well()
    world.says("db", "readiness", False)
    world.exit("web", 1)
    world.settle()
    assert world.running == ["db"]
    world.says("db", "readiness", True)
    world.settle()
    assert world.running == ["db", "web"]


def test_one_that_waits_for_an_end_runs_when_that_was_well() -> None:
    world = World.of(
        "app", "migrate", restart_policy="OnFailure", annotations={"podd.io/depends-on": "app=migrate:completed"}
    )
    world.settle()
    assert world.running == ["migrate"]
    world.exit("migrate", 1)
    world.settle()
    assert world.running == ["migrate"]
    world.exit("migrate", 0)
    world.settle()
    assert world.running == ["app"]


def test_a_pod_whose_members_wait_in_vain_fails() -> None:
    world = World.of(
        *("last", "app", "migrate"),
        restart_policy="Never",
        annotations={"podd.io/depends-on": "app=migrate:completed; last=app:started"},
    )
    world.settle()
    world.exit("migrate", 1)
    world.settle()
    assert (status.phase(world.state), reason(world), world.sandboxes) == ("Failed", "DependencyFailed", set())
    assert len(world.ran) == 1


def test_ordered_members_start_one_by_one_as_they_are_listed() -> None:
    slow = make_container("b", startup_probe=PROBE)
    world = World.of("a", slow, "c", annotations={"podd.io/start": "ordered"})
    world.settle()
    assert (world.running, list(world.held.values())) == (["a", "b"], ["c"])
    world.says("b", "startup", True)
    world.settle()
    assert world.running == ["a", "b", "c"]


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (4, "Failed")])
def test_the_end_of_the_keystone_is_the_end_of_the_pod(code: int, phase: str) -> None:
    world = World.of("job", "helper", restart_policy="Never", annotations={"podd.io/keystone": "job"})
    world.settle()
    world.exit("job", code)
    world.settle()
    assert world.signals == [(15, ("helper",))]
    world.exit("helper", 143)
    world.settle()
    assert (status.phase(world.state), world.sandboxes) == (phase, set())


def test_the_end_of_another_is_not_the_end_of_the_pod() -> None:
    world = World.of("job", "helper", restart_policy="Never", annotations={"podd.io/keystone": "job"})
    world.settle()
    world.exit("helper", 0)
    world.settle()
    assert world.running == ["job"]
    assert not world.signals


# ---- deadlines and rules


def test_a_pod_ends_at_its_deadline_whatever_its_members_do() -> None:
    world = World.of("a", active_deadline_seconds=60, termination_grace_period_seconds=5)
    world.settle()
    world.sleep(59)
    assert not world.signals
    world.sleep(1)
    assert world.signals == [(15, ("a",))]
    world.sleep(5)
    assert (status.phase(world.state), reason(world), world.sandboxes) == ("Failed", "DeadlineExceeded", set())
    world.sleep(1000)
    assert not world.live
    world.feed(ev.StartAsked())
    world.settle()
    world.sleep(59)
    assert world.running == ["a"], "started again it has all its time again"


def test_a_pod_that_has_more_of_the_disk_than_it_may_is_evicted_for_good() -> None:
    world = World.of("a", termination_grace_period_seconds=600)
    world.settle()
    box = world.state.sandbox
    assert box is not None
    world.feed(ev.DiskExceeded(id=sandbox_id(world.state.uid, 7), message="of a sandbox that is no more"))
    assert not world.signals
    world.feed(ev.DiskExceeded(id=box.id, message="too much"))
    world.restart_podd()
    world.sleep(1)
    world.settle()
    found = status.status(world.state, str)
    assert (found.phase, found.reason, found.message) == ("Failed", "Evicted", "too much")
    assert [(told.reason, told.message) for told in world.told if told.reason == "Evicted"] == [("Evicted", "too much")]
    world.sleep(10_000)
    assert not world.live
    assert not world.sandboxes
    assert world.state.volumes == "absent", "they may be what filled the disk"
    world.feed(ev.StartAsked())
    world.settle()
    assert world.running == ["a"], "started again it begins with an empty disk"


def test_a_deadline_passes_while_the_pod_is_paused_or_waits_for_another_try() -> None:
    paused = World.of("a", active_deadline_seconds=60)
    paused.settle()
    paused.feed(ev.PauseAsked())
    paused.settle()
    paused.sleep(60)
    assert not paused.frozen
    failing = World.of("a", active_deadline_seconds=60)
    for _ in range(2):
        while not failing.waits_for(ev.CreateContainer):
            failing.do(failing.pending[0])
        failing.do(failing.waits_for(ev.CreateContainer)[0], fail=True)
        failing.settle()
        failing.now_ns += 10 * 10**9
        failing.feed(ev.Woke())
    failing.settle()
    failing.sleep(100)
    assert reason(failing) == "DeadlineExceeded"
    assert not failing.sandboxes


def rule(operator: str, *codes: int) -> ContainerRestartRule:
    codes_rule = ContainerRestartRuleOnExitCodes(operator=operator, values=codes)  # type: ignore[arg-type]
    return ContainerRestartRule(action="Restart", exit_codes=codes_rule)


@pytest.mark.parametrize(
    ("container", "pod_policy", "code", "comes_back"),
    [
        (make_container("a", restart_policy="Never"), "Always", 1, False),
        (make_container("a", restart_policy="OnFailure"), "Never", 1, True),
        (make_container("a", restart_policy="OnFailure"), "Never", 0, False),
        (make_container("a", restart_policy="Never", restart_policy_rules=(rule("In", 42),)), "Never", 42, True),
        (make_container("a", restart_policy="Never", restart_policy_rules=(rule("In", 42),)), "Never", 41, False),
        (make_container("a", restart_policy="Never", restart_policy_rules=(rule("NotIn", 42),)), "Always", 41, True),
        (make_container("a", restart_policy="OnFailure", restart_policy_rules=(rule("In", 0),)), "Never", 0, True),
    ],
)
def test_a_container_may_have_a_restart_policy_and_rules_of_its_own(
    container: Container, pod_policy: str, code: int, comes_back: bool
) -> None:
    world = World.of(container, "b", restart_policy=pod_policy)
    world.settle()
    world.exit("a", code)
    world.settle()
    assert ("a" in world.running) is comes_back


# ---- changes of a running pod


def amended(world: World, cpu: str, **labels: str) -> ev.AmendAsked:
    spec, meta = world.state.pod.spec, world.state.pod.metadata
    first = replace(spec.containers[0], resources=ResourceRequirements(limits={"cpu": cpu}))
    spec = replace(spec, containers=(first, *spec.containers[1:]))
    pod = world.state.pod
    return ev.AmendAsked(pod=replace(pod, metadata=replace(meta, labels=labels), spec=spec), of=pod)


def test_labels_change_without_anybody_noticing() -> None:
    world = World.of("a")
    world.settle()
    meta = replace(world.state.pod.metadata, labels={"tier": "web"})
    world.feed(ev.AmendAsked(pod=replace(world.state.pod, metadata=meta), of=world.state.pod))
    assert (world.pending, world.state.generation) == ([], 1)
    assert world.state.pod.metadata.labels == {"tier": "web"}


def test_limits_change_while_the_members_run_on() -> None:
    world = World.of("a", "b")
    world.settle()
    pids = {n: i.pid for n, i in look.live(world.state).items()}
    world.feed(amended(world, "2"))
    assert conditions(world)["PodResizeInProgress"] == "True"
    world.settle()
    assert (world.resized, world.state.resized, {n: i.pid for n, i in look.live(world.state).items()}) == (2, 2, pids)
    assert "PodResizeInProgress" not in conditions(world)


def test_limits_that_the_kernel_refuses_are_shown_as_pending() -> None:
    world = World.of("a")
    world.settle()
    world.feed(amended(world, "2"))
    world.do(world.pending[0], fail=True)
    assert (world.state.resized, conditions(world)["PodResizePending"]) == (1, "True")
    assert world.told[-1].reason == "ResizeError"
    world.feed(amended(world, "3"))
    world.settle()
    assert world.state.resized == 3


def test_limits_that_were_refused_are_in_force_after_a_restart() -> None:
    world = World.of("a")
    world.settle()
    world.feed(amended(world, "2"))
    world.do(world.pending[0], fail=True)
    world.feed(ev.RestartAsked(grace_s=0))
    world.settle()
    world.sleep(60)
    assert (world.running, world.state.resized) == (["a"], 2)
    assert "PodResizePending" not in conditions(world)


def led_to(world: World, port: int) -> ev.AmendAsked:
    spec = world.state.pod.spec
    a = replace(spec.containers[0], ports=(ContainerPort(container_port=80, host_port=port),))
    pod = replace(world.state.pod, spec=replace(spec, containers=(a, *spec.containers[1:])))
    return ev.AmendAsked(pod=pod, of=world.state.pod)


def test_other_ports_of_the_host_lead_to_what_runs_on() -> None:
    world = World.of("a", "b")
    world.settle()
    pids = {n: i.pid for n, i in look.live(world.state).items()}
    world.feed(led_to(world, 8080))
    assert conditions(world)["PodPublishInProgress"] == "True"
    with pytest.raises(Conflict):
        world.feed(led_to(world, 8081))
    world.settle()
    assert ([port.host_port for port in world.led], world.state.ports, world.state.resized) == ([8080], "led", 2)
    assert {n: i.pid for n, i in look.live(world.state).items()} == pids
    assert "PodPublishInProgress" not in conditions(world)


def test_ports_that_cannot_be_had_are_pending_until_they_are_asked_for_again() -> None:
    world = World.of("a")
    world.settle()
    world.feed(led_to(world, 8080))
    world.do(world.pending[0], fail=True)
    assert (world.state.ports, conditions(world)["PodPublishPending"]) == ("refused", "True")
    assert world.told[-1].reason == "PublishError"
    world.feed(ev.Woke())
    assert not world.pending
    world.feed(ev.AmendAsked(pod=world.state.pod, of=world.state.pod))
    world.settle()
    assert ([port.host_port for port in world.led], world.state.generation) == ([8080], 2)


def test_ports_under_way_are_asked_for_again_after_podd_was_restarted() -> None:
    world = World.of("a")
    world.settle()
    world.feed(led_to(world, 8080))
    world.restart_podd()
    world.settle()
    assert [port.host_port for port in world.led] == [8080]


def test_what_an_earlier_sandbox_has_of_ports_is_of_no_account() -> None:
    world = World.of("a")
    world.settle()
    world.feed(led_to(world, 8080))
    assert world.state.sandbox is not None
    before = world.state.sandbox.id
    world.feed(ev.RestartAsked(grace_s=0))
    world.settle()
    world.feed(ev.Published(id=before, failure=BOOM))
    assert (world.state.ports, world.state.not_published) == ("led", None)


def test_a_resize_under_way_is_asked_for_again_after_podd_was_restarted() -> None:
    world = World.of("a")
    world.settle()
    world.feed(amended(world, "2"))
    world.restart_podd()
    world.settle()
    assert world.resized == 2


def test_a_container_may_want_a_restart_for_its_new_limits() -> None:
    policy = (ContainerResizePolicy(resource_name="cpu", restart_policy="RestartContainer"),)
    world = World.of(make_container("a", resize_policy=policy), "b", restart_policy="OnFailure")
    world.settle()
    world.feed(amended(world, "2"))
    world.settle()
    assert world.signals == [(15, ("a",))]
    world.exit("a", 0)
    world.settle()
    assert world.running == ["a", "b"]


def test_other_changes_and_changes_on_the_way_are_refused() -> None:
    world = World.of("a")
    world.do(world.pending[0])
    with pytest.raises(Conflict, match="being started"):
        world.feed(amended(world, "2"))
    world.settle()
    other = replace(world.state.pod.spec, hostname="elsewhere")
    with pytest.raises(Conflict, match="cannot be made"):
        world.feed(ev.AmendAsked(pod=replace(world.state.pod, spec=other), of=world.state.pod))


def conditions(world: World) -> dict[str, str]:
    return {one.type: one.status for one in status.status(world.state, str).conditions}


# ---- ephemeral containers


def test_an_ephemeral_container_runs_once_and_counts_for_nothing() -> None:
    world = World.of("a", restart_policy="OnFailure")
    world.settle()
    world.feed(ev.DebugAsked(container=make_container("debug"), target="a"))
    world.settle()
    assert world.running == ["a", "debug"]
    assert status.status(world.state, str).ephemeral_container_statuses[0].name == "debug"
    world.exit("debug", 1)
    world.settle()
    assert world.running == ["a"]
    world.feed(ev.DebugAsked(container=make_container("again")))
    world.settle()
    world.exit("a", 0)
    world.settle()
    assert world.signals == [(15, ("again",))], "it does not keep a pod alive"
    world.exit("again", 0)
    world.settle()
    assert status.phase(world.state) == "Succeeded"


def test_an_ephemeral_container_that_cannot_be_made_harms_nothing() -> None:
    world = World.of("a")
    world.settle()
    world.feed(ev.DebugAsked(container=make_container("debug")))
    world.do(world.pending[0], fail=True)
    world.settle()
    assert world.running == ["a"]
    state = status.status(world.state, str).ephemeral_container_statuses[0].state
    assert state.terminated is not None
    assert BOOM.message in state.terminated.message


def test_there_is_nothing_to_debug_in_a_pod_that_does_not_run() -> None:
    world = World.of("a")
    with pytest.raises(Conflict, match="not running"):
        world.feed(ev.DebugAsked(container=make_container("debug")))
    world.settle()
    with pytest.raises(Conflict, match="already"):
        world.feed(ev.DebugAsked(container=make_container("a")))


def test_an_ephemeral_container_looks_into_a_pod_whose_init_container_fails() -> None:
    world = World.of("a", init_containers=(make_container("setup"),))
    world.settle()
    world.exit("setup", 1)
    world.settle()
    world.exit("setup", 1)
    world.settle()
    world.feed(ev.DebugAsked(container=make_container("debug")))
    world.settle()
    assert world.running == ["debug"]
    world.sleep(10)
    assert world.running == ["debug", "setup"]
    world.exit("setup", 0)
    world.settle()
    assert world.running == ["a", "debug"]


def test_an_ephemeral_container_that_cannot_be_made_is_no_failed_start() -> None:
    world = World.of("a", init_containers=(make_container("setup"),))
    world.settle()
    world.feed(ev.DebugAsked(container=make_container("debug")))
    world.do(world.pending[0], fail=True)
    world.settle()
    assert world.running == ["setup"]
    assert world.state.failed_start is None


def test_nothing_is_added_to_a_paused_pod() -> None:
    world = World.of("a")
    world.settle()
    world.feed(ev.PauseAsked())
    with pytest.raises(Conflict, match="paused"):
        world.feed(ev.DebugAsked(container=make_container("debug")))
