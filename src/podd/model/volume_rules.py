"""What volumes and their mounts must be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from podd.model import downward, shapes
from podd.model.env_rules import key as check_key
from podd.model.pod import (
    Container,
    DownwardAPIVolumeFile,
    EmptyDirVolumeSource,
    KeyToPath,
    PodSpec,
    ProjectedVolumeSource,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from podd.model.problem import Path, Rules

SOURCES = ("emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected")

_Places = Iterator[tuple[Path, str]]
"""Where a file's path is given, and the path."""


def check(rules: Rules, spec: PodSpec) -> None:
    """The volumes of a pod."""
    at: Path = ("spec", "volumes")
    for number, volume in enumerate(spec.volumes):
        _volume(rules, (*at, number), volume, spec)
    names = (((*at, number, "name"), volume.name) for number, volume in enumerate(spec.volumes))
    shapes.unique(rules, names, "volume names are unique")


def _volume(rules: Rules, at: Path, volume: Volume, spec: PodSpec) -> None:
    shapes.label(rules, (*at, "name"), volume.name)
    sources = (volume.empty_dir, volume.host_path, volume.config_map, volume.secret, volume.downward_api)
    if sum(source is not None for source in (*sources, volume.projected)) != 1:
        rules.error(at, "a volume has exactly one source", f"one of {', '.join(SOURCES)}")
    if volume.host_path is not None:
        shapes.absolute(rules, (*at, "hostPath", "path"), volume.host_path.path)
    if volume.empty_dir is not None and volume.empty_dir.size_limit is not None:
        _size_limit(rules, (*at, "emptyDir", "sizeLimit"), volume.empty_dir)
    if volume.config_map is not None:
        _object(rules, (*at, "configMap"), "name", volume.config_map.name, volume.config_map.items)
        _mode(rules, (*at, "configMap", "defaultMode"), volume.config_map.default_mode)
    if volume.secret is not None:
        _object(rules, (*at, "secret"), "secretName", volume.secret.secret_name, volume.secret.items)
        _mode(rules, (*at, "secret", "defaultMode"), volume.secret.default_mode)
    if volume.downward_api is not None:
        _files(rules, (*at, "downwardAPI"), volume.downward_api.items, spec)
        _mode(rules, (*at, "downwardAPI", "defaultMode"), volume.downward_api.default_mode)
    if volume.projected is not None:
        _projected(rules, (*at, "projected"), volume.projected, spec)
    _distinct(rules, _paths(at, volume))


def _size_limit(rules: Rules, at: Path, volume: EmptyDirVolumeSource) -> None:
    shapes.amount(rules, at, volume.size_limit or "0")


def _projected(rules: Rules, at: Path, volume: ProjectedVolumeSource, spec: PodSpec) -> None:
    _mode(rules, (*at, "defaultMode"), volume.default_mode)
    for number, source in enumerate(volume.sources):
        path = (*at, "sources", number)
        if sum(each is not None for each in (source.config_map, source.secret, source.downward_api)) != 1:
            rules.error(path, "has exactly one of configMap, secret and downwardAPI")
        if source.config_map is not None:
            _object(rules, (*path, "configMap"), "name", source.config_map.name, source.config_map.items)
        if source.secret is not None:
            _object(rules, (*path, "secret"), "name", source.secret.name, source.secret.items)
        if source.downward_api is not None:
            _files(rules, (*path, "downwardAPI"), source.downward_api.items, spec)


def _object(rules: Rules, at: Path, field: str, name: str, items: Sequence[KeyToPath]) -> None:
    """A reference to a ConfigMap or Secret."""
    shapes.subdomain(rules, (*at, field), name)
    for number, item in enumerate(items):
        path = (*at, "items", number)
        check_key(rules, (*path, "key"), item.key)
        _file_path(rules, (*path, "path"), item.path)
        _mode(rules, (*path, "mode"), item.mode)


def _files(rules: Rules, at: Path, items: Sequence[DownwardAPIVolumeFile], spec: PodSpec) -> None:
    for number, item in enumerate(items):
        path = (*at, "items", number)
        _file_path(rules, (*path, "path"), item.path)
        _mode(rules, (*path, "mode"), item.mode)
        if (item.field_ref is None) == (item.resource_field_ref is None):
            rules.error(path, "has exactly one of fieldRef and resourceFieldRef")
        if item.field_ref is not None:
            downward.check_field(rules, (*path, "fieldRef"), item.field_ref, downward.FILE_FIELDS)
        if item.resource_field_ref is not None:
            downward.check_resource(rules, (*path, "resourceFieldRef"), item.resource_field_ref, spec, named=True)


