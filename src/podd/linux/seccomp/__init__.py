"""Seccomp profiles, compiled for the supervisor, which gets bytes and never loads a line of this.

program("runtime/default", capabilities)
program("localhost//etc/podd/seccomp/strict.json", capabilities)
"""

from __future__ import annotations

import os
from functools import lru_cache

from podd.errors import Invalid


def program(profile: str, capabilities: int) -> bytes:
    """The BPF program of a profile for a container with this mask of capabilities; b"" for "unconfined".

    profile: "runtime/default", "unconfined" or "localhost/<absolute path of an OCI seccomp JSON>". Compiled once for
    each profile, capability mask and state of the file. Blocks for some milliseconds when it is new.
    Raises Invalid: there is no such profile, or its file is wrong, naming file and key; Unsupported: it needs what podd
    does not do; Unavailable: libseccomp is not installed.
    """
    kind, _, path = profile.partition("/")
    if profile == "unconfined":
        return b""
    if profile == "runtime/default":
        return _compile("", None, capabilities)
    if kind == "localhost" and path.startswith("/"):
        return _compile(path, _state(path), capabilities)
    raise Invalid(
        f'seccomp profile "{profile}": there is none of this name',
        remedy='use "runtime/default", "unconfined" or "localhost/" and the absolute path of a file',
    )


_State = tuple[int, int, int]  # of a file: what changes when it is written or replaced


def _state(path: str) -> _State:
    try:
        found = os.stat(path)
    except OSError as exc:
        raise Invalid(f"seccomp profile {path}: cannot read it: {exc.strerror}") from exc
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=64)
def _compile(path: str, _: _State | None, capabilities: int) -> bytes:
    # Imported here, so that podd.linux stays free of json and libseccomp for those that compile nothing.
    from podd.linux.seccomp import bpf, default, oci  # noqa: PLC0415

    machine = os.uname().machine
    if path:
        return bpf.compile_profile(oci.load(path, machine, os.uname().release, capabilities), path)
    return bpf.compile_profile(default.profile(machine, capabilities), "runtime/default")
