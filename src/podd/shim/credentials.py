"""Who a container's process is, and how little it may do."""

from __future__ import annotations

import base64
import os
import resource
import signal
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from podd.errors import Invalid
from podd.linux import capabilities, users
from podd.linux.inroot import Root
from podd.linux.syscalls import SECBIT_KEEP_CAPS, Prctl, handle_by_default, load_seccomp_filter, prctl
from podd.shim.failure import doing
from podd.shim.plan import ContainerPlan


class Identity(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]  # supplementary, the primary one included
    home: str


def resolve_identity(root: Root, plan: ContainerPlan) -> Identity:
    """Complete what the plan leaves open by the container's own /etc/passwd and /etc/group.

    Raises Invalid: an id is out of range, the user is root and must not be, or the files cannot be read.
    """
    uid = plan["uid"] if plan["uid"] is not None else 0
    user = users.find_user(root, uid)
    gid = plan["gid"]
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


NOFILE = 1024
"""Open files of a program that does not raise its limit itself, as podd does: select(2) takes no more, and some walk
through all possible descriptors."""


def limit_resources(plan: ContainerPlan, notes: list[str]) -> None:
    """Apply the plan's rlimits; where the host forbids raising one, go as far as it lets and say so."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (_lower(NOFILE, most), most))
    for name, (soft, hard) in plan["rlimits"].items():
        number = getattr(resource, name, None)
        if not isinstance(number, int):
            raise Invalid(f'rlimit "{name}": there is none of this name', remedy="see getrlimit(2) for the names")
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, PermissionError):
            ceiling = resource.getrlimit(number)[1]
            reachable = (_lower(soft, ceiling), _lower(hard, ceiling))
            with doing(f"rlimit {name}", Invalid):
                resource.setrlimit(number, reachable)
            notes.append(f"rlimit {name} {soft}:{hard}: not permitted here, is {reachable[0]}:{reachable[1]}")


def _lower(value: int, ceiling: int) -> int:
    if ceiling == resource.RLIM_INFINITY:
        return value
    return ceiling if value == resource.RLIM_INFINITY else min(value, ceiling)


def assume(identity: Identity, plan: ContainerPlan, notes: list[str], check: Callable[[], None]) -> None:
    """Become the container's user with the container's rights, and call `check` as that user.

    The filter comes last. Without no_new_privs it takes SYS_ADMIN to load it, so that stays permitted, though not
    effective, until then. A user other than root holds nothing: exec would take it from him anyway.
    """
    held = capabilities.bounding_set()
    mask = plan["capabilities"] & held
    if mask != plan["capabilities"]:
        missing = capabilities.names_of(plan["capabilities"] & ~held)
        notes.append(f"capabilities {' '.join(missing)}: podd does not have them to give")
    program = base64.b64decode(plan["seccomp_bpf"])
    final = mask if identity.uid == 0 else 0
    with doing("user, groups and capabilities"):
        capabilities.limit_bounding_set(mask)
        prctl(
            Prctl.SET_SECUREBITS, SECBIT_KEEP_CAPS
        )  # and none of those that the supervisor may have been started with
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
        guard_process()  # the kernel undoes both when ids change; a smaller set of capabilities leaves them alone
        prctl(Prctl.SET_KEEPCAPS, 0)
        needs_admin = bool(program) and not plan["no_new_privileges"]
        capabilities.hold(final, final | capabilities.SYS_ADMIN if needs_admin else final)
        if plan["no_new_privileges"]:
            prctl(Prctl.SET_NO_NEW_PRIVS, 1)
    check()
    with doing("seccomp"):
        if needs_admin:
            capabilities.hold(final | capabilities.SYS_ADMIN, final | capabilities.SYS_ADMIN)
        if program:
            load_seccomp_filter(program)
        if needs_admin:
            capabilities.hold(final, final)


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