def _file_path(rules: Rules, at: Path, path: str) -> None:
    if shapes.relative(rules, at, path) and path.startswith(".."):
        rules.error(at, 'must not begin with "..": such names are kept for the files that podd swaps')


def _mode(rules: Rules, at: Path, mode: int | None) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        rules.error(at, f"{mode} is not between 0 and 511 (octal 777)", "in octal with a zero first, as 0644")


# ---- no two files at one place ---------------------------------------------------------------------------------------


def _paths(at: Path, volume: Volume) -> _Places:
    """Of every file whose path is given. Where no items are, the keys are, and a later one takes an earlier's place."""
    for name, source in (
        ("configMap", volume.config_map),
        ("secret", volume.secret),
        ("downwardAPI", volume.downward_api),
    ):
        if source is not None:
            yield from _items((*at, name), source.items)
    for number, projection in enumerate(volume.projected.sources if volume.projected else ()):
        yield from _projection((*at, "projected", "sources", number), projection)


def _projection(at: Path, source: VolumeProjection) -> _Places:
    for name, each in (
        ("configMap", source.config_map),
        ("secret", source.secret),
        ("downwardAPI", source.downward_api),
    ):
        if each is not None:
            yield from _items((*at, name), each.items)


def _items(at: Path, items: Sequence[KeyToPath | DownwardAPIVolumeFile]) -> _Places:
    for number, item in enumerate(items):
        yield (*at, "items", number, "path"), item.path


def _distinct(rules: Rules, places: _Places) -> None:
    files: dict[tuple[str, ...], str] = {}
    for at, path in places:
        parts = parts_of(path)
        if not parts or ".." in parts or path.startswith("/"):
            continue  # told already
        if parts in files:
            rules.error(at, f'"{path}" is given twice: a volume has one file of a name')
            continue
        for taken, name in files.items():
            if taken[: len(parts)] == parts[: len(taken)]:
                rules.error(at, f'"{path}" and "{name}": one is a directory where the other is a file')
        files[parts] = path


def parts_of(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part not in ("", "."))


# ---- mounts ----------------------------------------------------------------------------------------------------------


def mounts(rules: Rules, at: Path, container: Container, spec: PodSpec) -> None:
    """at: of the container."""
    volumes = {volume.name for volume in spec.volumes}
    taken: set[tuple[str, ...]] = set()
    for number, mount in enumerate(container.volume_mounts):
        path = (*at, "volumeMounts", number)
        if mount.name not in volumes:
            known = ", ".join(sorted(volumes)) or "there are none"
            message, remedy = f'there is no volume "{mount.name}"', f"volumes of this pod: {known}"
            rules.error((*path, "name"), message, remedy, rests_on=("spec", "volumes"))
        _mount_path(rules, (*path, "mountPath"), mount.mount_path, taken)
        _sub_path(rules, path, mount)
        _propagation(rules, path, mount, privileged=bool(container.security_context.privileged))


def _mount_path(rules: Rules, at: Path, mount_path: str, taken: set[tuple[str, ...]]) -> None:
    if not shapes.absolute(rules, at, mount_path):
        return
    parts = parts_of(mount_path)
    if ":" in mount_path:
        rules.error(at, 'must not contain ":"')
    elif not parts:
        rules.error(at, "is the root of the container: a volume goes below it")
    elif parts[0] == "proc":
        rules.error(at, "is in the container's own /proc, which podd keeps")
    elif parts in taken:
        rules.error(at, f'"{mount_path}" is given twice: mount paths are unique in a container')
    taken.add(parts)


def _sub_path(rules: Rules, at: Path, mount: VolumeMount) -> None:
    if mount.sub_path and mount.sub_path_expr:
        rules.error((*at, "subPathExpr"), "excludes subPath", "keep one")
    if mount.sub_path:
        shapes.relative(rules, (*at, "subPath"), mount.sub_path)
    if mount.sub_path_expr:
        shapes.relative(rules, (*at, "subPathExpr"), mount.sub_path_expr)


def _propagation(rules: Rules, at: Path, mount: VolumeMount, *, privileged: bool) -> None:
    if mount.mount_propagation == "Bidirectional" and not privileged:
        remedy = "set securityContext.privileged, or use HostToContainer"
        rules.error((*at, "mountPropagation"), "Bidirectional is for privileged containers alone", remedy)
    if mount.recursive_read_only in (None, "Disabled"):
        return
    path = (*at, "recursiveReadOnly")
    if not mount.read_only:
        rules.error(path, "needs readOnly: true")
    elif mount.mount_propagation not in (None, "None"):
        rules.error(path, f"excludes mountPropagation {mount.mount_propagation}: what comes later could be written")
