"""Seccomp profiles in the form that dockerd takes: the text of an OCI profile."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

from podd.errors import Invalid
from podd.linux.seccomp import default
from podd.linux.seccomp.rules import ALLOW, Rule

DEFAULT_PROFILE = "runtime/default"
MAX_BYTES = 1 << 20
_ERRNO = 0x00050000


def text(profile: str, mask: int) -> str:
    """For a container with this mask of capabilities; "unconfined" stays so. Blocks where the profile is a file.

    Raises Invalid: there is no such profile; Unsupported: no default for this machine.
    """
    if profile == "unconfined":
        return profile
    if profile == DEFAULT_PROFILE:
        return _default(os.uname().machine, mask)
    kind, _, path = profile.partition("/")
    if kind != "localhost" or not path.startswith("/"):
        raise Invalid(
            f'seccomp profile "{profile}": there is none of this name',
            remedy='use "runtime/default", "unconfined" or "localhost/" and the absolute path of a file',
        )
    try:
        with open(path, encoding="utf-8") as file:
            return json.dumps(json.loads(file.read(MAX_BYTES)))
    except OSError as exc:
        raise Invalid(f"seccomp profile {path}: cannot read it: {exc.strerror}") from exc
    except ValueError as exc:
        raise Invalid(f"seccomp profile {path}: is no JSON: {exc}") from exc


@lru_cache
def of_holder() -> str:
    """The default without any capability, for the machine's own programs alone: compiled in half the time."""
    profile = _profile(os.uname().machine, 0)
    return json.dumps({**profile, "architectures": profile["architectures"][:1]})


@lru_cache(maxsize=64)
def _default(machine: str, mask: int) -> str:
    return json.dumps(_profile(machine, mask))


def _profile(machine: str, mask: int) -> dict[str, Any]:
    profile = default.profile(machine, mask)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",  # EPERM, as the profile has it
        "architectures": [f"SCMP_ARCH_{name}" for name in profile.architectures],
        "syscalls": [_rule(rule) for rule in profile.rules],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {
        "names": sorted(rule.names),
        "args": [
            {"index": arg.position, "op": f"SCMP_CMP_{arg.op}", "value": arg.value, "valueTwo": arg.second}
            for arg in rule.args
        ],
    }
    if rule.action == ALLOW:
        return {**found, "action": "SCMP_ACT_ALLOW"}
    assert rule.action & ~0xFFFF == _ERRNO, "the default profile allows or fails"
    return {**found, "action": "SCMP_ACT_ERRNO", "errnoRet": rule.action & 0xFFFF}
