"""The policy, by random walks: whatever happens in whatever order, some things never do, and in the end all is well."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from podd.core import events as ev
from podd.core import pod, sandbox, status
from podd.core.state import PodState
from podd.errors import Conflict
from world import World, exit_of

decoder = msgspec.json.Decoder(PodState)


class Walk(RuleBasedStateMachine):
    world: World

    @initialize(
        policy=st.sampled_from(["Always", "OnFailure", "Never"]),
        names=st.sampled_from([("a",), ("a", "b"), ("a", "b", "c")]),
        grace=st.sampled_from([0, 5, 30]),
    )
    def begin(self, policy: str, names: tuple[str, ...], grace: int) -> None:
        self.world = World.of(*names, restart_policy=policy, termination_grace_period_seconds=grace)
        self.restarts = dict.fromkeys(names, 0)
        self.stopped = False

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

    @precondition(lambda self: self.world.sandboxes)
    @rule()
    def the_supervisor_dies(self) -> None:
        self.world.lose_sandbox()

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
            assert member.restarts >= self.restarts[name]
            self.restarts[name] = member.restarts

    @invariant()
    def the_status_can_always_be_told(self) -> None:
        shown = status.status(self.world.state, str)
        assert len(shown.container_statuses) == len(self.restarts)
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
            assert world.live or not world.sandboxes
        elif world.state.goal.want == "stop":
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
TestWalk.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
