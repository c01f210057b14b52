"""The environment of a container, made as the kubelet makes it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from podd.core import sources as elsewhere
from podd.core.sources import NOTHING, Sources
from podd.errors import Invalid, NotFound
from podd.model.objects import ConfigMap, Kind, Object
from podd.model.pod import ConfigMapKeySelector, Container, EnvFromSource, EnvVarSource, Pod, SecretKeySelector


def environment(pod: Pod, container: Container, sources: Sources = NOTHING) -> dict[str, str]:
    """Names to values, in order; of two with one name the later counts.

    First all of envFrom, then env, whose values may refer to what stands before them. What comes from elsewhere is
    taken as it is: nothing in it is expanded.
    Raises NotFound: what must be there is not; Invalid: it cannot be a variable's value.
    """
    env: dict[str, str] = {}
    for source in container.env_from:
        env |= _all_of(source, sources)
    for variable in container.env:
        if variable.value_from is None:
            env[variable.name] = expand(variable.value, env)
            continue
        value = _value(pod, container, variable.value_from, sources)
        if value is not None:
            env[variable.name] = value
    return env


def _all_of(source: EnvFromSource, sources: Sources) -> dict[str, str]:
    """Every key is the name of a variable: the kernel takes them all, and so does Kubernetes."""
    one: Object | None = None
    if source.config_map_ref is not None:
        one = elsewhere.find(sources, "ConfigMap", source.config_map_ref.name, optional=source.config_map_ref.optional)
    elif source.secret_ref is not None:
        one = elsewhere.find(sources, "Secret", source.secret_ref.name, optional=source.secret_ref.optional)
    return {} if one is None else {f"{source.prefix}{key}": _text(one, key) for key in one.data}


def _value(pod: Pod, container: Container, source: EnvVarSource, sources: Sources) -> str | None:
    """None: it is not there, and need not be."""
    if source.field_ref is not None:
        return elsewhere.field(pod, source.field_ref, sources)
    if source.resource_field_ref is not None:
        return elsewhere.resource(pod, container, source.resource_field_ref, sources)
    if source.config_map_key_ref is not None:
        return _keyed("ConfigMap", source.config_map_key_ref, sources)
    assert source.secret_key_ref is not None, "the manifest was checked: a value has one source"
    return _keyed("Secret", source.secret_key_ref, sources)


def _keyed(kind: Kind, ref: ConfigMapKeySelector | SecretKeySelector, sources: Sources) -> str | None:
    one = elsewhere.find(sources, kind, ref.name, optional=ref.optional)
    if one is not None and ref.key in one.data:
        return _text(one, ref.key)
    if ref.optional:
        return None
    assert one is not None
    raise NotFound(f"couldn't find key {ref.key} in {kind} {one.metadata.namespace}/{ref.name}")


def _text(one: Object, key: str) -> str:
    """Of `data`: binaryData is for files. Raises Invalid."""
    if isinstance(one, ConfigMap):
        return one.data[key]
    try:
        text = one.contents()[key].decode()
    except UnicodeDecodeError:
        raise Invalid(f"key {key} in Secret {one.metadata.namespace}/{one.metadata.name} is not text") from None
    if "\0" in text:
        raise Invalid(f"key {key} in Secret {one.metadata.namespace}/{one.metadata.name} holds a NUL character")
    return text


_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, env: Mapping[str, str]) -> str:
    """$(NAME) becomes the value of NAME, $$ becomes $; a name that env has not, and any other $, stay as they are."""
    return _REFERENCE.sub(lambda found: "$" if found[1] is None else env.get(found[1], found[0]), text)


def expand_whole(text: str, env: Mapping[str, str]) -> str:
    """As `expand`. Raises NotFound: env has not one of the names."""
    missing = next((name for name in _REFERENCE.findall(text) if name and name not in env), None)
    if missing is not None:
        raise NotFound(f'missing value for "{missing}"', remedy="declare the variable in env of this container")
    return expand(text, env)
