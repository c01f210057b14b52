"""What a pod takes from elsewhere: from ConfigMaps, Secrets, its own fields, the host. Pure, over plain values.

What is missing is said in the kubelet's words, for people look them up. No message shows what a Secret holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil

from podd.errors import NotFound
from podd.model import downward, totals
from podd.model.objects import ConfigMap, Kind, Object, Secret
from podd.model.pod import Container, ObjectFieldSelector, Pod, ResourceFieldSelector
from podd.model.quantity import parse
from podd.model.value import Value


class Sources(Value):
    """As they are at this moment, for one pod."""

    config_maps: Mapping[str, ConfigMap] = {}  # of the pod's namespace, by name
    secrets: Mapping[str, Secret] = {}
    node_name: str = ""
    host_ips: tuple[str, ...] = ()
    pod_ips: tuple[str, ...] = ()  # none before its sandbox is made
    cpus: int = 1  # the host's, as are the following
    memory_bytes: int = 0
    storage_bytes: int = 0  # of the file system that writable layers and emptyDirs lie on


NOTHING = Sources()


def find(sources: Sources, kind: Kind, name: str, *, optional: bool) -> Object | None:
    """None: there is none, and it need not be. Raises NotFound."""
    found = (sources.config_maps if kind == "ConfigMap" else sources.secrets).get(name)
    if found is None and not optional:
        raise NotFound(
            f'{kind.lower()} "{name}" not found',
            remedy=f"podd-cli create {kind.lower()}{' generic' if kind == 'Secret' else ''} {name}",
        )
    return found


# ---- the pod itself --------------------------------------------------------------------------------------------------


def field(pod: Pod, selector: ObjectFieldSelector, sources: Sources) -> str:
    """What a fieldRef names; a label that is not there is "", and so is an address that the pod does not have."""
    meta = pod.metadata
    maps = {"metadata.labels": meta.labels, "metadata.annotations": meta.annotations}
    keyed = downward.subscript(selector.field_path)
    if keyed is not None:
        return maps[keyed[0]].get(keyed[1], "")
    if selector.field_path in maps:
        return "\n".join(f"{key}={quoted(value)}" for key, value in sorted(maps[selector.field_path].items()))
    pod_ips = sources.host_ips if pod.spec.host_network else sources.pod_ips
    return {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": sources.node_name,
        "spec.serviceAccountName": "default",
        "status.hostIP": ",".join(sources.host_ips[:1]),
        "status.hostIPs": ",".join(sources.host_ips),
        "status.podIP": ",".join(pod_ips[:1]),
        "status.podIPs": ",".join(pod_ips),
    }[selector.field_path]


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_ESCAPES |= {"\\": "\\\\", '"': '\\"'}


def quoted(text: str) -> str:
    """As the kubelet writes the values of labels and annotations: the quotes and escapes of Go (%q)."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def resource(pod: Pod, own: Container, selector: ResourceFieldSelector, sources: Sources) -> str:
    """What a resourceFieldRef names, in whole divisors, rounded up. own: the container that asks where none is named.

    A container without a limit may use what the pod may, and where that has none either, what the host has.
    """
    side, name = downward.resource(selector)
    named = downward.container(pod.spec, selector.container_name) if selector.container_name else own
    assert named is not None, "the manifest was checked: the container is there"
    if side == "requests":
        amount = totals.requests(named.resources).get(name, Fraction(0))
    else:
        own_limit, pod_limit = (totals.limits(each.resources).get(name) for each in (named, pod.spec))
        amount = own_limit or pod_limit or _of_host(name, sources)
    return str(ceil(amount / (parse(selector.divisor) or 1)))


def _of_host(name: str, sources: Sources) -> Fraction:
    amounts = {"cpu": sources.cpus, "memory": sources.memory_bytes, "ephemeral-storage": sources.storage_bytes}
    return Fraction(amounts[name])
