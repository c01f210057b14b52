"""One instance of a container: mechanism with CRI semantics, nothing of pods.

    Creating -> Created -> Starting -> Running -> Stopping -> Exited -> Removing -> (gone)

Each state holds what is known in it, no more. Creating, Starting and Removing are intents: they are stored before the
effect, so after a crash they mean "maybe".
"""

from __future__ import annotations

from podd.core.events import Failure
from podd.driver.contract import ContainerStarted, Exit, Handle, Observed
from podd.errors import Conflict
from podd.model.ids import ContainerId
from podd.model.value import Value

NEVER_MADE = "CreateContainerError"
"""The reason of an end without a container: it could not be made, so there is nothing that would count as a run."""


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
    handle: Handle
    pid: int
    started_at_ns: int
    image_id: str = ""


class Stopping(State):
    """It was told to end; killed: with SIGKILL."""

    handle: Handle
    pid: int
    started_at_ns: int
    killed: bool = False
    image_id: str = ""


class Exited(State):
    """handle None: it never came to be, so there is nothing to destroy but perhaps remains."""

    exit: Exit
    handle: Handle | None = None
    image_id: str = ""


class Removing(State):
    exit: Exit
    image_id: str = ""


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


def released(state: Instance, started: ContainerStarted) -> Instance:
    if isinstance(state, Starting):
        return Running(
            id=state.id,
            attempt=state.attempt,
            handle=state.handle,
            pid=started.pid,
            started_at_ns=started.started_at_ns,
            image_id=state.image_id,
        )
    return state


def exited(state: Instance, exit: Exit) -> Instance:
    """It ended. A second report of the same end changes nothing."""
    if isinstance(state, Creating | Exited | Removing):
        return state
    return Exited(id=state.id, attempt=state.attempt, exit=exit, handle=state.handle, image_id=state.image_id)


def was_made(ended: Exited | Removing) -> bool:
    return ended.exit.reason != NEVER_MADE


def start(state: Instance) -> Starting:
    """Asked to start: an intent. Raises Conflict unless it is created."""
    if isinstance(state, Created):
        return Starting(id=state.id, attempt=state.attempt, handle=state.handle, image_id=state.image_id)
    raise Conflict(f"container {state.id}: cannot be started: it is {name_of(state)}", state=name_of(state))


def stop(state: Instance, *, kill: bool) -> Stopping:
    """Asked to end: an intent. Raises Conflict unless it runs."""
    if isinstance(state, Running | Stopping):
        return Stopping(
            id=state.id,
            attempt=state.attempt,
            handle=state.handle,
            pid=state.pid,
            started_at_ns=state.started_at_ns,
            killed=kill,
            image_id=state.image_id,
        )
    raise Conflict(f"container {state.id}: cannot be stopped: it is {name_of(state)}", state=name_of(state))


def remove(state: Instance) -> Removing:
    """Asked to be removed: an intent. Raises Conflict unless it has ended."""
    if isinstance(state, Exited | Removing):
        return Removing(id=state.id, attempt=state.attempt, exit=state.exit, image_id=state.image_id)
    raise Conflict(f"container {state.id}: cannot be removed: it is {name_of(state)}", state=name_of(state))


def name_of(state: Instance) -> str:
    """For people: "running"."""
    return type(state).__name__.lower()
