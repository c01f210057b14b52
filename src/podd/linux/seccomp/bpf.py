"""From a profile to the kernel's program, by libseccomp."""

from __future__ import annotations

import os
import struct
from types import ModuleType

from podd.errors import Invalid, Unavailable
from podd.linux.seccomp.rules import ENOSYS, EPERM, KILL_PROCESS, KILL_THREAD, TRAP, Profile, Rule

_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, k
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_LOAD, _IF_EQUAL, _IF_GREATER, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
_NR, _ARCH, _ARG0 = 0, 4, 16  # offsets in struct seccomp_data, the low half of an argument on a little-endian machine
_X32_BIT = 0x40000000
_SYS_SOCKET = 1  # socketcall(2)'s number for socket(2)
_BINARY_TREE = 2  # SCMP_FLTATR_CTL_OPTIMIZE: look a call up in log2(n) steps instead of n


def compile_profile(profile: Profile, source: str) -> bytes:
    """An array of struct sock_filter, for seccomp(2).

    source: what to call the profile in errors. Raises Unavailable: libseccomp is not there; Invalid: the rules
    contradict each other or are too many.
    """
    lib = _libseccomp()
    made = lib.SyscallFilter(profile.default)
    _set_if_known(made, lib.Attr.CTL_OPTIMIZE, _BINARY_TREE)
    made.set_attr(lib.Attr.ACT_BADARCH, KILL_PROCESS)
    for name in profile.architectures:
        if made.exist_arch(token := _token(lib, name, source)) is False:
            made.add_arch(token)
    for rule in profile.rules:
        if rule.action != profile.default:  # which libseccomp would refuse as pointless
            _add(lib, made, rule, source)
    program = _prologue(lib, profile, source) + _export(made)
    if len(program) > _MAX_INSTRUCTIONS * _INSTRUCTION.size:
        count = len(program) // _INSTRUCTION.size
        raise Invalid(f"seccomp profile {source}: {count} instructions: the kernel takes {_MAX_INSTRUCTIONS}")
    return program


def _libseccomp() -> ModuleType:
    try:
        import pyseccomp  # noqa: PLC0415 it looks for the library when it is imported
    except (ImportError, RuntimeError, OSError) as exc:
        raise Unavailable(
            f"seccomp: cannot compile profiles: {exc}", remedy="install libseccomp (Debian: apt install libseccomp2)"
        ) from exc
    module: ModuleType = pyseccomp
    return module


def _set_if_known(made: object, attribute: int, value: int) -> None:
    """An attribute that older versions of libseccomp (here: before 2.5) do without."""
    try:
        made.set_attr(attribute, value)  # type: ignore[attr-defined]
    except OSError:
        return


def _token(lib: ModuleType, name: str, source: str) -> int:
    token = getattr(lib.Arch, name, None)
    if not isinstance(token, int):
        raise Invalid(f"seccomp profile {source}: unknown architecture {name}")
    return token


def _add(lib: ModuleType, made: object, rule: Rule, source: str) -> None:
    conditions = [lib.Arg(arg.position, getattr(lib, arg.op), arg.value, arg.second) for arg in rule.args]
    for name in rule.names:
        number = lib.resolve_syscall(lib.Arch.NATIVE, name)
        if number == -1:  # newer than this libseccomp, or of other architectures
            continue
        try:
            made.add_rule(rule.action, number, *conditions)  # type: ignore[attr-defined]
        except OSError as exc:
            raise Invalid(f"seccomp profile {source}: libseccomp refuses the rule for {name}: {exc.strerror}") from exc


def _export(made: object) -> bytes:
    fd = os.memfd_create("podd-seccomp", os.MFD_CLOEXEC)
    with open(fd, "w+b") as file:
        made.export_bpf(file)  # type: ignore[attr-defined]
        file.seek(0)
        return file.read()


def _prologue(lib: ModuleType, profile: Profile, source: str) -> bytes:
    """What libseccomp cannot say, put before its program: jumps are relative, so that needs no other change.

    A call newer than the profile is answered as a kernel without it would: ENOSYS. A profile cannot mean to forbid what
    nobody had heard of, and libcs treat EPERM as final.
    """
    refuses = profile.default in (KILL_THREAD, KILL_PROCESS, TRAP) or profile.default >> 16 == EPERM >> 16
    program: list[tuple[int, int, int, int]] = []
    for name in profile.architectures:
        body: list[tuple[int, int, int, int]] = []
        newest = max((lib.resolve_syscall(_token(lib, name, source), call) for call in profile.known), default=-1)
        if refuses and newest >= 0:
            x32 = name == "X86_64" and "X32" in profile.architectures
            body += [(_IF_AT_LEAST, 2, 0, _X32_BIT)] if x32 else []
            body += [(_IF_GREATER, 0, 1, newest), (_RETURN, 0, 0, ENOSYS)]
        if name == "X86" and not profile.whole_socketcall:
            socketcall = lib.resolve_syscall(lib.Arch.X86, "socketcall")
            body += [
                (_IF_EQUAL, 0, 3, socketcall),
                (_LOAD, 0, 0, _ARG0),
                (_IF_EQUAL, 0, 1, _SYS_SOCKET),
                (_RETURN, 0, 0, EPERM),
            ]
        if body:
            program += [
                (_LOAD, 0, 0, _ARCH),
                (_IF_EQUAL, 0, len(body) + 1, _token(lib, name, source)),
                (_LOAD, 0, 0, _NR),
            ]
            program += body
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
