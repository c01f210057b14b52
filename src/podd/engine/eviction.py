"""Pods that have more of the disk than they may are looked for, and evicted.

Nothing tells when a limit is passed, so all that have one are looked at again and again, as the kubelet does. The walk
through what they have written is done in a worker thread, one pod at a time, and rests for much longer than it takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.to_thread
import structlog

from podd.core import container, disk, plan, sandbox
from podd.core import events as ev
from podd.core.state import PodState
from podd.driver.contract import CanStats, Handle
from podd.engine.actor import Actor
from podd.engine.registry import Registry
from podd.errors import PoddError
from podd.linux.disk import tree_bytes

log = structlog.get_logger()

LOOK_S = 10.0
RESTS = 20
"""How many times longer it rests than it has looked: at most a twentieth of one processor goes into this."""

DEADLINE_S = 30.0
"""Of what a driver says of one pod."""


class Eviction:
    def __init__(self, registry: Registry, host: plan.Host) -> None:
        self._registry = registry
        self._host = host

    async def run(self) -> None:
        rest_s = LOOK_S
        while True:
            await anyio.sleep(rest_s)
            began_s = anyio.current_time()
            for actor in self._registry.all():
                if actor.state.goal.want == "run" and disk.is_bounded(actor.state.pod.spec):
                    await self._look(actor)
            rest_s = max(LOOK_S, RESTS * (anyio.current_time() - began_s))

    async def _look(self, actor: Actor) -> None:
        state = actor.state
        if not isinstance(state.sandbox, sandbox.Ready):
            return
        try:
            used = await self._used(actor, state, state.sandbox.handle)
        except (PoddError, TimeoutError) as exc:  # it is going just now; or its driver is not well, which others tell
            log.debug("pod.not_measured", uid=state.uid, error=str(exc))
            return
        why = disk.excess(state.pod.spec, used)
        if why:
            await actor.report(ev.DiskExceeded(id=state.sandbox.id, message=why))

    async def _used(self, actor: Actor, state: PodState, box: Handle) -> disk.Used:
        members = {n: m.instance for n, m in state.members.items() if isinstance(m.instance, container.Live)}
        layers = {}
        if isinstance(actor.driver, CanStats) and actor.driver.capabilities.stats:
            with anyio.fail_after(DEADLINE_S):
                layers = dict((await actor.driver.usage(box, [i.handle for i in members.values()])).layers)
        written, volumes = await anyio.to_thread.run_sync(_measured, *self._places(state))
        return disk.Used(
            containers={
                name: size + (layers.get(members[name].id, 0) if name in members else 0)
                for name, size in zip(state.members, written, strict=True)
            },
            volumes=dict(zip((v.name for v in disk.on_disk(state.pod.spec)), volumes, strict=True)),
        )

    def _places(self, state: PodState) -> tuple[Sequence[str], Sequence[str]]:
        """The directories of the members' logs, and of the volumes on disk."""
        logs = plan.log_directory(state.pod, self._host.log_dir)
        volumes = [plan.volume_path(self._host, state.uid, volume.name) for volume in disk.on_disk(state.pod.spec)]
        return [f"{logs}/{name}" if logs else "" for name in state.members], volumes


def _measured(*places: Sequence[str]) -> list[list[int]]:
    return [[tree_bytes(path) if path else 0 for path in each] for each in places]
