"""What a running container's hooks and probes say of it, and what follows: started, ready, or to be ended."""

from __future__ import annotations

from msgspec.structs import replace

from podd.core import container
from podd.core import events as ev
from podd.core.change import Steps, stop_one, updated, warn, with_instance
from podd.core.look import has_hook, name_of, probes_of
from podd.core.state import PodState
from podd.driver.contract import ContainerStarted


def released(state: PodState, name: str, started: ContainerStarted) -> Steps:
    """It runs; its postStart hook comes first, then its probes."""
    instance = state.members[name].instance
    assert instance is not None
    probes = probes_of(state, name)
    hook = has_hook(state, name, "postStart")
    running = container.released(
        instance, started, hook=hook, startup="startup" in probes, readiness="readiness" in probes
    )
    after = _noted(with_instance(state, name, instance=running), name)
    told = ev.Tell(reason="Started", message=f"Started container {name}", container=name)
    return after, [told, *watching(after, name)]


def watching(state: PodState, name: str) -> list[ev.Action]:
    """What a running container wants to have run beside it; again after podd was restarted."""
    i = state.members[name].instance
    if not isinstance(i, container.Running):
        return []
    if not i.post_start:
        return [ev.RunHook(id=i.id, name=name, hook="postStart")]
    if not probes_of(state, name):
        return []
    return [ev.RunProbes(id=i.id, name=name, started=i.started, ready=i.ready)]


def absorb(state: PodState, report: ev.Report, now_ns: int) -> Steps:
    name = name_of(state, getattr(report, "id", ""))
    if name is None:
        return state, []
    match report, state.members[name].instance:
        case ev.HookDone(hook="preStop", failure=failure), container.Stopping() as ending:
            after = with_instance(state, name, instance=replace(ending, pre_stop=True))
            return after, warn("FailedPreStopHook", failure, name)
        case ev.HookDone(hook="postStart", failure=None), container.Running() as running:
            after = _noted(with_instance(state, name, instance=replace(running, post_start=True)), name)
            return after, watching(after, name)
        case ev.HookDone(hook="postStart", failure=failure), container.Running():
            told = warn("FailedPostStartHook", failure, name)
            return _end(state, name, f"FailedPostStartHook of container {name}", now_ns, told)
        case ev.Probed(), container.Running() as running:
            return _probed(state, name, running, report, now_ns)
        case _:
            return state, []


def _probed(state: PodState, name: str, running: container.Running, probed: ev.Probed, now_ns: int) -> Steps:
    if probed.probe == "readiness":
        return with_instance(state, name, instance=replace(running, ready=probed.success)), []
    if probed.success:
        changed = replace(running, started=True)
        return (state if changed == running else _noted(with_instance(state, name, instance=changed), name)), []
    why = f"Container {name} failed {probed.probe} probe, will be restarted"
    grace_s = probes_of(state, name)[probed.probe].termination_grace_period_seconds
    return _end(state, name, why, now_ns, [], grace_s=grace_s)


def _end(
    state: PodState, name: str, why: str, now_ns: int, told: list[ev.Action], grace_s: float | None = None
) -> Steps:
    """It is not well. While the pod as a whole ends, that ends it soon enough."""
    if state.goal.want != "run":
        return state, told
    after, actions = stop_one(state, name, now_ns, grace_s=grace_s, again=True)
    return after, [*told, ev.Tell(reason="Killing", message=why, container=name), *actions]


def _noted(state: PodState, name: str) -> PodState:
    """Those that wait for it to be started need wait no longer."""
    if state.members[name].kind == "init" or not container.is_started(state.members[name].instance):
        return state
    return updated(state, name, passed=True)
