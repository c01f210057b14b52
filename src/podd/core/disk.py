"""What a pod may have of the disk: limits that are looked at now and then, and that evict the pod, as the kubelet does.

A container is charged with what it writes into its root and with its logs, the pod with all of that and with its
emptyDir volumes on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from podd.model import quantity, totals
from podd.model.pod import PodSpec, Volume
from podd.model.value import Value

EPHEMERAL_STORAGE = "ephemeral-storage"


class Used(Value):
    """In bytes, by name. What is not known is left out."""

    containers: Mapping[str, int] = {}
    volumes: Mapping[str, int] = {}  # emptyDir volumes on disk


def is_bounded(spec: PodSpec) -> bool:
    every = (*spec.init_containers, *spec.containers)
    limited = any(EPHEMERAL_STORAGE in one.resources.limits for one in every)
    return limited or EPHEMERAL_STORAGE in spec.resources.limits or any(_size_limit(one) for one in spec.volumes)


def on_disk(spec: PodSpec) -> list[Volume]:
    """The volumes that the pod is charged with."""
    return [one for one in spec.volumes if one.empty_dir is not None and one.empty_dir.medium != "Memory"]


def excess(spec: PodSpec, used: Used) -> str:
    """Why the pod has to go; "" where it need not."""
    return next(_excesses(spec, used), "")


def _excesses(spec: PodSpec, used: Used) -> Iterator[str]:
    for volume in spec.volumes:
        limit = _size_limit(volume)
        if limit and used.volumes.get(volume.name, 0) > quantity.whole(limit):
            yield f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}"'
    for container in (*spec.init_containers, *spec.containers):
        limit = container.resources.limits.get(EPHEMERAL_STORAGE, "")
        if limit and used.containers.get(container.name, 0) > quantity.whole(limit):
            yield f'Container {container.name} exceeded its local ephemeral storage limit "{limit}"'
    together = sum(used.containers.values()) + sum(used.volumes.values())
    most = _pod_limit(spec)
    if most is not None and together > most:
        yield f"Pod ephemeral local storage usage exceeds the total limit of containers {most}"


def _pod_limit(spec: PodSpec) -> int | None:
    """Its own, else what its containers may have together, as far as they are limited."""
    own = spec.resources.limits.get(EPHEMERAL_STORAGE)
    if own is not None:
        return quantity.whole(own)
    together = totals.total(spec, totals.limits).get(EPHEMERAL_STORAGE)
    return None if together is None else int(together)


def _size_limit(volume: Volume) -> str:
    """Of an emptyDir on disk; "" where it has none."""
    empty = volume.empty_dir
    if empty is None or empty.medium == "Memory" or not empty.size_limit or not quantity.parse(empty.size_limit):
        return ""
    return empty.size_limit
