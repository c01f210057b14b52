"""TCP probes and hooks, and hooks that sleep."""

from __future__ import annotations

import anyio
import pytest
from handling import Local, listening, place, silent, unused_port

from podd.engine import handlers
from podd.engine.handlers import Outcome
from podd.model.pod import LifecycleHandler, Probe, SleepAction, TCPSocketAction

pytestmark = pytest.mark.anyio


async def test_it_is_enough_to_listen(local: Local) -> None:
    async with listening(silent) as port:
        probe = Probe(tcp_socket=TCPSocketAction(port="web"))
        assert await handlers.probe(place(local, web=port), probe) == Outcome(result="success")
        await handlers.hook(
            place(local), LifecycleHandler(tcp_socket=TCPSocketAction(port=port, host="[::ffff:7f00:1]"))
        )


async def test_nobody_listens(local: Local) -> None:
    port = await unused_port()
    action = TCPSocketAction(port=port, host="127.0.0.1")
    refused = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert await handlers.probe(place(local), Probe(tcp_socket=action)) == Outcome(result="failure", message=refused)
    with pytest.raises(handlers.Failed, match="connection refused"):
        await handlers.hook(place(local), LifecycleHandler(tcp_socket=action))


async def test_no_connection_in_time(local: Local) -> None:
    async def slow(*_: object) -> int:
        await anyio.sleep_forever()
        raise AssertionError

    local.open_socket = slow  # type: ignore[method-assign]
    probe = Probe(tcp_socket=TCPSocketAction(port=80, host="::1"), timeout_seconds=1)
    late = Outcome(result="failure", message="dial tcp [::1]:80: i/o timeout")
    assert await handlers.probe(place(local), probe) == late


async def test_a_driver_that_cannot_connect_is_no_failure_of_the_container() -> None:
    class Plain:
        name = "plain"

    probe = Probe(tcp_socket=TCPSocketAction(port=80))
    cannot = Outcome(result="error", message="driver plain: cannot connect")
    assert await handlers.probe(place(Plain()), probe) == cannot


async def test_sleep(local: Local) -> None:
    began = anyio.current_time()
    await handlers.hook(place(local), LifecycleHandler(sleep=SleepAction(seconds=1)))
    assert anyio.current_time() - began >= 1
