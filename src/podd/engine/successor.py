"""A pod that takes the place of another of its name, because what its manifest says now needs another pod.

The new one is prepared beside the old one: sandbox, volumes, first containers, held before their first instruction. Not
before it is so is the old one told to end, by its own grace period; and when nothing of it is left, the new one is let
go. A new one that cannot be prepared is removed, and the old one has not noticed.

All that must be known afterwards stands in the two records, so after a crash of podd this is simply begun again: a
deletion of the old one that was ordered is the point of no return.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import structlog

from podd.core import events as ev
from podd.core import look
from podd.core.state import PodState
from podd.engine.actor import Actor
from podd.errors import NotFound, PoddError

log = structlog.get_logger()

ORDER_RETRY_S = 1

Told = Callable[[PodState, ev.Tell], None]


async def succeed(old: Actor, new: Actor, told: Told) -> None:
    """Until `new` has taken the place of `old`, or is being removed."""
    if old.state.goal.want != "delete":
        told(old.state, ev.Tell(reason="Recreating", message=f"pod {new.state.uid} is prepared to take its place"))
        ready = await new.until(lambda state: _is_ready(state) or _cannot_be(state))
        if _cannot_be(ready):
            await _give_up(old, new, told)
            return
        await _order(old, ev.DeleteAsked())
    await old.until(lambda _: False)
    await new.report(ev.PredecessorGone())


def _is_ready(state: PodState) -> bool:
    """One that is stopped waits for nothing; of what is recovered after a crash it is not known yet what is there."""
    return state.goal.want == "stop" or (look.is_prepared(state) and not state.recovering)


def _cannot_be(state: PodState) -> bool:
    return state.goal.want == "delete" or state.failed_start is not None


async def _give_up(old: Actor, new: Actor, told: Told) -> None:
    failed = new.state.failed_start
    if failed is not None:
        what = f"{failed.culprit}: {failed.failure.message}" if failed.culprit else failed.failure.message
        message = f"cannot be made anew, and goes on as it is: {failed.reason}: {what}"
        told(old.state, ev.Tell(type="Warning", reason="FailedRecreate", message=message))
    await undo(new)


async def undo(new: Actor) -> None:
    """Have it removed: it never ran."""
    await _order(new, ev.DeleteAsked(grace_s=0))


async def _order(actor: Actor, order: ev.Request) -> None:
    """See that it is stored. A pod that is gone needs no order."""
    while True:
        try:
            await actor.ask(order)
        except NotFound:
            return
        except PoddError as exc:
            meta = actor.state.pod.metadata
            log.error("successor.waits", pod=meta.name, namespace=meta.namespace, error=exc.message, remedy=exc.remedy)
            await anyio.sleep(ORDER_RETRY_S)
        else:
            return
