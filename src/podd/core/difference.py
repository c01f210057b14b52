"""What a changed manifest asks for: which fields differ from the pod that is there, and the least that must be done.

Two ways to write the same are no difference: a field that is left out and its default, a limit and the request that
follows from it, 1 and 1000m of cpu. A list of named objects is compared by name, so that one container more is one
difference and not as many as come after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Literal

import msgspec
from msgspec.structs import fields

from podd.core import network, resources
from podd.model import pod as k8s
from podd.model.annotations import says_how_it_is_run
from podd.model.pod import Container, Pod, ResourceRequirements, Struct
from podd.model.problem import Path, dotted
from podd.model.quantity import parse
from podd.model.value import Value

Means = Literal["metadata", "contents", "publish", "resize", "recreate"]
Verdict = Literal["unchanged", "amended", "published", "resized", "recreated"]


class Change(Value):
    """A field that differs. old, new: plain values as the manifest writes them; None where it is not there.

    means: metadata is taken as it is, as are the contents of a ConfigMap or Secret; publish leads other ports of the
    host to what runs, resize changes its limits; recreate needs another pod.
    note: what is particular about it.
    """

    path: str
    old: object
    new: object
    means: Means
    note: str = ""


def verdict(changes: Iterable[Change]) -> Verdict:
    """The least that brings all of them about."""
    asked = {change.means for change in changes}
    if "recreate" in asked:
        return "recreated"
    if "resize" in asked:
        return "resized"
    if "publish" in asked:
        return "published"
    return "amended" if asked else "unchanged"


def differences(
    old: Pod, new: Pod, *, same_driver: bool = True, can_resize: bool = True, can_publish: bool = True
) -> tuple[Change, ...]:
    """In the order of the fields of a Pod.

    same_driver: the one that runs `old` is the one that `new` asks for. can_resize: it can change limits of what runs,
    can_publish: the ports of the host that lead there.
    """
    after = resources.qos_class(new.spec)
    before = resources.qos_class(old.spec)
    fixed = "" if before == after else f"makes the pod {after}, which is {before}"
    if not can_resize:
        fixed = "the driver cannot change limits of what runs"
    ports: Means = "publish" if can_publish else "recreate"
    if network.port_mappings(old) == network.port_mappings(new):
        ports = "metadata"
    return tuple(
        _change(path, was, will, new, fixed, ports)
        for path, was, will in _compared(_asked(old), _asked(new), ())
        if path != _DRIVER or not same_driver
    )


_DRIVER: Path = ("spec", "runtimeClassName")


def amended(there: Pod, asked: Pod) -> Pod:
    """The pod that is there with all that a running one can take of what is asked: nothing else of it changes."""
    meta = msgspec.structs.replace(there.metadata, labels=asked.metadata.labels, annotations=asked.metadata.annotations)
    spec = msgspec.structs.replace(
        there.spec,
        resources=asked.spec.resources,
        containers=_changed_in_place(there.spec.containers, asked.spec.containers),
        init_containers=_changed_in_place(there.spec.init_containers, asked.spec.init_containers),
    )
    return msgspec.structs.replace(there, metadata=meta, spec=spec)


def _changed_in_place(there: Sequence[Container], asked: Sequence[Container]) -> tuple[Container, ...]:
    wanted = {member.name: member for member in asked}
    return tuple(
        msgspec.structs.replace(member, resources=wanted[member.name].resources, ports=wanted[member.name].ports)
        for member in there
    )


def _asked(pod: Pod) -> Pod:
    """Without what podd has set itself."""
    meta = msgspec.structs.replace(pod.metadata, uid="", creation_timestamp=None)
    return msgspec.structs.replace(pod, metadata=meta)


# ---- what a difference means -----------------------------------------------------------------------------------------


def _change(path: Path, old: object, asked: object, new: Pod, fixed: str, ports: Means) -> Change:
    """fixed: why no limit can change while the pod runs; "": it can. ports: what any change of a port means."""
    means, note = _meaning(path, new, fixed, ports)
    if means == "resize" and not note:
        note = _less_memory(path, old, asked)
    return Change(path=dotted(path), old=_plain(old), new=_plain(asked), means=means, note=note)


def _plain(value: object) -> object:
    return None if value == () else msgspec.to_builtins(value)


def _meaning(path: Path, new: Pod, fixed: str, ports: Means) -> tuple[Means, str]:
    match path:
        case ("metadata", "labels", *_):
            return "metadata", ""
        case ("metadata", "annotations", str() as key):
            return ("recreate", "") if says_how_it_is_run(key) else ("metadata", "")
        case ("spec", "resources", _, "cpu" | "memory"):
            return ("recreate", fixed) if fixed else ("resize", "")
        case (
            "spec",
            "containers" | "initContainers" as kind,
            int() as number,
            "resources",
            _,
            "cpu" | "memory" as name,
        ):
            member = (new.spec.containers if kind == "containers" else new.spec.init_containers)[number]
            if kind == "initContainers" and member.restart_policy != "Always":
                return "recreate", "an init container has run with what it had"
            return ("recreate", fixed) if fixed else ("resize", _restarts(member, name))
        case ("spec", "containers" | "initContainers" as kind, int() as number, "ports", *rest):
            member = (new.spec.containers if kind == "containers" else new.spec.init_containers)[number]
            if rest[1:] not in (["hostPort"], ["hostIP"], ["protocol"]) and _uses_names_of_ports(member):
                return "recreate", "a probe or hook uses the name of a port"
            return ports, _PORTS.get(ports, "")
    return "recreate", ""


_PORTS: dict[Means, str] = {
    "publish": "in place: the pod runs on",
    "recreate": "the driver cannot lead other ports of the host to what runs",
}


def _uses_names_of_ports(member: Container) -> bool:
    """Whoever probes it has looked up their numbers when it started."""
    lifecycle = member.lifecycle or k8s.Lifecycle()
    probes = (member.liveness_probe, member.readiness_probe, member.startup_probe)
    for handler in (*probes, lifecycle.post_start, lifecycle.pre_stop):
        reached = handler and (handler.http_get or handler.tcp_socket)
        if reached and isinstance(reached.port, str):
            return True
    return False


def _restarts(member: Container, resource: str) -> str:
    asked = any(p.resource_name == resource and p.restart_policy == "RestartContainer" for p in member.resize_policy)
    return f"container {member.name} is restarted: its resizePolicy says so" if asked else ""


def _less_memory(path: Path, old: object, new: object) -> str:
    """Of a limit; the kernel refuses one below what is in use."""
    if path[-2:] != ("limits", "memory") or new is None:
        return ""
    less = old is None or parse(str(new)) < parse(str(old))
    return "less memory: refused where more is in use" if less else ""


# ---- finding them ----------------------------------------------------------------------------------------------------

Found = tuple[Path, object, object]


def _compared(old: object, new: object, path: Path) -> Iterator[Found]:
    if isinstance(old, Struct) and isinstance(new, Struct):
        yield from _structs(old, new, path)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _compared(old.get(key), new.get(key), (*path, key))
    elif isinstance(old, tuple) and isinstance(new, tuple) and _are_objects(old) and _are_objects(new):
        yield from _lists(old, new, path)
    elif old != new and not _same_amount(old, new, path):
        yield path, old, new


def _structs(old: Struct, new: Struct, path: Path) -> Iterator[Found]:
    if isinstance(old, Container) and isinstance(new, Container):
        old, new = _with_requests(old, new), _with_requests(new, old)
    for field in fields(type(old)):
        was, will = _value(old, field.name), _value(new, field.name)
        yield from _compared(was, will, (*path, field.encode_name))


def _lists(old: Sequence[Struct], new: Sequence[Struct], path: Path) -> Iterator[Found]:
    before, after = _keyed(old, new)
    kept = [key for key in before if key in after]
    order = [key for key in after if key in before]
    if kept != order:
        yield path, kept, order
    for key, (number, was) in before.items():
        if key not in after:
            yield (*path, number), was, None
    for key, (number, will) in after.items():
        yield from _compared(before[key][1] if key in before else None, will, (*path, number))


Keyed = dict[object, tuple[int, Struct]]


def _keyed(*lists: Sequence[Struct]) -> list[Keyed]:
    """By name where every one has a name of its own, else by place."""
    for attribute in ("name", "mount_path", "resource_name"):
        keyed = [{getattr(item, attribute, ""): (n, item) for n, item in enumerate(items)} for items in lists]
        if all(len(by_key) == len(items) and "" not in by_key for by_key, items in zip(keyed, lists, strict=True)):
            return keyed
    return [dict(enumerate(enumerate(items))) for items in lists]


def _are_objects(items: tuple[object, ...]) -> bool:
    return all(isinstance(item, Struct) for item in items)


def _same_amount(old: object, new: object, path: Path) -> bool:
    is_amount = path[-1] in ("sizeLimit", "divisor") or path[-2:-1] in (("limits",), ("requests",))
    return is_amount and None not in (old, new) and parse(str(old)) == parse(str(new))


# ---- two ways to write the same --------------------------------------------------------------------------------------

_DEFAULTS: dict[tuple[type[Struct], str], object] = {
    (k8s.PodSpec, "dns_config"): k8s.PodDNSConfig(),
    (k8s.PodSpec, "hostname_override"): "",
    (k8s.PodSpec, "set_hostname_as_fqdn"): False,
    (k8s.PodSpec, "os"): k8s.PodOS(name="linux"),
    (k8s.PodSecurityContext, "fs_group_change_policy"): "Always",
    (k8s.PodSecurityContext, "run_as_non_root"): False,
    (k8s.PodSecurityContext, "seccomp_profile"): k8s.SeccompProfile(type="RuntimeDefault"),
    (k8s.SecurityContext, "allow_privilege_escalation"): True,
    (k8s.SecurityContext, "capabilities"): k8s.Capabilities(),
    (k8s.SecurityContext, "privileged"): False,
    (k8s.SecurityContext, "proc_mount"): "Default",
    (k8s.SecurityContext, "read_only_root_filesystem"): False,
    (k8s.Container, "lifecycle"): k8s.Lifecycle(),
    (k8s.VolumeMount, "mount_propagation"): "None",
    (k8s.VolumeMount, "recursive_read_only"): "Disabled",
    (k8s.HTTPGetAction, "path"): "/",
    (k8s.HTTPGetAction, "scheme"): "HTTP",
    (k8s.ResourceFieldSelector, "divisor"): "1",
}
"""What a field that is left out means, where the field's own default does not say it."""


