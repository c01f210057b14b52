"""What a container's environment must be: names, and references to values elsewhere."""

from __future__ import annotations

from podd.model import downward, shapes
from podd.model.pod import Container, EnvFromSource, EnvVar, PodSpec
from podd.model.problem import Path, Rules

KEY_TEXT = 'letters, digits, "-", "_" and ".", at most 253, and not beginning with ".."'


def check(rules: Rules, at: Path, container: Container, spec: PodSpec) -> None:
    """at: of the container."""
    for number, variable in enumerate(container.env):
        _variable(rules, (*at, "env", number), variable, spec)
    for number, source in enumerate(container.env_from):
        _from(rules, (*at, "envFrom", number), source)


def _variable(rules: Rules, at: Path, variable: EnvVar, spec: PodSpec) -> None:
    if not shapes.ENV_NAME.fullmatch(variable.name):
        rules.error((*at, "name"), f'"{variable.name}" is not the name of a variable', shapes.ENV_NAME_TEXT)
    source = variable.value_from
    if source is None:
        return
    path = (*at, "valueFrom")
    if variable.value:
        rules.error(path, "excludes value", "keep one")
    given = (source.field_ref, source.resource_field_ref, source.config_map_key_ref, source.secret_key_ref)
    if sum(each is not None for each in given) != 1:
        rules.error(path, "has exactly one of fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef")
    if source.field_ref is not None:
        downward.check_field(rules, (*path, "fieldRef"), source.field_ref, downward.ENV_FIELDS)
    if source.resource_field_ref is not None:
        downward.check_resource(rules, (*path, "resourceFieldRef"), source.resource_field_ref, spec, named=False)
    for name, ref in (("configMapKeyRef", source.config_map_key_ref), ("secretKeyRef", source.secret_key_ref)):
        if ref is not None:
            shapes.subdomain(rules, (*path, name, "name"), ref.name)
            key(rules, (*path, name, "key"), ref.key)


def _from(rules: Rules, at: Path, source: EnvFromSource) -> None:
    if source.prefix and not shapes.ENV_NAME.fullmatch(source.prefix):
        message = f'"{source.prefix}" cannot begin the name of a variable'
        rules.error((*at, "prefix"), message, shapes.ENV_NAME_TEXT)
    if (source.config_map_ref is None) == (source.secret_ref is None):
        rules.error(at, "has exactly one of configMapRef and secretRef")
    for name, ref in (("configMapRef", source.config_map_ref), ("secretRef", source.secret_ref)):
        if ref is not None:
            shapes.subdomain(rules, (*at, name, "name"), ref.name)


def key(rules: Rules, at: Path, name: str) -> None:
    """Of a ConfigMap or Secret."""
    if not shapes.is_key(name):
        rules.error(at, f'"{name}" is not a key of a ConfigMap or Secret', KEY_TEXT)
