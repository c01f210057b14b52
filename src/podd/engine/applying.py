"""What `apply` makes of each pod of a manifest, and what it waits for and tells meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from msgspec.structs import replace

from podd.core import container, look, sandbox, status
from podd.core import state as st
from podd.engine.actor import Actor
from podd.engine.view import ApplyProgress, ApplyResult
from podd.errors import Conflict, PoddError
from podd.model.pod import Pod


def settled(state: st.PodState) -> bool:
    """Nothing more is to be waited for: it runs, has ended, or its start failed and was undone."""
    if state.goal.want not in ("run", "finish"):
        return state.goal.want != "restart"
    if look.is_finished(state) or state.failed_start is not None:
        return state.sandbox is None
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
        if actor.gone or settled(actor.state):
            return
        seen = actor.state
        await actor.until(lambda s, seen=seen: s is not seen)  # type: ignore[misc]


def unchanged(existing: Actor, pod: Pod) -> Actor:
    """Raises Conflict where the pod that is there is not just so."""
    there = existing.state.pod
    meta = replace(pod.metadata, uid=there.metadata.uid, creation_timestamp=there.metadata.creation_timestamp)
    if replace(pod, metadata=meta) == there:
        if existing.state.goal.want == "delete":
            raise Conflict(
                f"pod {meta.namespace}/{meta.name}: is being deleted", remedy="apply it again when it is gone"
            )
        return existing
    changed = "spec" if pod.spec != there.spec else "metadata"
    raise Conflict(
        f"pod {meta.namespace}/{meta.name}: is there with another {changed}",
        remedy=f"delete it first: podd-cli delete pod {meta.name} -n {meta.namespace}",
    )


def judgement(pod: Pod, judged: Actor | st.PodState | PoddError, *, refused: bool) -> ApplyResult:
    """What would become of it. refused: one document was, so nothing is done of the others either."""
    if isinstance(judged, Actor):
        return result(judged.state, "unchanged")
    if isinstance(judged, st.PodState) and not refused:
        return result(judged, "created")
    why = judged if isinstance(judged, PoddError) else Conflict("not made: another pod of the manifest is refused")
    return ApplyResult(
        name=pod.metadata.name,
        namespace=pod.metadata.namespace,
        uid="",
        action="refused",
        phase="Pending",
        reason=why.kind,
        message=str(why),
    )


def result(state: st.PodState, action: Literal["created", "unchanged"]) -> ApplyResult:
    reason, message = status.reason(state)
    return ApplyResult(
        name=state.pod.metadata.name,
        namespace=state.pod.metadata.namespace,
        uid=state.uid,
        action=action,
        phase=status.phase(state),
        reason=reason,
        message=message,
    )
