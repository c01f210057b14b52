"""How containers end: preStop hooks, stop signals, sidecars last and in reverse, SIGKILL when time is up."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from podd.core import container, sandbox
from podd.core import events as ev
from podd.core.change import Steps, with_instance
from podd.core.look import has_hook, live, of_kind, stop_signal
from podd.core.restart import SECOND
from podd.core.state import Goal, PodState
from podd.model.ids import ContainerId

SIGKILL = 9
KILL_PATIENCE_S = 10  # how long a SIGKILL may take before the sandbox is destroyed as a whole
EXTENSION_S = 2  # for a stop signal that comes late, since hooks or others took all the time; as long as the kubelet's


def end(state: PodState, now_ns: int) -> Steps:
    """The next step towards no sandbox; there is one. All within one grace period."""
    if not isinstance(state.sandbox, sandbox.Ready):
        return destroy(state)
    if state.freezer != "thawed":
        return (replace(state, freezer="thawing"), [ev.Thaw()]) if state.freezer == "frozen" else (state, [])
    goal = state.goal
    releasing = any(isinstance(m.instance, container.Starting) for m in state.members.values())
    if (not live(state) and not releasing) or (goal.want == "delete" and goal.grace_s <= 0):
        return destroy(state)
    if goal.kill_at_ns is None:
        goal = replace(goal, kill_at_ns=now_ns + int(goal.grace_s * SECOND))
    assert goal.kill_at_ns is not None
    if now_ns >= goal.kill_at_ns:
        if goal.kills:
            return destroy(state)
        state, goal = _out_of_time(state, goal, now_ns)
    return _end_all(replace(state, goal=goal), now_ns)


def destroy(state: PodState) -> Steps:
    assert state.sandbox is not None
    removing = sandbox.remove(state.sandbox)
    return replace(state, sandbox=removing, freezer="thawed"), [ev.DestroySandbox(id=removing.id)]


def tell(state: PodState, now_ns: int) -> Steps:
    """Send what is due to those that are to end: their stop signal after their hook and in their turn, or SIGKILL."""
    ids: dict[int, list[ContainerId]] = {}
    everyone = live(state)
    for name, i in everyone.items():
        if not isinstance(i, container.Stopping):
            continue
        if _is_late(state, i, now_ns) and not i.killed:
            state = with_instance(state, name, instance=replace(i, pre_stop=True, told=True, killed=True))
            ids.setdefault(SIGKILL, []).append(i.id)
        elif i.pre_stop and not i.told and _is_its_turn(state, name, everyone):
            state = with_instance(state, name, instance=replace(i, told=True))
            ids.setdefault(stop_signal(state, name), []).append(i.id)
    return state, [ev.SignalContainers(ids=tuple(told), signal=number) for number, told in ids.items()]


def _is_late(state: PodState, ending: container.Stopping, now_ns: int) -> bool:
    return state.goal.kills > 0 or (ending.kill_at_ns is not None and now_ns >= ending.kill_at_ns)


def _is_its_turn(state: PodState, name: str, everyone: Iterable[str]) -> bool:
    """A sidecar ends when those that it serves have, or have had their time: all that are none, and those after it."""
    sidecars = of_kind(state, "sidecar")
    if name not in sidecars or state.goal.want == "run" or state.goal.extended:
        return True
    after = sidecars[sidecars.index(name) + 1 :]
    starting = [n for n, m in state.members.items() if isinstance(m.instance, container.Starting)]
    return not any(other not in sidecars or other in after for other in (*everyone, *starting))


def _out_of_time(state: PodState, goal: Goal, now_ns: int) -> tuple[PodState, Goal]:
    """Those that were never told, as their hook still runs or their turn never came, get a moment for their stop
    signal, once. The others are killed, and in the end all that is left.
    """
    untold = [n for n, i in live(state).items() if isinstance(i, container.Stopping) and not i.told]
    if not untold or goal.extended or goal.grace_s <= 0:
        return state, replace(goal, kills=1, kill_at_ns=now_ns + KILL_PATIENCE_S * SECOND)
    for name, ending in live(state).items():
        if isinstance(ending, container.Stopping):
            kill_at = now_ns if ending.told else None
            state = with_instance(state, name, instance=replace(ending, pre_stop=True, kill_at_ns=kill_at))
    return state, replace(goal, extended=True, kill_at_ns=now_ns + EXTENSION_S * SECOND)


def _end_all(state: PodState, now_ns: int) -> Steps:
    """Those that run learn that they are to end, all at one moment; what is due is sent."""
    actions: list[ev.Action] = []
    for name, i in live(state).items():
        if not isinstance(i, container.Running):
            continue
        hook = has_hook(state, name, "preStop") and state.goal.grace_s > 0 and not state.goal.kills
        state = with_instance(state, name, instance=container.stop(i, hook=hook))
        if hook:
            actions.append(ev.RunHook(id=i.id, name=name, hook="preStop", limit_s=state.goal.grace_s))
        actions.append(ev.Tell(reason="Killing", message=f"Stopping container {name}", container=name))
    state, signals = tell(state, now_ns)
    return state, signals + actions
