"""What `apply` makes of each pod of a manifest, and what it waits for and tells meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from podd.core import container, look, sandbox, status
from podd.core import state as st
from podd.core.difference import Change
from podd.engine.actor import Actor
from podd.engine.objects import JudgedObject
from podd.engine.view import Action, ApplyProgress, ApplyResult, FieldChange
from podd.errors import PoddError
from podd.model.pod import Pod


def converged(state: st.PodState) -> bool:
    """It has settled, with the limits and ports that its manifest says now, or without where they cannot be had.

    One that is to take another's place has done so by then, or is gone.
    """
    if state.replaces is not None:
        return False
    resized = state.resized >= state.generation or state.not_resized is not None
    return settled(state) and resized and (state.ports in ("led", "refused") or state.sandbox is None)


def settled(state: st.PodState) -> bool:
    """Nothing more is to be waited for: it runs, has ended, or its start failed and was undone."""
    if state.goal.want not in ("run", "finish"):
        return state.goal.want != "restart"
    if look.is_finished(state) or state.failed_start is not None:
        return state.sandbox is None and state.images != "pulling"
    members = [state.members[name].instance for name in look.of_kind(state, "sidecar", "regular")]
    running = all(isinstance(i, container.Live | container.Exited) for i in members)
    return state.released and isinstance(state.sandbox, sandbox.Ready) and running


async def follow(actor: Actor, progress: Callable[[ApplyProgress], Awaitable[None]]) -> None:
    """Report each step that can be seen until the pod has settled."""
    last: ApplyProgress | None = None
    while True:
        meta = actor.state.pod.metadata
        reason, message = status.reason(actor.state)
        phase = status.phase(actor.state)
        now = ApplyProgress(name=meta.name, namespace=meta.namespace, phase=phase, reason=reason, message=message)
        if now != last:
            last = now
            await progress(now)
        if actor.gone or converged(actor.state):
            return
        seen = actor.state
        await actor.until(lambda s, seen=seen: s is not seen)  # type: ignore[misc]


def result(state: st.PodState, action: Action, why: tuple[str, str] | None = None) -> ApplyResult:
    """why: reason and message, where the state in which the pod now is does not give them."""
    reason, message = why or status.reason(state)
    return ApplyResult(
        name=state.pod.metadata.name,
        namespace=state.pod.metadata.namespace,
        uid=state.uid,
        action=action,
        phase=status.phase(state),
        reason=reason,
        message=message,
    )


def kept(state: st.PodState, failed: st.FailedStart) -> ApplyResult:
    """Of a pod that goes on, because the one that was to take its place could not be prepared."""
    remedy = f"; {failed.failure.remedy}" if failed.failure.remedy else ""
    return result(state, "kept", (failed.reason, f"{failed.failure.message}{remedy}"))


def refusal(pod: Pod, why: PoddError) -> ApplyResult:
    return ApplyResult(
        name=pod.metadata.name,
        namespace=pod.metadata.namespace,
        uid="",
        action="refused",
        phase="Pending",
        reason=why.kind,
        message=str(why),
    )


def of_object(judged: JudgedObject) -> ApplyResult:
    """A ConfigMap or Secret has no phase."""
    meta, why = judged.one.metadata, judged.refused
    return ApplyResult(
        kind=judged.one.kind,
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        action=judged.action,
        phase="",
        reason=why.kind if why else "",
        message=str(why) if why else "",
        warnings=judged.warnings,
        changes=[shown(change) for change in judged.changes],
    )


def shown(change: Change) -> FieldChange:
    return FieldChange(
        path=change.path, old=_json(change.old), new=_json(change.new), means=change.means, note=change.note
    )


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
