"""Who a container's process is, and how little it may do."""

from __future__ import annotations

import array
import base64
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from podd.errors import Invalid
from podd.linux import capabilities, users
from podd.linux.inroot import Root
from podd.linux.script import ANY, Result, Script
from podd.linux.syscalls import (
    DEFAULT_ACTION,
    LIBC_SIGNALS,
    PR_CAP_AMBIENT_CLEAR_ALL,
    SECBIT_KEEP_CAPS,
    SECCOMP_MODE_FILTER,
    SIG_SETMASK,
    CapabilitySets,
    Prctl,
    capget,
    capset,
    capset_words,
    handle_by_default,
    prctl,
)
from podd.shim.failure import doing
from podd.shim.plan import ContainerPlan


class Identity(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]  # supplementary, the primary one included
    home: str


def resolve_identity(root: Root, plan: ContainerPlan) -> Identity:
    """Complete what the plan leaves open by what the image says, and by the container's own /etc/passwd and /etc/group.

    Raises Invalid: an id is out of range, the user is root and must not be, there is no such user or group, or the
    files cannot be read.
    """
    name, _, group = plan["image_user"].partition(":") if plan["uid"] is None else ("", "", "")
    uid, user = (plan["uid"], users.find_user(root, plan["uid"])) if plan["uid"] is not None else _user(root, name)
    gid = plan["gid"]
    if gid is None and group:
        gid = _group(root, group)
    if gid is None:
        gid = user.gid if user else 0
    listed = users.groups_of(root, user.name) if user else ()
    groups = tuple(dict.fromkeys((gid, *plan["supplemental_groups"], *listed)))
    for number in (uid, *groups):
        if not 0 <= number <= users.MAX_ID:
            raise Invalid(f"user or group {number}: not within 0..{users.MAX_ID}")
    if uid == 0 and plan["run_as_non_root"]:
        raise Invalid(
            "runAsNonRoot: the container would run as root (uid 0)",
            remedy="set securityContext.runAsUser, or an image with a user",
        )
    home = user.home if user and user.home.startswith("/") else "/"
    return Identity(uid, gid, groups, home)


def _user(root: Root, name: str) -> tuple[int, users.User | None]:
    """Whom an image means by a name or a number; "" is root."""
    number = users.parse_id(name or "0")
    found = users.find_user(root, name if number is None else number)
    if number is not None:
        return number, found
    if found is None:
        raise Invalid(
            f"user {name!r} of the image: there is none of this name in its /etc/passwd",
            remedy="set securityContext.runAsUser",
        )
    return found.uid, found


def _group(root: Root, name: str) -> int:
    number = users.parse_id(name)
    if number is not None:
        return number
    found = users.find_group(root, name)
    if found is None:
        raise Invalid(
            f"group {name!r} of the image: there is none of this name in its /etc/group",
            remedy="set securityContext.runAsGroup",
        )
    return found.gid


NOFILE = 1024
"""Open files of a program that does not raise its limit itself, as podd does: select(2) takes no more, and some walk
through all possible descriptors."""


def limit_resources(script: Script, plan: ContainerPlan) -> dict[str, Result]:
    """Apply the plan's rlimits, as far as the host lets; by the note that each then needs, the result of going further.

    Raises Invalid: there is no such limit.
    """
    script.doing("rlimits", Invalid)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    _limit(script, resource.RLIMIT_NOFILE, (_lower(NOFILE, most), most))
    refused = {}
    for name, limits in plan["rlimits"].items():
        number = getattr(resource, name, None)
        if not isinstance(number, int):
            raise Invalid(f'rlimit "{name}": there is none of this name', remedy="see getrlimit(2) for the names")
        soft, hard = limits
        script.doing(f"rlimit {name}", Invalid)
        ceiling = resource.getrlimit(number)[1]
        reachable = (_lower(soft, ceiling), _lower(hard, ceiling))
        _limit(script, number, reachable)
        if reachable != limits:
            note = f"rlimit {name} {soft}:{hard}: not permitted here, is {reachable[0]}:{reachable[1]}"
            refused[note] = _limit(script, number, limits, least=ANY)
    return refused


def _limit(script: Script, number: int, limits: tuple[int, int], least: int = 0) -> Result:
    return script.call("prlimit64", 0, number, list(limits), 0, least=least)


def _lower(value: int, ceiling: int) -> int:
    if ceiling == resource.RLIM_INFINITY:
        return value
    return ceiling if value == resource.RLIM_INFINITY else min(value, ceiling)


