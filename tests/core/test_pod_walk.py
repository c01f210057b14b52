"""The policy, by random walks: whatever happens in whatever order, some things never do, and in the end all is well."""

from __future__ import annotations

import contextlib

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from podd.core import events as ev
from podd.core import look, pod, sandbox, status
from podd.core.restart import SECOND
from podd.core.state import PodState
from podd.errors import Conflict
from podd.model.ids import PodUid
from podd.model.pod import (
    Container,
    ExecAction,
    Lifecycle,
    LifecycleHandler,
    Probe,
    ResourceRequirements,
)
from world import World, exit_of, make_container

decoder = msgspec.json.Decoder(PodState)


EXEC = ExecAction(command=("true",))
PROBE = Probe(exec=EXEC)
HOOK = LifecycleHandler(exec=EXEC)

A = make_container("a", readiness_probe=PROBE, lifecycle=Lifecycle(pre_stop=HOOK))
B = make_container("b", startup_probe=PROBE, liveness_probe=PROBE, lifecycle=Lifecycle(post_start=HOOK))
C = make_container("c")
INIT = make_container("init")
FETCH = make_container("fetch")
SIDECAR = make_container("sidecar", restart_policy="Always", startup_probe=PROBE)
HOOKED = make_container("hooked", restart_policy="Always", lifecycle=Lifecycle(post_start=HOOK, pre_stop=HOOK))
DEPENDS = {"podd.io/depends-on": "a=b:ready; b=c:started"}


