"""Probe one running container: the task behind RunProbes. When and how often is `podd.core.probe`'s to say."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

import anyio
import structlog

from podd.core import events as ev
from podd.core import probe
from podd.core.restart import SECOND
from podd.core.state import PodState
from podd.engine import handlers
from podd.engine.clock import Clock
from podd.engine.handlers import Outcome, Place
from podd.model.pod import Probe

MAX_TOLD = 1024  # characters of an event, as the kubelet has it

log = structlog.get_logger()


class Watched(Protocol):
    """The pod whose container is probed: its actor."""

    @property
    def state(self) -> PodState: ...

    async def until(self, is_so: Callable[[PodState], bool]) -> PodState: ...

    def tell(self, told: ev.Tell) -> None: ...

    async def report(self, report: ev.Report) -> None: ...


class Prober:
    """Nothing is told, and nothing stored, as long as all is as it was."""

    def __init__(
        self,
        pod: Watched,
        action: ev.RunProbes,
        place: Place,
        started_ns: int,
        clock: Clock,
        die: Callable[[], float] = random.random,
    ) -> None:
        """started_ns: of the container. die: see podd.core.probe.first_due_ns."""
        self._pod = pod
        self._action = action
        self._place = place
        self._started_ns = started_ns
        self._clock = clock
        self._die = die

    async def run(self) -> None:
        """Until it is cancelled, as the end of its container does; or there is nothing left to probe."""
        allowed_ns = self._started_ns
        startup = probe.of(self._place.spec, "startup")
        if startup is not None and not self._action.started:
            await self._repeat("startup", startup, allowed_ns)
            allowed_ns = self._clock.now_ns()
        async with anyio.create_task_group() as tasks:
            for kind in ("liveness", "readiness"):
                asked = probe.of(self._place.spec, kind)
                if asked is not None:
                    tasks.start_soon(self._repeat, kind, asked, allowed_ns)

    async def _repeat(self, kind: ev.ProbeKind, asked: Probe, allowed_ns: int) -> None:
        """Only a startup probe comes to an end, with its success."""
        tally = probe.begin(kind, ready=self._action.ready)
        due_ns = probe.first_due_ns(asked, self._started_ns, allowed_ns, self._clock.now_ns(), self._die())
        while True:
            await anyio.sleep(max(0, due_ns - self._clock.now_ns()) / SECOND)
            await self._pod.until(_is_thawed)
            began_ns = self._clock.now_ns()
            outcome = await self._ask(kind, asked)
            if outcome is not None:
                success = outcome.result != "failure"
                tally, is_news = probe.count(kind, asked, tally, success)
                if is_news:
                    message = "" if success else outcome.message
                    await self._pod.report(ev.Probed(id=self._action.id, probe=kind, success=success, message=message))
                if kind == "startup" and success:
                    return
            due_ns = probe.next_due_ns(asked, began_ns, self._clock.now_ns())

    async def _ask(self, kind: ev.ProbeKind, asked: Probe) -> Outcome | None:
        """None: it says nothing of the container. One that was frozen meanwhile could not answer."""
        try:
            outcome = await handlers.probe(self._place, asked)
        except Exception as exc:  # a bug, of podd or of a driver; the pod runs on
            log.exception("probe.broke", container=self._action.name)
            outcome = Outcome(result="error", message=f"unexpected {type(exc).__name__}: {exc}")
        if not _is_thawed(self._pod.state):
            return None
        if outcome.result != "success":
            self._tell(kind.capitalize(), outcome)
        return None if outcome.result == "error" else outcome

    def _tell(self, kind: str, outcome: Outcome) -> None:
        reason, what = {
            "failure": ("Unhealthy", "failed"),
            "error": ("Unhealthy", "errored and resulted in unknown state"),
            "warning": ("ProbeWarning", "warning"),
        }[outcome.result]
        message = f"{kind} probe {what}: {outcome.message.strip()}"[:MAX_TOLD]
        self._pod.tell(ev.Tell(type="Warning", reason=reason, message=message, container=self._action.name))


def _is_thawed(state: PodState) -> bool:
    return state.freezer == "thawed"
