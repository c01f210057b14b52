"""Seccomp profiles, compiled for the supervisor, which gets bytes and never loads a line of this.

program("runtime/default", capabilities)
program("localhost//etc/podd/seccomp/strict.json", capabilities)
"""

from __future__ import annotations

import os

from podd.errors import Invalid

_cache: dict[tuple[object, ...], bytes] = {}
_CACHE_SIZE = 64


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
        key: tuple[object, ...] = (profile, capabilities)
    elif kind == "localhost" and path.startswith("/"):
        key = (path, _state(path), capabilities)
    else:
        raise Invalid(
            f'seccomp profile "{profile}": there is none of this name',
            remedy='use "runtime/default", "unconfined" or "localhost/" and the absolute path of a file',
        )
    if key not in _cache:
        while len(_cache) >= _CACHE_SIZE:
            _cache.pop(next(iter(_cache)), None)
        _cache[key] = _compile(path if kind == "localhost" else "", capabilities)
    return _cache[key]


def _state(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError as exc:
        raise Invalid(f"seccomp profile {path}: cannot read it: {exc.strerror}") from exc
    return found.st_ino, found.st_size, found.st_mtime_ns


def _compile(path: str, capabilities: int) -> bytes:
    # Imported here, so that podd.linux stays free of json and libseccomp for those that compile nothing.
    from podd.linux.seccomp import bpf, default, oci  # noqa: PLC0415

    machine = os.uname().machine
    if path:
        return bpf.compile_profile(oci.load(path, machine, os.uname().release, capabilities), path)
    return bpf.compile_profile(default.profile(machine, capabilities), "runtime/default")
