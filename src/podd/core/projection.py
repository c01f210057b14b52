"""The files of configMap, secret, downwardAPI and projected volumes. Pure: what is in them, not where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podd.core import sources as elsewhere
from podd.core.sources import Sources
from podd.errors import Invalid, NotFound
from podd.model.objects import Kind
from podd.model.pod import DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection
from podd.model.value import Value
from podd.model.volume_rules import parts_of

GROUP_READS = 0o440
"""What fsGroup adds to the mode of every file, as the kubelet does for volumes that are read only."""


class File(Value):
    content: bytes
    mode: int

    def __repr__(self) -> str:
        """It may be a Secret's."""
        return f"File({len(self.content)} bytes, {self.mode:o})"


Files = Mapping[str, File]
"""By path below the volume, without "." and double slashes."""


def is_projected(volume: Volume) -> bool:
    """podd writes its files."""
    return volume.empty_dir is None and volume.host_path is None


def files(pod: Pod, volume: Volume, sources: Sources) -> Files:
    """What the volume holds now. Raises NotFound, Invalid, both beginning as the kubelet's message does."""
    try:
        found = _with_paths(_of_volume(pod, volume, sources))
    except (NotFound, Invalid) as exc:
        message = f'MountVolume.SetUp failed for volume "{volume.name}" : {exc.message}'
        raise type(exc)(message, remedy=exc.remedy) from None
    extra = 0 if pod.spec.security_context.fs_group is None else GROUP_READS
    return {path: File(content=file.content, mode=file.mode | extra) for path, file in found.items()}


def _of_volume(pod: Pod, volume: Volume, sources: Sources) -> dict[str, File]:
    if volume.config_map is not None:
        one = volume.config_map
        return _object("ConfigMap", one.name, one.items, one.default_mode, sources, optional=one.optional)
    if volume.secret is not None:
        secret = volume.secret
        mode = secret.default_mode
        return _object("Secret", secret.secret_name, secret.items, mode, sources, optional=secret.optional)
    if volume.downward_api is not None:
        return _told(pod, volume.downward_api.items, volume.downward_api.default_mode, sources)
    assert volume.projected is not None, "the manifest was checked: a volume has one source"
    found: dict[str, File] = {}
    for source in volume.projected.sources:
        found |= _projection(pod, source, volume.projected.default_mode, sources)
    return found


def _projection(pod: Pod, source: VolumeProjection, mode: int, sources: Sources) -> dict[str, File]:
    if source.config_map is not None:
        one = source.config_map
        return _object("ConfigMap", one.name, one.items, mode, sources, optional=one.optional)
    if source.secret is not None:
        secret = source.secret
        return _object("Secret", secret.name, secret.items, mode, sources, optional=secret.optional)
    assert source.downward_api is not None, "the manifest was checked: a projection has one source"
    return _told(pod, source.downward_api.items, mode, sources)


def _object(
    kind: Kind, name: str, items: Sequence[KeyToPath], mode: int, sources: Sources, *, optional: bool
) -> dict[str, File]:
    """Every key, or those of the items, each at its path."""
    one = elsewhere.find(sources, kind, name, optional=optional)
    contents = one.contents() if one is not None else {}
    if not items:
        return {key: File(content=content, mode=mode) for key, content in contents.items()}
    found = {}
    for item in items:
        if item.key in contents:
            item_mode = mode if item.mode is None else item.mode
            found["/".join(parts_of(item.path))] = File(content=contents[item.key], mode=item_mode)
        elif not optional:
            what = "config" if kind == "ConfigMap" else "secret"
            raise NotFound(f"references non-existent {what} key: {item.key}", remedy=f'it is {kind} "{name}"')
    return found


def _told(pod: Pod, items: Sequence[DownwardAPIVolumeFile], mode: int, sources: Sources) -> dict[str, File]:
    found = {}
    for item in items:
        if item.field_ref is not None:
            text = elsewhere.field(pod, item.field_ref, sources)
        else:
            assert item.resource_field_ref is not None, "the manifest was checked: a file has one source"
            text = elsewhere.resource(pod, pod.spec.containers[0], item.resource_field_ref, sources)
        item_mode = mode if item.mode is None else item.mode
        found["/".join(parts_of(item.path))] = File(content=text.encode(), mode=item_mode)
    return found


def _with_paths(found: dict[str, File]) -> dict[str, File]:
    """Raises Invalid: one is a directory where another is a file. (Paths were checked with the manifest, not keys.)"""
    for path in found:
        parts = path.split("/")
        above = next(("/".join(parts[:n]) for n in range(1, len(parts)) if "/".join(parts[:n]) in found), None)
        if above is not None:
            raise Invalid(f"{path} and {above}: one is a directory where the other is a file")
    return found
