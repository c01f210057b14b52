"""Making a container of dockerd's, a holder or a member, such that who asks again finds it."""

from __future__ import annotations

from typing import Any, NamedTuple

import structlog

from podd.errors import Conflict
from podd_docker import plans
from podd_docker.api import Api
from podd_docker.found import Found

log = structlog.get_logger(__name__)


class Made(NamedTuple):
    """there: what it is, where it was there already."""

    docker_id: str
    there: Found | None = None


async def create(api: Api, name: str, body: plans.Body) -> Made:
    """Make the container; or find the one that is there, where it was made by the same request.

    Raises Conflict: it was made by another; NotFound: there is no such image; Invalid: dockerd does not like it.
    """
    try:
        made: dict[str, Any] = await api.post("containers/create", body, name=name)
    except Conflict:
        there = Found(await api.get(f"containers/{name}/json"))
        if there.labels.get(plans.CONFIG) != body["Labels"][plans.CONFIG]:
            raise Conflict(f"container {name}: it was made from another configuration") from None
        return Made(there.docker_id, there)
    for warning in made.get("Warnings") or ():
        log.warning("container.limited", container=name, note=warning)
    return Made(str(made["Id"]))
