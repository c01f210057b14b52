"""Profiles in the JSON of the OCI runtime specification, with what Docker and Podman add to it."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, cast, get_args

from podd.errors import Invalid, Unsupported
from podd.linux.capabilities import BITS
from podd.linux.seccomp import rules
from podd.linux.seccomp.rules import Arg, Comparison, Profile, Rule

_MAX_BYTES = 1 << 20
_NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_GO_NAME = {"x86_64": "amd64", "aarch64": "arm64"}  # of machines, in "arches"
_ACTIONS = {
    "SCMP_ACT_ALLOW": rules.ALLOW,
    "SCMP_ACT_LOG": rules.LOG,
    "SCMP_ACT_TRAP": rules.TRAP,
    "SCMP_ACT_KILL": rules.KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": rules.KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": rules.KILL_PROCESS,
}
_FLAGS = ("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW")

_PROFILE_KEYS = {
    "archMap", "architectures", "defaultAction", "defaultErrno", "defaultErrnoRet", "flags", "syscalls",
}  # fmt: skip
_RULE_KEYS = {"action", "args", "comment", "errno", "errnoRet", "excludes", "includes", "name", "names"}
_FILTER_KEYS = {"arches", "caps", "minKernel"}


class _Host(NamedTuple):
    machine: str
    kernel: tuple[int, int]
    capabilities: int


class _Object:
    """A JSON object that knows where it stands, and says so when something in it is wrong."""

    def __init__(self, file: str, where: str, value: object, keys: set[str]) -> None:
        self.file, self.where = file, where
        if not isinstance(value, dict):
            raise self.wrong("", "is not an object")
        self.values: dict[str, object] = value
        for key in value:
            if key not in keys:
                raise self.wrong(key, f"is no key here; there are {', '.join(sorted(keys))}")

    def wrong(self, key: str, why: str) -> Invalid:
        place = ".".join(part for part in (self.where, key) if part) or "the file"
        return Invalid(f"seccomp profile {self.file}: {place} {why}", file=self.file, key=place)

    def integer(self, key: str, default: int, *, limit: int = 1 << 64) -> int:
        value = self.values.get(key, default)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
            raise self.wrong(key, f"is {json.dumps(value)}, not a whole number from 0 to {limit - 1}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "is missing" if value is None else f"is {json.dumps(value)}, not a string")
        return value

    def texts(self, key: str) -> list[str]:
        value = self.items(key)
        for n, item in enumerate(value):
            if not isinstance(item, str):
                raise self.wrong(f"{key}[{n}]", f"is {json.dumps(item)}, not a string")
        return cast("list[str]", value)

    def items(self, key: str) -> list[object]:
        value = self.values.get(key)
        if value is not None and not isinstance(value, list):
            raise self.wrong(key, "is not a list")
        return value or []

    def objects(self, key: str, keys: set[str]) -> list[_Object]:
        prefix = f"{self.where}.{key}" if self.where else key
        return [_Object(self.file, f"{prefix}[{n}]", item, keys) for n, item in enumerate(self.items(key))]

    def object(self, key: str, keys: set[str]) -> _Object:
        return _Object(self.file, f"{self.where}.{key}", self.values.get(key) or {}, keys)


def load(path: str, machine: str, release: str, capabilities: int) -> Profile:
    """Read a profile for a container with this mask of capabilities on this machine (uname -m) and kernel (uname -r).

    Filter flags are accepted and have no effect: LOG and SPEC_ALLOW change no answer, TSYNC is how it is done anyway.
    Raises Invalid, naming the file and the key, or the line; Unsupported: it wants a listener.
    """
    version = re.match(r"(\d+)\.(\d+)", release)
    host = _Host(machine, (int(version[1]), int(version[2])) if version else (0, 0), capabilities)
    root = _Object(path, "", _read(path), _PROFILE_KEYS | {"listenerPath", "listenerMetadata"})
    if "listenerPath" in root.values:
        raise Unsupported(f"seccomp profile {path}: listenerPath: podd passes no notifications on")
    for flag in root.texts("flags"):
        if flag not in _FLAGS:
            raise root.wrong("flags", f"has {flag}; there are {', '.join(_FLAGS)}")
    default = _action(root, "defaultAction", "defaultErrno", "defaultErrnoRet")
    architectures = _architectures(root, machine)
    objects = root.objects("syscalls", _RULE_KEYS)
    made = [rule for entry in objects for rule in _rules(entry, host)]
    known = frozenset(name for entry in objects for name in _names(entry))
    return Profile(default, architectures, made, known)


def _read(path: str) -> object:
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise Invalid(f"seccomp profile {path}: cannot read it: {exc.strerror}") from exc
    if len(text) > _MAX_BYTES:
        raise Invalid(f"seccomp profile {path}: it is larger than {_MAX_BYTES >> 20} MiB")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise Invalid(f"seccomp profile {path}: not JSON: {exc}", file=path) from exc


def _architectures(root: _Object, machine: str) -> list[str]:
    native = _NATIVE.get(machine)
    if native is None:
        raise Unsupported(f"seccomp: profiles are not supported on {machine}")
    found = [native, *root.texts("architectures")]
    for entry in root.objects("archMap", {"architecture", "subArchitectures"}):
        others = entry.texts("subArchitectures")
        if entry.text("architecture") == native:
            found += others
    return list(dict.fromkeys(name.removeprefix("SCMP_ARCH_") for name in found))


def _action(entry: _Object, key: str, name_key: str, number_key: str) -> int:
    name = entry.text(key)
    number = entry.integer(number_key, errno.EPERM, limit=1 << 12)
    if symbol := entry.values.get(name_key):  # as Podman writes it, and then it counts
        symbols = {text: value for value, text in errno.errorcode.items()}
        if symbol not in symbols:
            raise entry.wrong(name_key, f"is {json.dumps(symbol)}, not the name of an error")
        number = symbols[str(symbol)]
    if name == "SCMP_ACT_ERRNO":
        return rules.error(number)
    if name == "SCMP_ACT_TRACE":
        return rules.trace(number)
    if name == "SCMP_ACT_NOTIFY":
        raise Unsupported(f"seccomp profile {entry.file}: {key}: podd passes no notifications on")
    if name not in _ACTIONS:
        raise entry.wrong(key, f"is {name}; there are {', '.join(_ACTIONS)}, SCMP_ACT_ERRNO, SCMP_ACT_TRACE")
    return _ACTIONS[name]


def _names(entry: _Object) -> list[str]:
    return entry.texts("names") + ([entry.text("name")] if "name" in entry.values else [])


def _rules(entry: _Object, host: _Host) -> Iterator[Rule]:
    names, action = _names(entry), _action(entry, "action", "errno", "errnoRet")
    if not names:
        raise entry.wrong("names", "is empty")
    args = tuple(_arg(item) for item in entry.objects("args", {"index", "op", "value", "valueTwo"}))
    included, excluded = (entry.object(key, _FILTER_KEYS) for key in ("includes", "excludes"))
    if not all(_matches(included, host, all)) or any(_matches(excluded, host, any)):
        return
    if len({arg.position for arg in args}) == len(args):
        yield Rule(names, action, args)
    else:  # conditions on the same argument are alternatives: so runc reads it, and Docker's profiles rely on it
        for arg in args:
            yield Rule(names, action, (arg,))


def _arg(item: _Object) -> Arg:
    op = item.text("op").removeprefix("SCMP_CMP_")
    if op not in get_args(Comparison):
        raise item.wrong("op", f"is {item.text('op')}; there are {', '.join(get_args(Comparison))} after SCMP_CMP_")
    index = item.integer("index", 0, limit=6)
    return Arg(index, cast("Comparison", op), item.integer("value", 0), item.integer("valueTwo", 0))


def _matches(conditions: _Object, host: _Host, how_many: Callable[[Iterable[bool]], bool]) -> Iterator[bool]:
    """One answer for each condition that is set. how_many: of the capabilities named must be held."""
    if caps := conditions.texts("caps"):
        yield how_many(bool(host.capabilities >> BITS[name] & 1) for name in _caps(conditions, caps))
    if arches := conditions.texts("arches"):
        yield _GO_NAME[host.machine] in arches
    if "minKernel" in conditions.values:
        version = re.fullmatch(r"(\d+)\.(\d+)", conditions.text("minKernel"))
        if version is None:
            raise conditions.wrong("minKernel", 'is not like "5.10"')
        yield host.kernel >= (int(version[1]), int(version[2]))


def _caps(conditions: _Object, caps: list[str]) -> Iterator[str]:
    for name in caps:
        plain = name.removeprefix("CAP_")
        if plain not in BITS:
            raise conditions.wrong("caps", f"has {name}, which is no capability")
        yield plain
