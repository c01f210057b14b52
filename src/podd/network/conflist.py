"""What a network configuration says. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from podd.errors import Invalid
from podd.model.value import Value

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Of the specification, that podd speaks."""

MAX_BYTES = 1024 * 1024
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)


class Plugin(Value):
    """One of a chain. type: the name of its program. conf: all that the configuration says of it, as it stands."""

    type: str
    conf: Mapping[str, Any]

    def can(self, capability: str) -> bool:
        """Whether it is to be told about this: "portMappings", "bandwidth"."""
        declared = self.conf.get("capabilities")
        return isinstance(declared, dict) and declared.get(capability) is True


class Network(Value):
    """A network and the chain of plugins that connect a pod with it, in order."""

    name: str
    version: str
    plugins: Sequence[Plugin]
    disable_check: bool = False
    disable_gc: bool = False

    def can(self, capability: str) -> bool:
        return any(plugin.can(capability) for plugin in self.plugins)

    def speaks(self, version: str) -> bool:
        """Whether the configuration is of that version or a later one."""
        return VERSIONS.index(self.version) >= VERSIONS.index(version)

    def document(self) -> dict[str, Any]:
        """As a configuration that is complete in itself."""
        return {
            "name": self.name,
            "cniVersion": self.version,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "loadOnlyInlinedPlugins": True,
            "plugins": [dict(plugin.conf) for plugin in self.plugins],
        }


def parse(text: bytes, more: Sequence[Mapping[str, Any]] = ()) -> Network:
    """Of a *.conflist. more: plugins from files of their own, which come after those of the list.

    Raises Invalid: it makes no sense; the message names no file.
    """
    document = read_object(text)
    name = document.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Invalid(f"name: {name!r} is not the name of a network", remedy="use letters, digits, _ . and -")
    listed = document.get("plugins", [])
    if not isinstance(listed, list):
        raise Invalid("plugins: is no list")
    if not listed and not more:
        raise Invalid("plugins: there are none")
    return Network(
        name=name,
        version=_version(document),
        plugins=[plugin(conf) for conf in (*listed, *more)],
        disable_check=_flag(document, "disableCheck"),
        disable_gc=_flag(document, "disableGC"),
    )


def parse_single(text: bytes) -> Network:
    """Of a *.conf or *.json: one plugin, which names the network, or a list all the same. Raises as `parse`."""
    document = read_object(text)
    if "plugins" in document:
        return parse(text)
    head = {key: document[key] for key in ("name", "cniVersion") if key in document}
    return parse(json.dumps({**head, "plugins": [document]}).encode())


def name_of(text: bytes) -> str:
    """Of the folder beside a *.conflist in which more of its plugins are; "" where they are none of its own."""
    document = read_object(text)
    name = document.get("name")
    takes_more = isinstance(name, str) and _NAME.fullmatch(name) and not _flag(document, "loadOnlyInlinedPlugins")
    return str(name) if takes_more else ""


def plugin(conf: object) -> Plugin:
    """Raises Invalid."""
    if not isinstance(conf, dict):
        raise Invalid("plugins: one is no object")
    kind = conf.get("type")
    # A type is the name of a program in bin_dirs, and must not lead out of them.
    if not isinstance(kind, str) or not _NAME.fullmatch(kind):
        raise Invalid(f"plugins: type: {kind!r} is not the name of a plugin")
    return Plugin(type=kind, conf=conf)


def read_object(text: bytes) -> dict[str, Any]:
    """Raises Invalid: it is no JSON object."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise Invalid(f"is not JSON: {str(exc)[:1].lower()}{str(exc)[1:]}") from exc
    if not isinstance(document, dict):
        raise Invalid("is no JSON object")
    return document


def _version(document: Mapping[str, Any]) -> str:
    """The latest that both sides speak: a configuration may name several."""
    named = document.get("cniVersions", [])
    if not isinstance(named, list):
        raise Invalid("cniVersions: is no list")
    if "cniVersion" in document:
        named = [*named, document["cniVersion"]]
    if not named:
        raise Invalid("cniVersion: is missing", remedy=f"use one of {', '.join(VERSIONS)}")
    spoken = [version for version in VERSIONS if version in named]
    if not spoken:
        raise Invalid(
            f"cniVersion: {', '.join(map(str, named))} is not spoken here", remedy=f"use one of {', '.join(VERSIONS)}"
        )
    return spoken[-1]


def _flag(document: Mapping[str, Any], key: str) -> bool:
    """Older configurations write "true" for true."""
    value = document.get(key, False)
    text = value.lower() if isinstance(value, str) else value
    if text in (True, "true"):
        return True
    if text in (False, "false"):
        return False
    raise Invalid(f"{key}: {value!r} is neither true nor false")
