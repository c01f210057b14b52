"""The volumes of pods over time: made, brought up to date while the pod runs, removed.

Of one pod one thing is done at a time, in a worker thread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import anyio
import anyio.to_thread

from podd import volumes
from podd.core import events as ev
from podd.core import plan, sandbox
from podd.core.projection import is_projected
from podd.core.sources import Sources
from podd.core.state import PodState
from podd.engine.actor import Actor
from podd.engine.objects import Objects
from podd.errors import PoddError
from podd.model.pod import Pod


class PodVolumes:
    def __init__(
        self,
        host: plan.Host,
        objects: Objects,
        addresses: Callable[[], Sequence[str]],
        told: Callable[[PodState, ev.Tell], None],
    ) -> None:
        """addresses: the host's own, the one that it is known by first."""
        self._host = host
        self._objects = objects
        self.addresses = addresses
        self._told = told
        self._locks = defaultdict[str, anyio.Lock](partial(anyio.Lock, fast_acquire=True))  # by the pod's uid

    def sources(self, state: PodState) -> Sources:
        """What the pod can take values and files from, now."""
        namespace, box = state.pod.metadata.namespace, state.sandbox
        return Sources(
            config_maps=self._objects.config_maps(namespace),
            secrets=self._objects.secrets(namespace),
            node_name=self._host.node_name,
            host_ips=tuple(self.addresses()) if _tells_addresses(state.pod) else (),
            pod_ips=box.ips if isinstance(box, sandbox.Ready) else (),
            cpus=self._host.cpus,
            memory_bytes=self._host.memory_bytes,
            storage_bytes=self._host.storage_bytes,
        )

    async def prepare(self, state: PodState) -> None:
        """Raises PoddError, saying what cannot be had."""
        plans = plan.volumes(state.pod, self._host, self.sources(state))
        async with self._locks[state.uid]:
            await anyio.to_thread.run_sync(volumes.prepare, plans)

    async def remove(self, state: PodState) -> None:
        """And the logs, and what members said of their ends: what lives as long as the pod, and no longer."""
        logs = plan.log_directory(state.pod, self._host.log_dir)
        async with self._locks[state.uid]:
            await anyio.to_thread.run_sync(_remove, logs, self._host.state_dir, state.uid)
        self._locks.pop(state.uid, None)

    async def refresh(self, actor: Actor) -> None:
        """Bring what podd writes up to date. What cannot be stays as it was, and the pod's events tell."""
        await actor.until(lambda s: s.volumes != "preparing")  # with what was there before the change, perhaps
        if actor.gone or actor.state.volumes != "ready":
            return
        async with self._locks[actor.state.uid]:
            state = actor.state
            if actor.gone or state.volumes != "ready":
                return
            for volume in filter(is_projected, state.pod.spec.volumes):
                try:
                    wanted = plan.projected(state.pod, volume, self._host, self.sources(state))
                    await anyio.to_thread.run_sync(volumes.update, [wanted])
                except PoddError as exc:
                    self._told(state, ev.Tell(type="Warning", reason="FailedMount", message=exc.message))


def _remove(logs: str, state_dir: str, uid: str) -> None:
    if logs:
        volumes.remove_directory(logs)
    volumes.remove(state_dir, uid)


def _tells_addresses(pod: Pod) -> bool:
    """One of its variables is an address, which is looked up in the kernel."""
    refs = (
        v.value_from.field_ref for c in (*pod.spec.init_containers, *pod.spec.containers) for v in c.env if v.value_from
    )
    return any(ref is not None and ref.field_path.startswith("status.") for ref in refs)


def writes(pod: Pod) -> bool:
    """podd writes files for it."""
    return any(is_projected(volume) for volume in pod.spec.volumes)
