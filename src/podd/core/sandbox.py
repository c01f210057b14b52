"""One sandbox: mechanism with CRI semantics, nothing of pods.

    Creating -> Ready -> NotReady -> Removing -> (gone)

NotReady is a sandbox that lost its supervisor or holder, or was never whole. Creating and Removing are intents: they
are stored before the effect, so after a crash they mean "maybe".
"""

from __future__ import annotations

from collections.abc import Sequence

from podd.driver.contract import Handle, Observed, SandboxCreated
from podd.errors import Conflict
from podd.model.ids import SandboxId
from podd.model.value import Value


class State(Value, tag=True):
    id: SandboxId
    attempt: int  # 0 for the pod's first


class Creating(State):
    pass


class Ready(State):
    handle: Handle
    observed: Observed
    cgroup: str = ""
    ips: tuple[str, ...] = ()
    host_ips: tuple[str, ...] = ()  # when it was made


class NotReady(State):
    reason: str


class Removing(State):
    """tries: how often destroying it has failed. retry_at_ns: when to try again; None while a try is under way."""

    tries: int = 0
    retry_at_ns: int | None = None


Sandbox = Creating | Ready | NotReady | Removing


def made(state: Sandbox, created: SandboxCreated, host_ips: Sequence[str]) -> Sandbox:
    if isinstance(state, Creating):
        return Ready(
            id=state.id,
            attempt=state.attempt,
            handle=created.handle,
            observed=created.observed,
            cgroup=created.cgroup,
            ips=tuple(created.ips),
            host_ips=tuple(host_ips),
        )
    return state


def lost(state: Sandbox, reason: str) -> Sandbox:
    if isinstance(state, Creating | Ready):
        return NotReady(id=state.id, attempt=state.attempt, reason=reason)
    return state


def remove(state: Sandbox) -> Removing:
    """Asked to be removed, from any state: an intent. Raises Conflict while a removal is under way."""
    if isinstance(state, Removing) and state.retry_at_ns is None:
        raise Conflict(f"sandbox {state.id}: is being removed already")
    tries = state.tries if isinstance(state, Removing) else 0
    return Removing(id=state.id, attempt=state.attempt, tries=tries)


def not_removed(state: Sandbox, retry_at_ns: int) -> Sandbox:
    """Destroying failed; it is retried until it is done, since nothing may be left that nobody owns."""
    if isinstance(state, Removing):
        return Removing(id=state.id, attempt=state.attempt, tries=state.tries + 1, retry_at_ns=retry_at_ns)
    return state