def held(plan: ContainerPlan, notes: list[str]) -> int:
    """The capabilities that the container gets."""
    ours = capabilities.bounding_set()
    if missing := capabilities.names_of(plan["capabilities"] & ~ours):
        notes.append(f"capabilities {' '.join(missing)}: podd does not have them to give")
    return plan["capabilities"] & ours


def assume(script: Script, identity: Identity, plan: ContainerPlan, mask: int) -> None:
    """Become the container's user with the container's rights, those of mask.

    The filter comes last. Without no_new_privs it takes SYS_ADMIN to load it, so that stays permitted, though not
    effective, until then. A user other than root holds nothing: exec would take it from him anyway.
    """
    program = base64.b64decode(plan["seccomp_bpf"])
    final = mask if identity.uid == 0 else 0
    script.doing("user, groups and capabilities")
    script.call_each("prctl", Prctl.CAPBSET_DROP, list(capabilities.bits_of(capabilities.bounding_set() & ~mask)))
    # Kept when the user changes, and none of the bits that the supervisor may have been started with.
    script.call("prctl", Prctl.SET_SECUREBITS, SECBIT_KEEP_CAPS)
    groups = array.array("I", identity.groups)
    script.call("setgroups", len(groups), groups.tobytes())
    script.call("setresgid", identity.gid, identity.gid, identity.gid)
    script.call("setresuid", identity.uid, identity.uid, identity.uid)
    guard(script)  # the kernel undoes both when ids change; a smaller set of capabilities leaves them alone
    script.call("prctl", Prctl.SET_KEEPCAPS, 0)
    needs_admin = bool(program) and not plan["no_new_privileges"]
    _hold(script, final | capabilities.SYS_ADMIN if needs_admin else final)
    if plan["no_new_privileges"]:
        script.call("prctl", Prctl.SET_NO_NEW_PRIVS, 1)
    if program:
        script.doing("seccomp")
        script.call("prctl", Prctl.SET_SECCOMP, SECCOMP_MODE_FILTER, (len(program) // 8, program))  # struct sock_fprog
    if needs_admin:
        _hold(script, final)


def _hold(script: Script, mask: int) -> None:
    """As `capabilities.hold`."""
    header, data = capset_words(CapabilitySets(effective=mask, permitted=mask, inheritable=0))
    script.call("capset", header, data)
    script.call("prctl", Prctl.CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


@contextmanager
def as_user(identity: Identity, mask: int) -> Iterator[None]:
    """Let the block look at files with the rights that the container's user will have."""
    own, groups = capget(), os.getgroups()
    with doing("user, groups and capabilities"):
        os.setgroups(identity.groups)
        os.setegid(identity.gid)
        os.seteuid(identity.uid)
        capset(own._replace(effective=own.effective & mask if identity.uid == 0 else 0))
    try:
        yield
    finally:
        os.seteuid(0)
        capset(own)
        os.setegid(0)
        os.setgroups(groups)
        guard_process()  # the kernel undoes both when ids change


def guard(script: Script) -> None:
    """As `guard_process`."""
    script.call("prctl", Prctl.SET_DUMPABLE, 0)
    script.call("prctl", Prctl.SET_PDEATHSIG, signal.SIGKILL)


def default_signals(script: Script) -> None:
    """As `reset_signals`."""
    for number in (*_ignored(), *LIBC_SIGNALS):
        script.call("rt_sigaction", number, DEFAULT_ACTION, 0, 8)
    script.call("rt_sigprocmask", SIG_SETMASK, bytes(8), 0, 8)


def guard_process() -> None:
    """Die with the supervisor, and let no process of the container look into this one before it execs."""
    prctl(Prctl.SET_DUMPABLE, 0)
    prctl(Prctl.SET_PDEATHSIG, signal.SIGKILL)


def reset_signals() -> None:
    """Default handling and nothing blocked: an ignored signal, as Python ignores SIGPIPE, would stay so after exec."""
    handle_by_default(_ignored())


@cache
def _ignored() -> tuple[int, ...]:
    """By Python, by the zygote, and by whoever started it when this is first asked. Handlers end with exec anyway."""
    own = {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP}
    others = {number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN}
    return tuple(int(number) for number in own | others)


def warm() -> None:
    """Remember what does not change from one child to the next."""
    capabilities.bounding_set()
    _ignored()
