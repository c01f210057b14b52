"""Handlers of probes and lifecycle hooks, each run once: a command, HTTP, TCP, gRPC, or to sleep.

What does not succeed is told in the kubelet's words, since people search for them.
"""

from __future__ import annotations

from typing import Literal

import anyio

from podd.engine.handlers import command, grpc, http
from podd.engine.handlers.dial import OWN, dial, join
from podd.engine.handlers.place import Failed, Place
from podd.errors import PoddError
from podd.model.pod import ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction
from podd.model.value import Value

__all__ = ["Failed", "Outcome", "Place", "hook", "probe"]


class Outcome(Value):
    """error: it could not be run, which says nothing of the container. warning: success, and something to tell."""

    result: Literal["success", "warning", "failure", "error"]
    message: str = ""


async def probe(place: Place, asked: Probe) -> Outcome:
    """Run its handler once, for timeoutSeconds at most. Raises nothing but cancellation."""
    try:
        warning = await _probe(place, asked)
    except Failed as exc:
        return Outcome(result="failure", message=str(exc))
    except PoddError as exc:
        return Outcome(result="error", message=str(exc))
    return Outcome(result="warning" if warning else "success", message=warning)


async def _probe(place: Place, asked: Probe) -> str:
    """A warning, or ""."""
    limit_s = asked.timeout_seconds
    if asked.exec is not None:
        await _probe_exec(place, asked.exec, limit_s)
    elif asked.http_get is not None:
        return await _probe_http(place, asked.http_get, limit_s)
    elif asked.tcp_socket is not None:
        await _tcp(place, asked.tcp_socket, limit_s)
    elif asked.grpc is not None:
        await grpc.check(place, asked.grpc, limit_s)
    return ""


async def _probe_exec(place: Place, action: ExecAction, limit_s: float) -> None:
    with anyio.move_on_after(limit_s) as limit:
        ended = await command.run(place, action.command)
    if limit.cancelled_caught:
        raise Failed(f'command "{" ".join(action.command)}" timed out')
    if ended.code:
        raise Failed(ended.output)


async def _probe_http(place: Place, action: HTTPGetAction, limit_s: float) -> str:
    with anyio.move_on_after(limit_s) as limit:
        answer = await http.get(place, action)
    if limit.cancelled_caught:
        late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        raise Failed(f'Get "{http.url_of(place, action)}": {late}')
    if not 200 <= answer.status < 400:
        raise Failed(f"HTTP probe failed with statuscode: {answer.status}")
    if answer.status >= 300:
        return f"Probe terminated redirects, Response body: {answer.text}"
    return ""


async def _tcp(place: Place, action: TCPSocketAction, limit_s: float | None) -> None:
    port = place.port(action.port)
    with anyio.move_on_after(limit_s) as limit:
        connection = await dial(place, action.host, port)
        await connection.aclose()
    if limit.cancelled_caught:
        raise Failed(f"dial tcp {join(action.host or OWN[0], port)}: i/o timeout")


async def hook(place: Place, asked: LifecycleHandler) -> None:
    """Run it to its end, however long that takes. Raises Failed: it did not succeed; PoddError: it cannot be run."""
    if asked.exec is not None:
        await _hook_exec(place, asked.exec)
    elif asked.http_get is not None:
        await http.get(place, asked.http_get)  # any answer is one: the kubelet asks no more of a hook
    elif asked.tcp_socket is not None:
        await _tcp(place, asked.tcp_socket, None)
    elif asked.sleep is not None:
        await anyio.sleep(asked.sleep.seconds)


async def _hook_exec(place: Place, action: ExecAction) -> None:
    ended = await command.run(place, action.command)
    if ended.code:
        raise Failed(f"command '{' '.join(action.command)}' exited with {ended.code}: {ended.output}")
