"""When to start again: restart policy and back-off, as the kubelet has them.

The first restart is immediate; then 10 s, doubling up to 300 s, counted from the end of the last instance. Ten minutes
without a restart begin it anew. Source: kubelet, doBackOff and client-go flowcontrol.Backoff.
"""

from __future__ import annotations

from collections.abc import Sequence

from podd.driver.contract import Exit
from podd.model.pod import ContainerRestartRule, RestartPolicy
from podd.model.value import Value

SECOND = 1_000_000_000
FIRST_DELAY_S = 10
MAX_DELAY_S = 300
RESET_AFTER_S = 600
LOOK_AGAIN_S = 10  # for a ConfigMap or Secret that is not there


class Backoff(Value):
    """delay_s: how long after an end the next start waits; 0 for not at all. restarted_at_ns: of the last restart."""

    delay_s: int = 0
    restarted_at_ns: int = 0

    def due_ns(self, ended_at_ns: int) -> int:
        """The earliest time of the next start of something that ended then."""
        if self._forgotten(ended_at_ns):
            return ended_at_ns
        return ended_at_ns + self.delay_s * SECOND

    def next(self, now_ns: int) -> Backoff:
        """After a restart now."""
        if self.delay_s == 0 or self._forgotten(now_ns):
            return Backoff(delay_s=FIRST_DELAY_S, restarted_at_ns=now_ns)
        return Backoff(delay_s=min(self.delay_s * 2, MAX_DELAY_S), restarted_at_ns=now_ns)

    def _forgotten(self, at_ns: int) -> bool:
        return at_ns - self.restarted_at_ns >= RESET_AFTER_S * SECOND


def wants_restart(policy: RestartPolicy, exit: Exit, rules: Sequence[ContainerRestartRule] = ()) -> bool:
    """Does a container that ended so run again? The first rule that fits its exit code says so, else the policy."""
    if any(_fits(rule, exit) for rule in rules):
        return True
    return policy == "Always" or (policy == "OnFailure" and exit.code != 0)


def _fits(rule: ContainerRestartRule, exit: Exit) -> bool:
    codes = rule.exit_codes
    return codes is not None and (exit.code in codes.values) == (codes.operator == "In")
