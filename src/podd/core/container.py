"""One instance of a container: mechanism with CRI semantics, nothing of pods.

    Creating -> Created -> Starting -> Running -> Stopping -> Exited -> Removing -> (gone)

Each state holds what is known in it, no more. Creating, Starting and Removing are intents: they are stored before the
effect, so after a crash they mean "maybe".
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from podd.core.events import IMAGE_REASONS, Failure
from podd.driver.contract import ContainerStarted, Exit, Handle, Observed
from podd.errors import Conflict
from podd.model.ids import ContainerId
from podd.model.value import Value

NEVER_MADE: Final = "CreateContainerError"
"""The reason of an end without a container: it could not be made, so there is nothing that would count as a run."""
CONFIG_ERROR: Final = "CreateContainerConfigError"
"""Likewise: what its environment refers to is not there."""


NOT_MADE: Final = (NEVER_MADE, CONFIG_ERROR, *IMAGE_REASONS)


class State(Value, tag=True):
    """id: of this instance. attempt: 0 for the first of its container."""

    id: ContainerId
    attempt: int


class Creating(State):
    pass


class Created(State):
    """Held before its first instruction, unless its driver cannot hold."""

    handle: Handle
    observed: Observed | None
    image_id: str = ""


class Starting(State):
    handle: Handle
    image_id: str = ""


class Running(State):
    """post_start: its postStart hook has run, or it has none. started: likewise its startup probe.

    ready: what its readiness probe said last; True without one.
    """

    handle: Handle
    pid: int
    started_at_ns: int
    image_id: str = ""
    post_start: bool = True
    started: bool = True
    ready: bool = True


class Stopping(State):
    """It is to end. pre_stop: its preStop hook has run, or there is none. told: it was sent its stop signal; killed:
    SIGKILL. kill_at_ns: when its own time is up; None: with the pod's. again: it runs again, however it ends.
    """

    handle: Handle
    pid: int
    started_at_ns: int
    killed: bool = False
    image_id: str = ""
    pre_stop: bool = True
    told: bool = True
    kill_at_ns: int | None = None
    again: bool = False


class Exited(State):
    """handle None: it never came to be, so there is nothing to destroy but perhaps remains.

    again: it was ended because it was not well, so that even an end with 0 is none to rest on.
    """

    exit: Exit
    handle: Handle | None = None
    image_id: str = ""
    again: bool = False


class Removing(State):
    exit: Exit
    image_id: str = ""
    again: bool = False


Instance = Creating | Created | Starting | Running | Stopping | Exited | Removing
Live = Running | Stopping
Made = Created | Starting | Running | Stopping | Exited  # those that a driver has a handle of


def made(state: Instance, handle: Handle, observed: Observed | None, image_id: str) -> Instance:
    """The driver has made it."""
    if isinstance(state, Creating):
        return Created(id=state.id, attempt=state.attempt, handle=handle, observed=observed, image_id=image_id)
    return state


def failed(state: Instance, failure: Failure, reason: str, now_ns: int) -> Instance:
    """It could not be made or started: it ends without having run an instruction. 128 as the kubelet has it."""
    if isinstance(state, Creating | Created | Starting):
        message = f"{failure.message}; {failure.remedy}" if failure.remedy else failure.message
        never_ran = Exit(code=128, reason=reason, message=message, finished_at_ns=now_ns)
        handle = None if isinstance(state, Creating) else state.handle
        return Exited(id=state.id, attempt=state.attempt, exit=never_ran, handle=handle)
    return state


def released(state: Instance, started: ContainerStarted, *, hook: bool, startup: bool, readiness: bool) -> Instance:
    """It runs. hook, startup, readiness: it has a postStart hook and those probes, which have yet to say their word."""
    if isinstance(state, Starting):
        return Running(
            id=state.id,
            attempt=state.attempt,
            handle=state.handle,
            pid=started.pid,
            started_at_ns=started.started_at_ns,
            image_id=state.image_id,
            post_start=not hook,
            started=not startup,
            ready=not readiness,
        )
    return state


def is_started(state: Instance | None) -> bool:
    """It runs, and its postStart hook and startup probe have succeeded."""
    return isinstance(state, Running) and state.post_start and state.started


def is_ready(state: Instance | None) -> bool:
    return isinstance(state, Running) and is_started(state) and state.ready


def exited(state: Instance, exit: Exit) -> Instance:
    """It ended. A second report of the same end changes nothing."""
    if isinstance(state, Creating | Exited | Removing):
        return state
    again = isinstance(state, Stopping) and state.again
    return Exited(
        id=state.id, attempt=state.attempt, exit=exit, handle=state.handle, image_id=state.image_id, again=again
    )


def lacks_object(instance: Instance | None) -> bool:
    """It could not be made, because a ConfigMap or Secret was not there, or not as it must be."""
    return isinstance(instance, Exited) and instance.exit.reason == CONFIG_ERROR


def was_made(ended: Exited | Removing) -> bool:
    return ended.exit.reason not in NOT_MADE


def start(state: Instance) -> Starting:
    """Asked to start: an intent. Raises Conflict unless it is created."""
    if isinstance(state, Created):
        return Starting(id=state.id, attempt=state.attempt, handle=state.handle, image_id=state.image_id)
    raise Conflict(f"container {state.id}: cannot be started: it is {name_of(state)}", state=name_of(state))


def stop(state: Instance, *, hook: bool = False, kill_at_ns: int | None = None, again: bool = False) -> Stopping:
    """Asked to end: an intent. hook: its preStop hook comes first. Raises Conflict unless it runs.

    Asked again, its time can only become shorter.
    """
    if isinstance(state, Stopping):
        times = [at for at in (state.kill_at_ns, kill_at_ns) if at is not None]
        return replace(state, kill_at_ns=min(times, default=None))
    if isinstance(state, Running):
        return Stopping(
            id=state.id,
            attempt=state.attempt,
            handle=state.handle,
            pid=state.pid,
            started_at_ns=state.started_at_ns,
            image_id=state.image_id,
            pre_stop=not hook,
            told=False,
            kill_at_ns=kill_at_ns,
            again=again,
        )
    raise Conflict(f"container {state.id}: cannot be stopped: it is {name_of(state)}", state=name_of(state))


def remove(state: Instance) -> Removing:
    """Asked to be removed: an intent. Raises Conflict unless it has ended."""
    if isinstance(state, Exited | Removing):
        return Removing(id=state.id, attempt=state.attempt, exit=state.exit, image_id=state.image_id, again=state.again)
    raise Conflict(f"container {state.id}: cannot be removed: it is {name_of(state)}", state=name_of(state))


def name_of(state: Instance) -> str:
    """For people: "running"."""
    return type(state).__name__.lower()
