"""What makes a Kubernetes Pod of sandboxes and containers: the whole policy, as one pure function.

    step(state, event, now) -> (state, actions)

Three parts, in this order. `absorb` takes in what happened, `ask` takes in what somebody wants; neither decides
anything. `decide` looks at where the pod is and where it is meant to be, and takes the next step towards it. It looks
at the state alone, so that after a crash, or a report that was lost, looking again is enough.

Time comes in with each event, in nanoseconds. When nothing happens until then, `next_wake` says when to look again.
"""

from __future__ import annotations

from msgspec.structs import replace

from podd.core import container, sandbox
from podd.core import events as ev
from podd.core.absorb import absorb
from podd.core.amend import amend
from podd.core.change import Steps, afresh
from podd.core.decide import decide
from podd.core.look import is_finished, next_wake
from podd.core.restart import SECOND
from podd.core.state import Ephemeral, Goal, Member, PodState
from podd.core.status import with_conditions
from podd.errors import Conflict
from podd.model.pod import Container

__all__ = ["next_wake", "step"]


def step(state: PodState, event: ev.Event, now_ns: int) -> Steps:
    """Take in an event and decide what to do. Raises Conflict for a Request that the state forbids, never else."""
    taken, told = ask(state, event, now_ns) if isinstance(event, ev.Request) else absorb(state, event, now_ns)
    decided, actions = decide(taken, now_ns)
    if not isinstance(decided.sandbox, sandbox.Ready):
        told = [action for action in told if not isinstance(action, ev.Inside)]
    return with_conditions(decided, now_ns), told + actions


def ask(state: PodState, request: ev.Event, now_ns: int) -> Steps:
    if state.goal.want == "delete" and not isinstance(request, ev.DeleteAsked | ev.StopAsked):
        raise Conflict(f"pod {_name(state)}: is being deleted", remedy="apply it again when it is gone")
    match request:
        case ev.StartAsked():
            return _ask_start(state), []
        case ev.StopAsked(grace_s=grace_s):
            return _ask_end(state, "stop", grace_s, now_ns), []
        case ev.RestartAsked(grace_s=grace_s):
            return _ask_end(state, "restart", grace_s, now_ns), []
        case ev.DeleteAsked(grace_s=grace_s):
            return _ask_end(state, "delete", grace_s, now_ns), []
        case ev.PauseAsked():
            return _ask_pause(state)
        case ev.ResumeAsked():
            return _ask_resume(state)
        case ev.AmendAsked():
            return amend(state, request, now_ns)
        case ev.DebugAsked(container=added, target=target):
            return _ask_debug(state, added, target), []
        case _:
            raise AssertionError(request)


def _ask_start(state: PodState) -> PodState:
    if state.goal.want in ("stop", "restart", "finish") and state.sandbox is not None:
        return replace(state, goal=replace(state.goal, want="restart"))
    if state.goal.want == "run" and not is_finished(state):
        failed = state.failed_start
        return replace(state, failed_start=failed and replace(failed, retry_at_ns=0))
    return afresh(state)


def _ask_end(state: PodState, want: str, grace_s: float | None, now_ns: int) -> PodState:
    """A later wish may shorten the time that members were given to end, never lengthen it."""
    grace = float(state.pod.spec.termination_grace_period_seconds) if grace_s is None else grace_s
    goal = state.goal
    if want == "stop" and goal.want == "delete":
        want = "delete"
    if goal.kill_at_ns is None:
        return replace(state, goal=Goal(want=want, grace_s=grace))  # type: ignore[arg-type]
    kill_at = min(goal.kill_at_ns, now_ns + int(grace * SECOND))
    return replace(state, goal=replace(goal, want=want, kill_at_ns=kill_at, grace_s=min(goal.grace_s, grace)))


def _ask_pause(state: PodState) -> Steps:
    if state.freezer in ("freezing", "frozen"):
        return state, []
    if state.goal.want != "run" or not state.released or not isinstance(state.sandbox, sandbox.Ready):
        raise Conflict(f"pod {_name(state)}: cannot be paused: it is not running")
    return replace(state, freezer="freezing"), [ev.Freeze()]


def _ask_resume(state: PodState) -> Steps:
    if state.freezer in ("thawed", "thawing"):
        return state, []
    return replace(state, freezer="thawing"), [ev.Thaw()]


def _ask_debug(state: PodState, added: Container, target: str) -> PodState:
    if state.goal.want != "run" or not isinstance(state.sandbox, sandbox.Ready) or state.recovering:
        raise Conflict(f"pod {_name(state)}: is not running: there is nothing to debug")
    if state.freezer != "thawed":
        raise Conflict(f"pod {_name(state)}: is paused", remedy=f"podd-cli resume {state.pod.metadata.name}")
    if added.name in state.members:
        raise Conflict(f"pod {_name(state)}: has a container {added.name} already", remedy="give another name")
    if target and not isinstance(state.members[target].instance, container.Live):
        raise Conflict(f"container {target}: is not running")
    return replace(
        state,
        ephemeral={**state.ephemeral, added.name: Ephemeral(container=added, target=target)},
        members={**state.members, added.name: Member(kind="ephemeral")},
    )


def _name(state: PodState) -> str:
    return f"{state.pod.metadata.namespace}/{state.pod.metadata.name}"
