"""Run a lifecycle hook of one container: the task behind RunHook."""

from __future__ import annotations

import anyio
import structlog

from podd.core import events as ev
from podd.engine import handlers
from podd.engine.handlers import Failed, Place
from podd.engine.probes import MAX_TOLD
from podd.errors import Kind, PoddError
from podd.model.pod import Lifecycle, LifecycleHandler, ObjectMeta

log = structlog.get_logger()


async def run(action: ev.RunHook, place: Place, meta: ObjectMeta) -> ev.HookDone:
    """meta: of the pod, for the message."""
    asked = _handler(place.spec.lifecycle, action.hook)
    failure = await _failure(action, place, asked)
    if failure is None:
        return ev.HookDone(id=action.id, hook=action.hook)
    where = f'for Container "{action.name}" in Pod "{meta.name}_{meta.namespace}({meta.uid})"'
    message = f"{_named(asked)} {where} failed - error: {failure.message.strip()}"[:MAX_TOLD]
    return ev.HookDone(
        id=action.id, hook=action.hook, failure=ev.Failure(kind=failure.kind, message=message, remedy=failure.remedy)
    )


async def _failure(action: ev.RunHook, place: Place, asked: LifecycleHandler) -> ev.Failure | None:
    try:
        with anyio.fail_after(action.limit_s):
            await handlers.hook(place, asked)
    except TimeoutError:
        return ev.Failure(kind=Kind.UNAVAILABLE, message=f"not completed within {action.limit_s:g} s")
    except Failed as exc:
        return ev.Failure(kind=Kind.INVALID, message=str(exc))
    except PoddError as exc:
        return ev.Failure(kind=exc.kind, message=exc.message, remedy=exc.remedy)
    except Exception as exc:  # a bug, of podd or of a driver; the pod runs on
        log.exception("hook.broke", container=action.name, hook=action.hook)
        return ev.Failure(kind=Kind.INTERNAL, message=f"unexpected {type(exc).__name__}: {exc}")
    return None


def _handler(lifecycle: Lifecycle | None, hook: ev.HookKind) -> LifecycleHandler:
    assert lifecycle is not None
    handler = lifecycle.post_start if hook == "postStart" else lifecycle.pre_stop
    assert handler is not None, "no action on a hook is decided without one"
    return handler


def _named(asked: LifecycleHandler) -> str:
    if asked.exec is not None:
        return f"Exec lifecycle hook ([{' '.join(asked.exec.command)}])"
    if asked.http_get is not None:
        return f"HTTP lifecycle hook ({asked.http_get.path or '/'})"
    if asked.tcp_socket is not None:
        return f"TCP lifecycle hook ({asked.tcp_socket.port})"
    return "Sleep lifecycle hook"
