"""Changing the limits of a pod that runs, all or nothing.

No member may have more than its pod at any moment, and some kernels refuse it: so the pod's own limits are first the
wider of the old and the new, and the new ones when all members have theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from podd.core import resources
from podd.core.events import Failure
from podd.driver.contract import CanResize, Driver, Handle, Limits
from podd.errors import Kind

T = TypeVar("T")


class Call(Protocol):
    """A call of a driver, under the name that it has in logs: the answer, or why there is none."""

    async def __call__(self, verb: str, call: Callable[[], Awaitable[T]], /) -> tuple[T | None, Failure | None]: ...


class _Change(NamedTuple):
    """Of one cgroup. apply: has the driver do it."""

    apply: Callable[[Limits], Awaitable[Limits]]
    old: Limits
    new: Limits


async def resize(
    driver: Driver, call: Call, box: Handle, pod: Limits, members: Sequence[tuple[Handle, Limits]]
) -> Failure | None:
    """members: those that have cgroups. After a failure all limits are as they were, as far as the driver lets them."""
    if not isinstance(driver, CanResize):
        cannot = f"driver {driver.name}: cannot change limits of what runs"
        return Failure(kind=Kind.UNSUPPORTED, message=cannot, remedy="restart the pod: then they are in force")
    status, failure = await call("sandbox_status", partial(driver.sandbox_status, box))
    if status is None:
        return failure
    whole, before = partial(driver.resize_sandbox, box), status.observed.limits
    between = resources.widest(before, pod)
    changes = [_Change(whole, before, between)]
    for member, limits in members:
        found, _ = await call("container_status", partial(driver.container_status, member))
        if found is not None and found.observed is not None:  # else it has just ended
            changes.append(_Change(partial(driver.resize_container, box, member), found.observed.limits, limits))
    return await _in_turn(call, [*changes, _Change(whole, between, pod)])


async def _in_turn(call: Call, changes: Sequence[_Change]) -> Failure | None:
    """One after the other; where one is refused, those before it are undone, the last one first."""
    for number, change in enumerate(changes):
        _, failure = await call("resize", partial(change.apply, change.new))
        if failure is not None and failure.kind is not Kind.NOT_FOUND:  # else it has just gone
            for done in reversed(changes[:number]):
                await call("resize", partial(done.apply, done.old))
            return failure
    return None
