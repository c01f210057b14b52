"""What a container can be told of its own pod: the fields and resources that a fieldRef or resourceFieldRef may name.

Source: the Kubernetes documentation on the downward API.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from podd.model.pod import Container, ObjectFieldSelector, PodSpec, ResourceFieldSelector
from podd.model.problem import Path, Rules
from podd.model.shapes import qualified_name

ENV_FIELDS = (
    *("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName"),
    *("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"),
)
FILE_FIELDS = ("metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations")
_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['(.*)'\]", re.DOTALL)

DIVISORS = {
    "cpu": ("1", "1m"),
    "memory": ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"),
}
DIVISORS["ephemeral-storage"] = DIVISORS["memory"]
_RESOURCE = re.compile(r"(limits|requests)\.(.+)", re.DOTALL)


def subscript(field_path: str) -> tuple[str, str] | None:
    """("metadata.labels", key) of metadata.labels['key']; None: it is no such path."""
    found = _SUBSCRIPT.fullmatch(field_path)
    return (found[1], found[2]) if found else None


def resource(selector: ResourceFieldSelector) -> tuple[str, str]:
    """("limits", "cpu") of limits.cpu; ("", ...) where it is none such."""
    found = _RESOURCE.fullmatch(selector.resource)
    return (found[1], found[2]) if found else ("", selector.resource)


def check_field(rules: Rules, at: Path, selector: ObjectFieldSelector, known: Sequence[str]) -> None:
    """known: those without a subscript, of variables or of files."""
    if selector.api_version != "v1":
        rules.error((*at, "apiVersion"), f'"{selector.api_version}" is not v1')
    path = (*at, "fieldPath")
    keyed = subscript(selector.field_path)
    if keyed is not None:
        qualified_name(rules, path, keyed[1].lower() if keyed[0] == "metadata.annotations" else keyed[1])
    elif selector.field_path not in known:
        rules.error(path, f'"{selector.field_path}" cannot be told', f"one of {_listed(known)}")


def _listed(known: Sequence[str]) -> str:
    return ", ".join((*known, "metadata.labels['KEY']", "metadata.annotations['KEY']"))


def check_resource(rules: Rules, at: Path, selector: ResourceFieldSelector, spec: PodSpec, *, named: bool) -> None:
    """named: the container must be, because a file belongs to none."""
    kind, name = resource(selector)
    if not kind or name not in DIVISORS:
        known = ", ".join(f"{side}.{each}" for side in ("limits", "requests") for each in DIVISORS)
        rules.error((*at, "resource"), f'"{selector.resource}" cannot be told', f"one of {known}")
    elif selector.divisor not in ("0", *DIVISORS[name]):
        message = f"{selector.divisor} is no divisor of {name}"
        rules.error((*at, "divisor"), message, f"one of {', '.join(DIVISORS[name])}")
    if named and not selector.container_name:
        rules.error((*at, "containerName"), "required")
    elif selector.container_name and container(spec, selector.container_name) is None:
        rules.error((*at, "containerName"), f'there is no container "{selector.container_name}"')


def container(spec: PodSpec, name: str) -> Container | None:
    return next((each for each in (*spec.init_containers, *spec.containers) if each.name == name), None)
