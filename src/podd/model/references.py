"""Which ConfigMaps and Secrets a pod takes values and files from, and where its manifest says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from podd.model.objects import Kind
from podd.model.pod import (
    ConfigMapProjection,
    ConfigMapVolumeSource,
    Container,
    EnvVarSource,
    KeyToPath,
    Pod,
    SecretProjection,
    Volume,
)
from podd.model.problem import Path
from podd.model.value import Value

_CONFIG_MAP: Kind = "ConfigMap"
_SECRET: Kind = "Secret"  # noqa: S105  a kind, not one of its kind


class Reference(Value):
    """path: of the name in the pod; of the key where there is one."""

    kind: Kind
    name: str
    path: Path
    key: str = ""  # "": all of it
    optional: bool = False


def of(pod: Pod) -> Iterator[Reference]:
    for kind, members in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers)):
        for number, container in enumerate(members):
            yield from of_container(container, ("spec", kind, number))
    for number, volume in enumerate(pod.spec.volumes):
        yield from of_volume(volume, ("spec", "volumes", number))


def of_container(container: Container, at: Path) -> Iterator[Reference]:
    for number, variable in enumerate(container.env):
        source, path = variable.value_from or EnvVarSource(), (*at, "env", number, "valueFrom")
        for kind, field, one in (
            (_CONFIG_MAP, "configMapKeyRef", source.config_map_key_ref),
            (_SECRET, "secretKeyRef", source.secret_key_ref),
        ):
            if one is not None:
                yield from _keyed(kind, one.name, one.optional, [((), one.key)], (*path, field))
    for number, each in enumerate(container.env_from):
        for kind, field, all_of in (
            (_CONFIG_MAP, "configMapRef", each.config_map_ref),
            (_SECRET, "secretRef", each.secret_ref),
        ):
            if all_of is not None:
                yield from _keyed(kind, all_of.name, all_of.optional, [], (*at, "envFrom", number, field))


def of_volume(volume: Volume, at: Path) -> Iterator[Reference]:
    if volume.config_map is not None:
        yield from _projected(_CONFIG_MAP, volume.config_map, (*at, "configMap"))
    if volume.secret is not None:
        secret = volume.secret
        keys = _items(secret.items)
        yield from _keyed(_SECRET, secret.secret_name, secret.optional, keys, (*at, "secret"), "secretName")
    for number, source in enumerate(volume.projected.sources if volume.projected else ()):
        path = (*at, "projected", "sources", number)
        if source.config_map is not None:
            yield from _projected(_CONFIG_MAP, source.config_map, (*path, "configMap"))
        if source.secret is not None:
            yield from _projected(_SECRET, source.secret, (*path, "secret"))


def _projected(
    kind: Kind, source: ConfigMapVolumeSource | ConfigMapProjection | SecretProjection, at: Path
) -> Iterator[Reference]:
    return _keyed(kind, source.name, source.optional, _items(source.items), at)


def _items(items: Sequence[KeyToPath]) -> list[tuple[Path, str]]:
    return [(("items", number), item.key) for number, item in enumerate(items)]


def _keyed(
    kind: Kind, name: str, optional: bool, keys: Sequence[tuple[Path, str]], at: Path, field: str = "name"
) -> Iterator[Reference]:
    """The object, then each key of it. field: in which its name stands."""
    yield Reference(kind=kind, name=name, path=(*at, field), optional=optional)
    for below, key in keys:
        yield Reference(kind=kind, name=name, path=(*at, *below, "key"), key=key, optional=optional)
