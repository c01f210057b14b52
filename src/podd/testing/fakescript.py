"""What is to happen on a FakeHost, and what has happened: programs, faults, the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import anyio

from podd.model.value import Value


class Program(Value):
    """What a container does when it is released. As it stands: it runs until a signal ends it."""

    exits_after_s: float | None = None
    code: int = 0
    ignores_term: bool = False  # and every other signal but SIGKILL
    term_takes_s: float = 0  # from a signal other than SIGKILL to the end
    term_code: int | None = None  # with what it ends then; None: the signal itself ended it
    oom_killed: bool = False  # when it exits by itself, it was the kernel for lack of memory
    output: Sequence[str] = ()  # lines on standard output, written at once when it starts


FOREVER = Program()


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with a call. With neither error nor hang it is only late.

    verb: a method of the driver. of: a container's name, "pod/container", or for the verbs of a sandbox the pod's name;
    "" for any. call: which of those calls, from 1; None for every one. leaves: what has been done when it goes wrong.
    "effect" with error is a failure after the fact, with hang a lost answer; "remains" is half a thing, which `owned`
    finds and `destroy_*` removes. With start_containers an error of one container is what its answer says of it.
    """

    verb: str
    of: str = ""
    call: int | None = None
    delay_s: float = 0
    error: Exception | None = None
    hang: bool = False
    leaves: Literal["nothing", "remains", "effect"] = "nothing"

    @property
    def fails(self) -> bool:
        return self.hang or self.error is not None

    async def happen(self) -> NoReturn:
        if self.hang:
            await anyio.sleep_forever()
        assert self.error is not None
        raise self.error


class Entry(Value):
    """A line of the journal. at_s: the event loop's time.

    what: "call" and "answer" of a verb (detail of an answer: "" or the error), or "effect". Effects: sandbox_made,
    sandbox_lost, sandbox_removed, frozen, thawed, container_made, released, signalled (detail: the number), exited
    (detail: the code), container_removed, exec_started, sandbox_resized, container_resized, published
    (detail: ports of the host); of images pulling, pulled, pull_cancelled, image_removed.
    """

    at_s: float
    what: Literal["call", "effect", "answer"]
    name: str
    id: str
    of: str = ""  # the container's or, for a sandbox, the pod's name
    detail: str = ""