class Walk(RuleBasedStateMachine):
    world: World

    @initialize(
        policy=st.sampled_from(["Always", "OnFailure", "Never"]),
        members=st.sampled_from([(A,), (A, B), (A, B, C)]),
        init=st.sampled_from([(), (), (INIT,), (SIDECAR,), (INIT, SIDECAR, FETCH), (SIDECAR, HOOKED)]),
        annotations=st.sampled_from([{}, {}, {"podd.io/start": "ordered"}, DEPENDS, {"podd.io/keystone": "a"}]),
        grace=st.sampled_from([0, 5, 30]),
        deadline=st.sampled_from([None, None, 90]),
        replaces=st.sampled_from([None, None, None, PodUid("0e5a7c6e-0000-4000-8000-000000000000")]),
        well=st.booleans(),
    )
    def begin(
        self,
        policy: str,
        members: tuple[Container, ...],
        init: tuple[Container, ...],
        annotations: dict[str, str],
        grace: int,
        deadline: int | None,
        replaces: PodUid | None,
        well: bool,
    ) -> None:
        self.world = World.of(
            *members,
            init_containers=init,
            annotations={} if annotations == DEPENDS and len(members) < 3 else annotations,
            restart_policy=policy,
            termination_grace_period_seconds=grace,
            active_deadline_seconds=deadline,
            replaces=replaces,
        )
        self.restarts = dict.fromkeys(self.world.state.members, 0)
        self.stopped = False
        self.latest_kill: int | None = None
        if well:
            self.world.go_well()

    @rule()
    def all_goes_well(self) -> None:
        self.world.go_well()

    @precondition(lambda self: self.world.pending)
    @rule(data=st.data(), fail=st.sampled_from([False, False, False, True]))
    def something_is_done(self, data: st.DataObject, fail: bool) -> None:
        self.world.do(data.draw(st.sampled_from(self.world.pending)), fail=fail)

    @precondition(lambda self: self.world.live)
    @rule(data=st.data(), code=st.sampled_from([0, 1, 137]))
    def a_container_ends(self, data: st.DataObject, code: int) -> None:
        id = data.draw(st.sampled_from(sorted(self.world.live)))
        self.world.end(id, exit_of(code, self.world.now_ns))

    @precondition(lambda self: self.world.held)
    @rule(data=st.data())
    def a_held_container_dies(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.world.held)))
        self.world.end(id, exit_of(137, self.world.now_ns, 9))

    @precondition(lambda self: self.world.probed)
    @rule(data=st.data(), success=st.booleans())
    def a_probe_says_its_word(self, data: st.DataObject, success: bool) -> None:
        world = self.world
        asked = world.probed[data.draw(st.sampled_from(sorted(world.probed)))]
        probe = data.draw(st.sampled_from(sorted(look.probes_of(world.state, asked.name))))
        world.feed(ev.Probed(id=asked.id, probe=probe, success=success))  # type: ignore[arg-type]

    @rule()
    def the_predecessor_goes(self) -> None:
        self.world.feed(ev.PredecessorGone())

    @precondition(lambda self: not self.world.forgotten)
    @rule(cpu=st.sampled_from(["1", "2"]), label=st.sampled_from(["x", "y"]))
    def the_manifest_changes(self, cpu: str, label: str) -> None:
        pod = self.world.state.pod
        changed = replace(pod.spec.containers[0], resources=ResourceRequirements(limits={"cpu": cpu}))
        spec = replace(pod.spec, containers=(changed, *pod.spec.containers[1:]))
        meta = replace(pod.metadata, labels={"l": label})
        with contextlib.suppress(Conflict):
            self.world.feed(ev.AmendAsked(pod=replace(pod, metadata=meta, spec=spec), of=pod))

    @precondition(lambda self: not self.world.forgotten and "debug" not in self.world.state.members)
    @rule()
    def somebody_debugs(self) -> None:
        with contextlib.suppress(Conflict):
            self.world.feed(ev.DebugAsked(container=make_container("debug")))

    @precondition(lambda self: self.world.sandboxes)
    @rule()
    def the_supervisor_dies(self) -> None:
        self.world.lose_sandbox()

    @precondition(lambda self: self.world.state.sandbox is not None)
    @rule()
    def the_disk_fills_up(self) -> None:
        box = self.world.state.sandbox
        assert box is not None
        self.world.feed(ev.DiskExceeded(id=box.id, message="too much"))

    @rule(seconds=st.sampled_from([0.1, 5, 11, 60, 700]))
    def time_passes(self, seconds: float) -> None:
        """Without anything being done meanwhile, as with a slow driver."""
        self.world.now_ns += int(seconds * 1e9)
        wake = pod.next_wake(self.world.state)
        if wake is not None and wake <= self.world.now_ns and not self.world.forgotten:
            self.world.feed(ev.Woke())

    @precondition(lambda self: not self.world.forgotten)
    @rule(
        request=st.sampled_from(
            [
                ev.StartAsked(),
                ev.StopAsked(),
                ev.StopAsked(grace_s=0),
                ev.RestartAsked(),
                ev.PauseAsked(),
                ev.ResumeAsked(),
                ev.DeleteAsked(),
                ev.DeleteAsked(grace_s=0),
            ]
        )
    )
    def somebody_asks(self, request: ev.Request) -> None:
        try:
            self.world.feed(request)
        except Conflict:
            return
        if isinstance(request, ev.StopAsked):
            self.stopped = True
        elif isinstance(request, ev.StartAsked | ev.RestartAsked):
            self.stopped = False

    @precondition(lambda self: not self.world.forgotten)
    @rule()
    def podd_is_killed_and_comes_back(self) -> None:
        """From what was stored, through JSON, as a new process would read it."""
        self.world.state = decoder.decode(msgspec.json.encode(self.world.state))
        self.world.restart_podd()

    @invariant()
    def restart_counts_never_fall(self) -> None:
        for name, member in self.world.state.members.items():
            assert member.restarts >= self.restarts.get(name, 0) or name == "debug"
            self.restarts[name] = member.restarts

    @invariant()
    def there_is_one_grace_period(self) -> None:
        """Once the members know when they will be killed, that comes no later, but for hooks' 2 s and a kill's 10 s."""
        goal = self.world.state.goal
        if goal.want in ("run", "restart"):
            self.latest_kill = None
        elif goal.kill_at_ns is not None:
            self.latest_kill = self.latest_kill or goal.kill_at_ns + 2 * SECOND
            if not goal.kills:
                assert goal.kill_at_ns <= max(self.latest_kill, self.world.now_ns + 2 * SECOND)

    @invariant()
    def the_status_can_always_be_told(self) -> None:
        shown = status.status(self.world.state, str)
        statuses = (*shown.init_container_statuses, *shown.container_statuses, *shown.ephemeral_container_statuses)
        assert [one.name for one in statuses] == list(self.world.state.members)
        if shown.phase in ("Succeeded", "Failed"):
            assert not self.world.live or self.world.state.goal.want != "run" or self.world.state.failed_start

    @invariant()
    def nothing_runs_in_a_pod_that_was_forgotten(self) -> None:
        if self.world.forgotten:
            world = self.world
            assert not any((world.sandboxes, world.live, world.held, world.volumes))

    @invariant()
    def the_pod_never_waits_for_nothing(self) -> None:
        """Either something is under way, or it knows when to look again, or it is where it is meant to be."""
        world = self.world
        if world.pending or world.forgotten or pod.next_wake(world.state) is not None:
            return
        if world.state.goal.want == "run":
            assert world.live or not world.sandboxes or world.frozen or look.is_prepared(world.state)
        elif world.state.goal.want in ("stop", "finish"):
            assert not world.sandboxes

    def teardown(self) -> None:
        """Left alone, it comes to rest; told to go, it goes, and leaves nothing."""
        if not hasattr(self, "world") or self.world.forgotten:
            return
        world = self.world
        world.settle()
        world.sleep(5000)
        world.settle()
        if world.state.goal.want == "stop" and self.stopped:
            assert not world.live
        if world.state.goal.want == "run" and world.live:
            assert isinstance(world.state.sandbox, sandbox.Ready)
        if world.state.goal.want != "delete":
            world.feed(ev.DeleteAsked(grace_s=0))
        world.settle()
        world.sleep(5000)
        world.settle()
        assert world.forgotten
        self.nothing_runs_in_a_pod_that_was_forgotten()


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
