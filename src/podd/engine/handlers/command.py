"""Run a command in a container, to its end or until nobody waits for it any more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import anyio

from podd.driver.contract import CanExec, ExecRequest, Exit, Handle
from podd.engine.handlers.place import Failed, Place
from podd.errors import Invalid, PoddError

MAX_OUTPUT = 10 * 1024  # bytes that are kept, from the beginning, as the kubelet does
KILL_S = 10  # how long ending a command may take that ran out of time


class Ended(NamedTuple):
    code: int
    output: str  # of both streams


async def run(place: Place, argv: Sequence[str]) -> Ended:
    """Whoever cancels it has it killed, and it ends with podd.

    Raises Failed: there is no such command; PoddError: it cannot be run now.
    """
    driver, container = place.commands, place.container
    output = bytearray()
    with _pipe() as (read, write):
        try:
            exec_id = await _start(driver, container, argv, write)
        finally:
            os.close(write)
        try:
            ended = await _wait(driver, container, exec_id, read, output)
        except BaseException:
            with anyio.move_on_after(KILL_S, shield=True), suppress(PoddError):
                await driver.exec_kill(container, exec_id)
            raise
        _read(read, output)
    return Ended(ended.code, output.decode(errors="replace"))


async def _start(driver: CanExec, container: Handle, argv: Sequence[str], write: int) -> str:
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        exec_id, _ = await driver.exec_start(container, ExecRequest(argv=argv, bound=True), (null, write, write))
    except Invalid as exc:
        raise Failed(exc.message) from exc
    finally:
        os.close(null)
    return exec_id


async def _wait(driver: CanExec, container: Handle, exec_id: str, read: int, output: bytearray) -> Exit:
    """Until it ends, not until its output does: what it leaves in the background may hold that open."""
    failure: PoddError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_collect, read, output)
        try:
            ended = await driver.exec_wait(container, exec_id)
        except PoddError as exc:  # out of here it would be one of a group
            failure = exc
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return ended


async def _collect(read: int, output: bytearray) -> None:
    while _read(read, output):
        await anyio.wait_readable(read)


def _read(read: int, output: bytearray) -> bool:
    """All that is there now; what is too much is dropped. False: there will be no more."""
    while True:
        try:
            data = os.read(read, 65536)
        except BlockingIOError:
            return True
        if not data:
            return False
        output += data[: MAX_OUTPUT - len(output)]


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Who writes may block, who reads may not. The caller closes the second end."""
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(read, False)
        yield read, write
    finally:
        os.close(read)
