"""A profile written down for an OCI runtime, which compiles it itself."""

from __future__ import annotations

from typing import Any

from podd.linux.seccomp import rules
from podd.linux.seccomp.rules import Arg, Profile, Rule

_ACTIONS = {
    rules.ALLOW: "SCMP_ACT_ALLOW",
    rules.LOG: "SCMP_ACT_LOG",
    rules.TRAP: "SCMP_ACT_TRAP",
    rules.KILL_THREAD: "SCMP_ACT_KILL_THREAD",
    rules.KILL_PROCESS: "SCMP_ACT_KILL_PROCESS",
}
_DATA = 0xFFFF  # of an action: the errno, or what a tracer is told
_WITH_DATA = {rules.error(0): "SCMP_ACT_ERRNO", rules.trace(0): "SCMP_ACT_TRACE"}


def written(profile: Profile) -> dict[str, Any]:
    """The linux.seccomp of the OCI runtime specification.

    That calls newer than the profile fail with ENOSYS is seen to by runc (1.0.0-rc93) and crun (0.20) themselves.
    """
    action, data = _action(profile.default)
    return {
        "defaultAction": action,
        **({} if data is None else {"defaultErrnoRet": data}),
        "architectures": [f"SCMP_ARCH_{name}" for name in profile.architectures],
        "syscalls": [one for rule in profile.rules for one in _rule(profile, rule)],
    }


def _rule(profile: Profile, rule: Rule) -> list[dict[str, Any]]:
    # Where it is not to be allowed as a whole, libseccomp makes the rules for socketcall(2) of those for its parts.
    names = [name for name in rule.names if profile.whole_socketcall or name != "socketcall"]
    if not names or rule.action == profile.default:
        return []
    action, data = _action(rule.action)
    found: dict[str, Any] = {"names": names, "action": action}
    if data is not None:
        found["errnoRet"] = data
    if rule.args:
        found["args"] = [_arg(arg) for arg in rule.args]
    return [found]


def _arg(arg: Arg) -> dict[str, Any]:
    found: dict[str, Any] = {"index": arg.position, "value": arg.value, "op": f"SCMP_CMP_{arg.op}"}
    return {**found, "valueTwo": arg.second} if arg.op == "MASKED_EQ" else found


def _action(action: int) -> tuple[str, int | None]:
    if action in _ACTIONS:
        return _ACTIONS[action], None
    return _WITH_DATA[action & ~_DATA], action & _DATA