@cache
def _own_defaults(kind: type[Struct]) -> dict[str, object]:
    return {field.name: field.default for field in fields(kind)}


def _value(owner: Struct, name: str) -> object:
    """None: it is not there, or might as well not be."""
    kind = type(owner)
    value = getattr(owner, name)
    match owner, name:
        case Container(image=image), "image_pull_policy":
            value = None if value == pull_policy(image) else value
        case k8s.PodSpec(), "dns_policy":
            value = value if value == "None" else ""  # all others mean the host's
        case Container(), "resize_policy":
            value = tuple(policy for policy in value if policy.restart_policy != "NotRequired")
    if (kind, name) in _DEFAULTS and value == _DEFAULTS[kind, name]:
        value = _own_defaults(kind)[name]
    return None if value == "" else value


def _with_requests(one: Container, other: Container) -> Container:
    """What is not requested is what the limit says; told only where one of the two does request it."""
    own = one.resources
    known = {**own.limits, **own.requests}
    requests = {name: known[name] for name in {*own.requests, *other.resources.requests} if name in known}
    return msgspec.structs.replace(one, resources=ResourceRequirements(limits=own.limits, requests=requests))


def pull_policy(image: str) -> Literal["Always", "IfNotPresent"]:
    """Of an image whose manifest gives none."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return "Always" if not digest and tag in ("", "latest") else "IfNotPresent"
