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

_HOLDERS = """
    rt_sigprocmask rt_sigtimedwait wait4 exit_group

    arch_prctl brk capget capset chdir clock_gettime clock_nanosleep clone clone3 close close_range dup dup2 dup3
    epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 execve execveat exit fchdir fcntl fstat fstatfs futex getcwd
    getdents64 getegid geteuid getgid getpid getppid getrandom getrlimit gettid getuid ioctl kill lseek madvise mmap
    mprotect mremap munmap nanosleep newfstatat open openat pipe2 poll ppoll prctl pread64 prlimit64 pwrite64 read
    readlink readlinkat readv recvfrom recvmsg restart_syscall rseq rt_sigaction rt_sigreturn sched_getaffinity
    sched_yield sendmsg sendto set_robust_list set_tid_address setgid setgroups setresgid setresuid setrlimit setuid
    sigaltstack stat statfs statx tgkill tkill umask write writev
"""
"""What its program calls; and what an OCI runtime, in C or Go, may call between taking the filter and becoming that
program. A filter of so few calls is compiled in a fraction of the time."""

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
    """Of the default without any capability what the holder needs, for the machine's own programs alone."""
    profile = _profile(os.uname().machine, 0)
    wanted = set(_HOLDERS.split())
    kept = ({**rule, "names": [name for name in rule["names"] if name in wanted]} for rule in profile["syscalls"])
    rules = [rule for rule in kept if rule["names"]]
    return json.dumps({**profile, "architectures": profile["architectures"][:1], "syscalls": rules})


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
