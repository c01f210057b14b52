"""Seccomp profiles, compiled for the supervisor, which gets bytes and never loads a line of this.

program("runtime/default", capabilities)
program("localhost//etc/podd/seccomp/strict.json", capabilities)
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from podd.errors import Invalid


def program(profile: str, capabilities: int) -> bytes:
    """The BPF program of a profile for a container with this mask of capabilities; b"" for "unconfined".

    profile: "runtime/default", "unconfined" or "localhost/<absolute path of an OCI seccomp JSON>". Compiled once for
    each profile, capability mask and state of the file. Blocks for some milliseconds when it is new.
    Raises Invalid: there is no such profile, or its file is wrong, naming file and key; Unsupported: it needs what podd
    does not do; Unavailable: libseccomp is not installed.
    """
    path = _path(profile)
    return b"" if path is None else _compile(path, _state(path), capabilities)


def for_runtime(profile: str, capabilities: int) -> dict[str, Any] | None:
    """The same for an OCI runtime: the linux.seccomp of its config.json; None for "unconfined". Raises as program."""
    path = _path(profile)
    return None if path is None else _write(path, _state(path), capabilities)


def _path(profile: str) -> str | None:
    """Of the profile's file; "" for the default one, None where there is to be no filter."""
    kind, _, path = profile.partition("/")
    if profile == "unconfined":
        return None
    if profile == "runtime/default":
        return ""
    if kind == "localhost" and path.startswith("/"):
        return path
    raise Invalid(
        f'seccomp profile "{profile}": there is none of this name',
        remedy='use "runtime/default", "unconfined" or "localhost/" and the absolute path of a file',
    )


_State = tuple[int, int, int]  # of a file: what changes when it is written or replaced


def _state(path: str) -> _State | None:
    if not path:
        return None
    try:
        found = os.stat(path)
    except OSError as exc:
        raise Invalid(f"seccomp profile {path}: cannot read it: {exc.strerror}") from exc
    return found.st_ino, found.st_size, found.st_mtime_ns


# Imported late, so that podd.linux stays free of json and libseccomp for those that compile nothing.


@lru_cache(maxsize=64)
def _compile(path: str, _: _State | None, capabilities: int) -> bytes:
    from podd.linux.seccomp import bpf, default, oci  # noqa: PLC0415

    machine = os.uname().machine
    if path:
        return bpf.compile_profile(oci.load(path, machine, os.uname().release, capabilities), path)
    return bpf.compile_profile(default.profile(machine, capabilities), "runtime/default")


@lru_cache(maxsize=64)
def _write(path: str, _: _State | None, capabilities: int) -> dict[str, Any]:
    from podd.linux.seccomp import default, oci, written  # noqa: PLC0415

    machine = os.uname().machine
    if path:
        return written.written(oci.load(path, machine, os.uname().release, capabilities))
    return written.written(default.profile(machine, capabilities))
