"""What a pod lacks of ConfigMaps and Secrets may come at any time.

It is looked for every `restart.LOOK_AGAIN_S`, as by the kubelet at each look at a pod, whatever the restart policy
says of what has run and failed; and at once when one that the pod names has changed.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from podd.core import container
from podd.core.change import updated
from podd.core.look import comes_back
from podd.core.state import PodState
from podd.errors import Kind

NO_VOLUMES: Final = "FailedMount"


def is_lack(reason: str, kind: Kind) -> bool:
    """Why a start of the whole pod has failed."""
    return reason == container.CONFIG_ERROR or (reason == NO_VOLUMES and kind is Kind.NOT_FOUND)


def look_now(state: PodState, now_ns: int) -> PodState:
    """An object that the pod names is another by now."""
    failed = state.failed_start
    if failed is not None and failed.retry_at_ns is not None and is_lack(failed.reason, failed.failure.kind):
        state = replace(state, failed_start=replace(failed, retry_at_ns=now_ns))
    for name, member in state.members.items():
        if state.goal.want == "run" and container.lacks_object(member.instance) and comes_back(state, name):
            state = updated(state, name, instance=None)
    return state
