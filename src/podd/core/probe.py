"""When a container is probed, and what the answers amount to.

The kubelet's semantics (prober/worker.go, by effect): a probe first runs when its initial delay is over, liveness and
readiness also not before the startup probe has succeeded; then once each period, from beginning to beginning, and at
once where the last run took longer. As many answers alike in a row as the threshold wants make a verdict.
"""

from __future__ import annotations

from msgspec.structs import replace

from podd.core.events import ProbeKind
from podd.core.restart import SECOND
from podd.model.pod import Container, Probe
from podd.model.value import Value


class Tally(Value):
    """How the runs of one probe have gone so far.

    last: the newest answer. alike: how many in a row. verdict: what the answers have amounted to; None: nothing yet.
    """

    last: bool | None = None
    alike: int = 0
    verdict: bool | None = None


def of(container: Container, kind: ProbeKind) -> Probe | None:
    """With what the API server would fill in where it finds a 0."""
    probes = {
        "startup": container.startup_probe,
        "liveness": container.liveness_probe,
        "readiness": container.readiness_probe,
    }
    probe = probes[kind]
    if probe is None:
        return None
    return replace(
        probe,
        timeout_seconds=probe.timeout_seconds or 1,
        period_seconds=probe.period_seconds or 10,
        success_threshold=probe.success_threshold or 1,
        failure_threshold=probe.failure_threshold or 3,
    )


def begin(kind: ProbeKind, *, ready: bool = False) -> Tally:
    """Before the first run. ready: the verdict of a readiness probe that podd has followed before; none is a no."""
    return Tally(verdict=ready if kind == "readiness" else None)


def first_due_ns(probe: Probe, started_ns: int, allowed_ns: int, now_ns: int, die: float) -> int:
    """started_ns: of the container. allowed_ns: not before. die: 0 <= die < 1, thrown anew for each probe.

    Where the time is over by more than a period, podd was away; it then takes up all its pods at one moment, and
    spreads their probes over the period so that they do not run together for ever.
    """
    due_ns = max(started_ns + probe.initial_delay_seconds * SECOND, allowed_ns)
    period_ns = probe.period_seconds * SECOND
    return due_ns if now_ns - due_ns <= period_ns else now_ns + int(die * period_ns)


def next_due_ns(probe: Probe, began_ns: int, now_ns: int) -> int:
    """After a run that began then and has just ended."""
    return max(began_ns + probe.period_seconds * SECOND, now_ns)


def count(kind: ProbeKind, probe: Probe, before: Tally, success: bool) -> tuple[Tally, bool]:
    """One answer more. True: it made a verdict that is to be told, see podd.core.events.Probed.

    What fails a startup or liveness probe is killed for it. Until it is, its failures are counted anew.
    """
    alike = before.alike + 1 if success is before.last else 1
    if alike < (probe.success_threshold if success else probe.failure_threshold):
        return replace(before, last=success, alike=alike), False
    after = Tally(last=success, alike=alike, verdict=success)
    if kind == "readiness":
        return after, success is not before.verdict
    if success:
        return after, before.verdict is None
    return replace(after, last=None, alike=0), True
